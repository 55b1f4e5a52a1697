"""Latents on disk: safetensors, with what is needed to make a video of them again."""

import json
import os
import re
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ltx_models.media._files import MediaError, as_float32, refuse_irregular, replacing
from ltx_models.media._places import LATENTS, check_suffix
from ltx_models.media.regular import parse_json

_NAME = "latents"
_AUDIO = "audio_latents"
_FORMAT = "ltx-latents-1"
_SPACE, _AUDIO_SPACE = "autoencoder", "audio_autoencoder"


@dataclass(frozen=True, slots=True)
class LatentSpace:
    """
    The autoencoder that latents belong to.

    Parameters
    ----------
    name : str
        For people.
    digest : str
        By which it is known again; see `ltx_models.checkpoints.latent_space`.
    """

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class SavedLatents:
    """
    Latents and their origin.

    Parameters
    ----------
    latents : ndarray, shape (1, 128, f, h, w)
        Normalised video latents, float32.
    fps : fractions.Fraction
        Frames a second of the video they stand for.
    source : str
        The clip they come from, empty where there is none; its sound belongs to them.
    audio : ndarray, shape (1, 8, T, 16), or None
        Normalised latents of the sound, where it was generated with them.
    pixel_aspect : fractions.Fraction
        Width of a pixel over its height, as the video is shown.
    space, audio_space : LatentSpace or None
        The autoencoders of pictures and sound; None where the file does not say.
    seed : int or None
        Of the run that generated them, of which a diffusion decoder makes its noise.
    """

    latents: npt.NDArray[np.float32]
    fps: Fraction
    source: str = ""
    audio: npt.NDArray[np.float32] | None = None
    pixel_aspect: Fraction = Fraction(1)
    space: LatentSpace | None = None
    audio_space: LatentSpace | None = None
    seed: int | None = None


def write_latents(
    path: str | os.PathLike[str],
    latents: Any,
    *,
    fps: Fraction | int | str,
    source: str = "",
    audio: Any = None,
    pixel_aspect: Fraction = Fraction(1),
    space: LatentSpace | None = None,
    audio_space: LatentSpace | None = None,
    seed: int | None = None,
) -> None:
    """
    Save video latents as safetensors, in float32, with their rate, size and statistics as metadata.

    Parameters
    ----------
    path : str or path-like
        The file, ``.safetensors``.
    latents : array, shape (1, 128, f, h, w)
        Normalised latents of any array library and dtype.
    fps : fractions.Fraction or int or str
        Frames a second of the video they stand for.
    source : str
        The clip they come from.
    audio : array, shape (1, 8, T, 16), optional
        Normalised latents of the sound that was generated with them.
    pixel_aspect : fractions.Fraction
        Width of a pixel over its height, as the video is shown.
    space, audio_space : LatentSpace, optional
        The autoencoders of pictures and sound, by which a decode finds the right one and refuses others.
    seed : int, optional
        Of the run that generated them, of which a diffusion decoder makes its noise.

    Raises
    ------
    MediaError
        If a value is not finite, the shape is another, or the place cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_latents(f"{folder}/a.safetensors", np.ones((1, 128, 2, 3, 4), np.float32), fps="30000/1001")
    ...     read_latents(f"{folder}/a.safetensors").fps
    Fraction(30000, 1001)
    """
    check_suffix(path, LATENTS)
    values = as_float32(latents)
    _check(values, 5, f"{path}: latents")
    statistics = {"mean": float(values.mean()), "std": float(values.std()), "absmax": float(np.abs(values).max())}
    described = {"fps": str(Fraction(fps)), "source": source, "shape": list(values.shape), **statistics}
    described["pixel_aspect"] = str(pixel_aspect)
    spaces = {_SPACE: space, _AUDIO_SPACE: audio_space}
    described |= {key: asdict(value) for key, value in spaces.items() if value is not None}
    described |= {} if seed is None else {"seed": seed}
    arrays = {_NAME: np.ascontiguousarray(values)}
    if audio is not None:
        arrays[_AUDIO] = np.ascontiguousarray(as_float32(audio))
        _check(arrays[_AUDIO], 4, f"{path}: audio latents")
    with replacing(path) as part:
        part.write_bytes(save(arrays, {"format": _FORMAT, "latents": json.dumps(described)}))


def read_latents(path: str | os.PathLike[str]) -> SavedLatents:
    """
    Read what `write_latents` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    SavedLatents
        Latents, frame rate and origin.

    Raises
    ------
    MediaError
        If the file is missing, damaged or not one of latents.
    """
    refuse_irregular(path)
    try:
        with safe_open(os.fspath(path), "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT or _NAME not in file.keys():  # noqa: SIM118  (not a mapping)
                msg = f"{path}: holds no latents; it should come from 'ltx-models encode' or write_latents"
                raise MediaError(msg)
            video = file.get_tensor(_NAME)
            audio = file.get_tensor(_AUDIO) if _AUDIO in file.keys() else None  # noqa: SIM118  (not a mapping)
        described = parse_json(metadata["latents"])
        spaces = [_space(described.get(key)) for key in (_SPACE, _AUDIO_SPACE)]
        aspect = _fraction(described.get("pixel_aspect", "1"), "pixel_aspect", Fraction(1, 100), 100)
        fps = _fraction(described["fps"], "fps", Fraction(1, 1000), 10_000)
        source = _text(described["source"], "source")
        seed = described.get("seed")
        if seed is not None and not (type(seed) is int and 0 <= seed < 2**63):
            msg = f"seed: got {seed!r}, expected a whole number of at least 0, below 2**63"
            raise ValueError(msg)
    except MediaError as e:
        msg = f"cannot read latents from {path}: {e}" if str(path) not in str(e) else str(e)
        raise MediaError(msg) from e
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, MemoryError) as e:
        msg = f"cannot read latents from {path}: {e}"
        raise MediaError(msg) from e
    for name, values, axes in (("latents", video, 5), ("audio latents", audio, 4)):
        if values is not None:
            _check(values, axes, f"{path}: {name}")
    audio = None if audio is None else as_float32(audio)
    return SavedLatents(as_float32(video), fps, source, audio, aspect, spaces[0], spaces[1], seed)


def _check(values: Any, axes: int, what: str) -> None:
    """Refuse arrays that are no latents."""
    if values.ndim != axes or values.shape[0] != 1 or 0 in values.shape or values.dtype.kind != "f":
        shape = "(1, channels, f, h, w)" if axes == 5 else "(1, channels, T, bins)"
        msg = f"{what} must be floats of shape {shape}, got {values.dtype} of shape {values.shape}"
        raise MediaError(msg)
    if not np.isfinite(values).all():
        msg = f"{what} have values that are not finite"
        raise MediaError(msg)


def _fraction(text: Any, name: str, least: Fraction, most: int) -> Fraction:
    """Read a number as `str` writes it; powers of ten would be computed for hours."""
    found = re.fullmatch(r"(\d{1,20})(?:/(\d{1,20})|\.(\d{1,20}))?", str(text))
    value = Fraction(str(text)) if found and int(found[2] or 1) else Fraction(0)
    if not least <= value <= most:
        msg = f"{name} is {str(text)[:40]!r}, expected a number from {least} to {most}"
        raise MediaError(msg)
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        msg = f"{name} is {value!r}, expected text"
        raise MediaError(msg)
    return value


def _space(value: Any) -> LatentSpace | None:
    return None if value is None else LatentSpace(_text(value["name"], "name"), _text(value["digest"], "digest"))
