"""One conversion, from the checks to the folder in its place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ltx_models.byte_sizes import format_bytes
from ltx_models.checkpoints import BackendName, Checkpoint, CheckpointError, DType, open_checkpoint
from ltx_models.checkpoints.contents import contents_of
from ltx_models.checkpoints.kinds import MARKER, kind_of
from ltx_models.convert.forms import LAYOUTS, QUANTIZATION, Folder
from ltx_models.convert.tensors import SCALES, entries_of, layer_of
from ltx_models.convert.write import index_of, shard_names, shards_of, write_file
from ltx_models.media._files import DiskError, real_target, unfinished
from ltx_models.media._places import refuse_same
from ltx_models.nn.checks import check_dtype
from ltx_models.quantization import GROUP_SIZE, Scheme, large
from ltx_models.video_vae.config import is_diffusion

Layout = Literal["official", "split", "diffusers", "mlx"]


@dataclass(frozen=True)
class Report:
    """
    What a conversion did.

    Attributes
    ----------
    target : Path
        The file or folder that was written.
    files : tuple of Path
        Its weight files.
    tensors, n_bytes : int
        How many were written.
    dropped : tuple of str
        Official keys that the layout has no place for; no network reads them.
    """

    target: Path
    files: tuple[Path, ...]
    tensors: int
    n_bytes: int
    dropped: tuple[str, ...]


def convert(
    source: str | Path,
    target: str | Path,
    *,
    layout: Layout = "official",
    dtype: DType | None = None,
    quantize: Scheme | None = None,
    shard_bytes: int | None = None,
    backend: BackendName | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """
    Write a checkpoint in another layout, dtype or quantisation.

    Parameters
    ----------
    source : path
        A checkpoint in any layout that `ltx_models.checkpoints.layouts` names.
    target : path
        For the layout ``"official"`` in one file: a ``.safetensors`` file. Else a folder.
    layout : {"official", "split", "diffusers", "mlx"}
        The layout to write.
    dtype : {"bfloat16", "float16", "float32"}, optional
        Of floating-point tensors with axes; 8-bit floats are widened with their scales. As they are where absent.
    quantize : {"fp8", "int8", "int4"}, optional
        Quantise the transformer's large layers, by what the ecosystem has: 8-bit floats on both frameworks, integers
        by MLX, which must be installed for it.
    shard_bytes : int, optional
        The most bytes of one file; one file for everything, or for each component, where absent.
    backend : {"torch", "mlx"}, optional
        What computes the quantisation; by default MLX for integers, else what is installed.
    overwrite : bool
        Whether what stands at `target` may be replaced.
    progress : callable, optional
        Called with the bytes done and the bytes of all.

    Returns
    -------
    Report
        What was written, and what the layout has no place for.

    Raises
    ------
    CheckpointError
        If `source` is no checkpoint, or holds what the layout or quantisation cannot express.
    FileExistsError
        If `target` is there.
    OSError
        If the disk is too small or cannot be written. Nothing at `target` has changed then.
    ValueError
        If an argument is not allowed, or a number does not fit the dtype.

    Examples
    --------
    >>> import tempfile
    >>> from ltx_models import default_checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = convert(default_checkpoint(), f"{folder}/mlx", layout="mlx")
    ...     sorted(str(file.relative_to(folder)) for file in report.files)
    ['mlx/vae/decoder/model.safetensors', 'mlx/vae/encoder/model.safetensors']
    """
    target = Path(target)
    _check(target, layout, dtype, shard_bytes)
    refuse_same(target, [source])
    if not target.is_dir():
        target = real_target(target)
    with open_checkpoint(source, "numpy") as checkpoint:
        _check_source(checkpoint, dtype, quantize)
        if layout != "official":
            _check_layout(checkpoint, layout)
        metadata = _metadata(checkpoint, layout, dtype, quantize)
        entries = entries_of(checkpoint, dtype, quantize, backend)
        try:
            folders, dropped = LAYOUTS[layout](entries, checkpoint.config, metadata)
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{source}: does not fit the layout {layout!r} ({error})"
            raise CheckpointError(msg) from error
    if not any(folder.entries for folder in folders):
        msg = f"{source}: nothing in it belongs to a component of LTX-2; the first key is {checkpoint.keys[0]!r}"
        raise CheckpointError(msg)
    return _write(target, folders, metadata, shard_bytes, overwrite, dropped, progress)


def _check(target: Path, layout: str, dtype: str | None, shard_bytes: int | None) -> None:
    if layout not in get_args(Layout):
        msg = f"layout: got {layout!r}, allowed are {', '.join(map(repr, get_args(Layout)))}"
        raise ValueError(msg)
    if dtype is not None:
        check_dtype(dtype)
    if shard_bytes is not None and shard_bytes < 1:
        msg = f"shard_bytes: got {shard_bytes}, expected at least 1"
        raise ValueError(msg)
    single = layout == "official" and shard_bytes is None
    if single != (target.suffix == ".safetensors"):
        form = "a file whose name ends in .safetensors" if single else "a folder, a name without .safetensors"
        msg = f"target: got {target}, the layout {layout!r}{'' if single else ' or shards'} is {form}"
        raise ValueError(msg)


def _check_source(checkpoint: Checkpoint, dtype: str | None, quantize: str | None) -> None:
    if any(".lora_" in key for key in checkpoint.files):
        msg = f"{checkpoint.path}: is a LoRA, which has one layout only; pass it to load_lora as it is"
        raise CheckpointError(msg)
    packed = any(key.endswith(".scales") for key in checkpoint.files)
    if packed and (dtype is not None or quantize is not None):
        msg = f"{checkpoint.path}: holds integers packed by MLX, which only change their layout; convert the original"
        raise CheckpointError(msg)
    scaled = any(key.endswith(SCALES) for key in checkpoint.files)
    if scaled and quantize in {"int8", "int4"} and dtype is None:
        msg = f"{checkpoint.path}: holds 8-bit floats; say the dtype they are widened to before, dtype='bfloat16'"
        raise CheckpointError(msg)
    if quantize is not None and not any(large(layer_of(key)) for key in checkpoint.files):
        msg = f"{checkpoint.path}: has no large layers of a transformer; quantize= concerns these alone"
        raise CheckpointError(msg)


def _check_layout(checkpoint: Checkpoint, layout: str) -> None:
    """Refuse files of 2.5 that hold what other layouts than the official one have no place for."""
    held = contents_of(checkpoint.files)
    section = checkpoint.config.get("vae")
    lacks = {
        "a language model": "text" in held,
        "a duration head": "duration_head" in held,
        "a diffusion decoder": layout != "split" and isinstance(section, dict) and is_diffusion(section),
        "text connectors without their projections, which stand in the text encoder's file": layout == "diffusers"
        and "connectors" in held
        and not any(key.startswith("text_embedding_projection.") for key in checkpoint.files),
    }
    if what := next((what for what, there in lacks.items() if there), None):
        msg = f"{checkpoint.path}: holds {what}; the layout {layout!r} has no form for that, take layout='official'"
        raise CheckpointError(msg)


def _metadata(checkpoint: Checkpoint, layout: str, dtype: str | None, quantize: str | None) -> dict[str, str]:
    """Keep the metadata of the source, and add the marker of this layout."""
    metadata = {key: value for key, value in checkpoint.metadata.items() if key not in {MARKER, "format"}}
    kind = kind_of(checkpoint.path, checkpoint.metadata)
    metadata[MARKER] = json.dumps({"layout": layout} | ({"kind": kind} if kind else {}))
    metadata["format"] = "mlx" if layout == "mlx" else "pt"
    if quantize is not None:
        bits = {} if quantize == "fp8" else {"bits": int(quantize[3:]), "group_size": GROUP_SIZE}
        metadata[QUANTIZATION] = json.dumps({"scheme": quantize, **bits})
    elif dtype is not None or not any(key.endswith((".scales", *SCALES)) for key in checkpoint.files):
        metadata.pop(QUANTIZATION, None)
    return metadata


def _write(
    target: Path,
    folders: list[Folder],
    metadata: dict[str, str],
    shard_bytes: int | None,
    overwrite: bool,
    dropped: Iterable[str],
    progress: Callable[[int, int], None] | None,
) -> Report:
    total = sum(entry.size for folder in folders for entry in folder.entries.values())
    _check_place(target, total, overwrite)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    files: list[Path] = []
    with unfinished(target) as part:
        if target.suffix == ".safetensors":
            write_file(part, folders[0].entries, metadata, advance)
            files.append(target)
        else:
            part.mkdir()
            for folder in folders:
                written = _write_folder(part / folder.path, folder, metadata, shard_bytes, advance)
                files += [target / file.relative_to(part) for file in written]
        _put_in_place(part, target)
    tensors = sum(len(folder.entries) for folder in folders)
    return Report(target, tuple(files), tensors, total, tuple(sorted(dropped)))


def _write_folder(
    place: Path,
    folder: Folder,
    metadata: dict[str, str],
    shard_bytes: int | None,
    advance: Callable[[int], None],
) -> list[Path]:
    place.mkdir(parents=True, exist_ok=True)
    files = []
    if folder.entries:
        shards = shards_of(folder.entries, shard_bytes)
        names = shard_names(folder.stem, len(shards))
        for name, keys in zip(names, shards, strict=True):
            write_file(place / name, {key: folder.entries[key] for key in keys}, metadata, advance)
            files.append(place / name)
        if len(shards) > 1:
            (place / f"{folder.stem}.safetensors.index.json").write_text(index_of(folder.entries, shards, names))
    for name, text in folder.others.items():
        (place / name).write_text(text)
    return files


def _check_place(target: Path, total: int, overwrite: bool) -> None:
    if not target.parent.is_dir():
        msg = f"{target}: there is no folder {target.parent}; make it first"
        raise FileNotFoundError(msg)
    if target.exists() and not overwrite:
        msg = f"{target}: exists; choose another name, or say overwrite"
        raise FileExistsError(msg)
    free = shutil.disk_usage(target.parent).free
    if total > free:
        msg = (
            f"{target}: {format_bytes(total)} are needed, {format_bytes(free)} are free there; free some, or choose "
            "another disk"
        )
        raise DiskError(msg)


def _put_in_place(part: Path, target: Path) -> None:
    """Give the whole result its name; what stood there is gone only after that."""
    if target.is_dir():
        before = part.with_suffix(".before")
        target.rename(before)
        try:
            part.rename(target)
        except BaseException:
            before.rename(target)
            raise
        shutil.rmtree(before)
    else:
        part.replace(target)
