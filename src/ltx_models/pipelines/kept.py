"""A run that goes on where it was killed: latents of each stage and decoded frames in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ltx_models.media import MediaError, as_float32, replacing
from ltx_models.pipelines.components import Components
from ltx_models.pipelines.request import Latents, Request
from ltx_models.sampling import Noise
from tilekit import InputError, Kept

SAMPLES, SAMPLE = 64, 1 << 16  # pieces of a file of weights that its digest is made of, and their bytes
_STAGE, _FRAMES = "{}.safetensors", "frames"


def fingerprint(value: Any) -> str:
    """
    Give the digest of what a run is asked for: of numbers, text, arrays and files alike.

    Parameters
    ----------
    value : object
        Values of Python, arrays, pictures, paths of files, and dataclasses, sequences and mappings of these.

    Returns
    -------
    str
        16 hexadecimal digits.

    Raises
    ------
    ValueError
        If it is something that another process would not have again, such as a function.

    Examples
    --------
    >>> fingerprint({"seed": 1}) == fingerprint({"seed": 1}), fingerprint(1) == fingerprint(1.0)
    (True, False)
    """
    digest = sha256()
    for part in _parts(value):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]


def _parts(value: Any) -> Iterator[bytes]:
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)} | {"": type(value).__name__}
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, Path):
        yield value.read_bytes() if value.is_file() else str(value).encode()
    elif hasattr(value, "shape") or hasattr(value, "convert"):
        array = np.asarray(value) if hasattr(value, "convert") else as_float32(value)
        yield f"{array.dtype.str} {array.shape}".encode()
        yield np.ascontiguousarray(array).tobytes()
    elif isinstance(value, list | tuple):
        yield f"{len(value)}".encode()
        for item in value:
            yield from _parts(item)
    elif value is None or isinstance(value, str | int | float | bool):
        yield repr(value).encode()
    else:
        msg = f"keep: got a {type(value).__qualname__}, which a run that goes on could not be given again; use a seed"
        raise ValueError(msg)


def weights_digest(path: Path) -> str:
    """
    Give the digest of files of weights that are too large to be read for it: their sizes, and samples of their bytes.

    Parameters
    ----------
    path : Path
        A file, or a folder of files.

    Returns
    -------
    str
        16 hexadecimal digits. Where they lie does not count.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path) if file != path else ''} {size}".encode())
        with file.open("rb") as opened:
            for place in range(0, size, max(1, size // SAMPLES)):
                opened.seek(place)
                digest.update(opened.read(SAMPLE))
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class KeptRun:
    """
    What a run has finished, on disk.

    Attributes
    ----------
    folder : Path
        Of this run alone.
    key : dict of str to str
        What the run depends on: its request, its networks, and how they are computed.
    """

    folder: Path
    key: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, components: Components, request: Request) -> KeptRun:
        """Make the key of a run; refuse a folder that holds something else."""
        names = ("request", "networks", "backend", "dtype", "device")
        values = (
            fingerprint(request),
            sha256(" ".join(map(weights_digest, components.files.paths)).encode()).hexdigest()[:16],
            components.backend_name,
            f"{components.dtype} {components.quantize} {components.text_quantize}",
            str(components.device or "cpu").partition(":")[0],
        )
        known = {"stage-1.safetensors", "latents.safetensors", _FRAMES}
        folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in known and path.suffix != ".part")
        if foreign:
            msg = f"keep: {folder} holds {foreign[0]!r}, which is none of a run's; give a folder of its own"
            raise MediaError(msg)
        return cls(folder, dict(zip(names, values, strict=True)))

    def latents(
        self, components: Components, name: str, make: Callable[[], Latents], draw: Noise | None = None
    ) -> Latents:
        """
        Give the latents of a stage: those that are kept, or what is made now and kept.

        Parameters
        ----------
        components : Components
            Whose arrays they are.
        name : str
            Of the stage.
        make : callable
            Makes them.
        draw : Noise, optional
            The source of noise that later stages go on with.

        Returns
        -------
        Latents
            In float32, as the stages give them.

        Raises
        ------
        InputError
            If those of another run are there.
        DiskError
            If the disk is full.
        """
        path = self.folder / _STAGE.format(name)
        if path.exists():
            arrays, state = self._read(path)
            if draw is not None:
                draw.state = state
            return Latents(**{key: components.array(values) for key, values in arrays.items()})
        made = make()
        streams = {field.name: getattr(made, field.name) for field in fields(made)}
        arrays = {key: np.ascontiguousarray(as_float32(x)) for key, x in streams.items() if x is not None}
        with replacing(path) as part:
            state = {} if draw is None else draw.state
            part.write_bytes(save(arrays, {"key": json.dumps(dict(self.key)), "noise": json.dumps(state)}))
        return made

    def _read(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            with safe_open(str(path), "numpy") as file:
                metadata = file.metadata() or {}
                key, state = (json.loads(metadata.get(name, "{}")) for name in ("key", "noise"))
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        except (OSError, SafetensorError, ValueError) as error:
            msg = f"{path}: cannot be read ({error}); remove it, and the run goes on before it"
            raise InputError(msg) from error
        differing = [name for name in self.key if key.get(name) != self.key[name]]
        if differing:
            msg = f"{path}: is of another run, with another {' and '.join(differing)}; give another folder"
            raise InputError(msg)
        return arrays, state

    def frames(self, plan: Any) -> Kept:
        """Give the decoded frames that are kept."""
        return Kept(self.folder / _FRAMES, {**self.key, "plan": str(plan)})
