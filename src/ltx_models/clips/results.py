"""How results lie in a folder: as safetensors of this package, or as the official trainer reads them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save as to_bytes

from ltx_models.checkpoints.latent_space import latent_space
from ltx_models.clips.fitting import FittedClip
from ltx_models.media import as_float32, replacing, write_latents
from ltx_models.nn import Array

Layout = Literal["plain", "trainer"]
LAYOUTS: tuple[Layout, ...] = ("plain", "trainer")
PRECOMPUTED = ".precomputed"


def save_clip(path: Path, latents: Array, clip: FittedClip, checkpoint: Path, sound: Any = None) -> None:
    """Save latents with what a decode needs to know of the clip and the autoencoders."""
    source, space = str(clip.path.resolve()), latent_space(checkpoint)
    audio_space = None if sound is None else latent_space(checkpoint, "audio")
    given: dict[str, Any] = {"source": source, "pixel_aspect": clip.pixel_aspect, "space": space}
    write_latents(path, latents, fps=clip.fps, audio=sound, audio_space=audio_space, **given)


def write_clip(
    folder: Path, name: Path, latents: Array, clip: FittedClip, checkpoint: Path, sound: tuple[Any, float], form: Layout
) -> list[Path]:
    """
    Write the latents of a clip.

    Parameters
    ----------
    folder, name : Path
        Where, and what they are called there, without a suffix.
    latents : array, shape (1, 128, f, h, w)
        Of the pictures.
    clip : FittedClip
        What was encoded.
    checkpoint : Path
        By whose autoencoders.
    sound : (array or None, float)
        Latents of the sound, shape (1, 8, T, 16), and its length in seconds.
    form : {"plain", "trainer"}
        How they lie.

    Returns
    -------
    list of Path
        The files.
    """
    if form == "plain":
        target = _made(folder / name.with_name(f"{name.name}.safetensors"))
        save_clip(target, latents, clip, checkpoint, sound[0])
        return [target]
    # fields of the official trainer: sizes are those of the latents
    frames, height, width = (int(n) for n in latents.shape[2:])
    fields = {"latents": _tensor(latents)[0], "num_frames": frames, "height": height, "width": width}
    files = [_save_torch(folder, "latents", name, {**fields, "fps": float(clip.fps)})]
    if sound[0] is not None:
        steps, bins = (int(n) for n in sound[0].shape[2:])
        heard = {"latents": _tensor(sound[0])[0], "num_time_steps": steps, "frequency_bins": bins}
        files.append(_save_torch(folder, "audio_latents", name, {**heard, "duration": sound[1]}))
    return files


def write_text(folder: Path, name: Path, embeddings: Mapping[str, Array], form: Layout) -> list[Path]:
    """
    Write the text embeddings of a caption.

    Parameters
    ----------
    folder, name : Path
        Where, and what they are called there, without a suffix.
    embeddings : mapping of str to array
        Of one caption, with a batch axis of 1.
    form : {"plain", "trainer"}
        How they lie.

    Returns
    -------
    list of Path
        The files.
    """
    if form == "trainer":
        return [_save_torch(folder, "conditions", name, {k: _tensor(x)[0] for k, x in embeddings.items()})]
    target = _made(folder / name.with_name(f"{name.name}.text.safetensors"))
    with replacing(target) as part:
        part.write_bytes(to_bytes({k: np.ascontiguousarray(as_float32(x)) for k, x in embeddings.items()}))
    return [target]


def _tensor(x: Any) -> Any:
    """Give a tensor of torch in host memory, in its dtype where it has one of torch."""
    torch = import_module("torch")
    return x.detach().cpu().contiguous() if isinstance(x, torch.Tensor) else torch.from_numpy(as_float32(x).copy())


def _save_torch(folder: Path, kind: str, name: Path, values: dict[str, Any]) -> Path:
    target = _made(folder / PRECOMPUTED / kind / name.with_name(f"{name.name}.pt"))
    values = {k: x.clone() if hasattr(x, "clone") else x for k, x in values.items()}  # no part of a larger storage
    with replacing(target) as part:
        import_module("torch").save(values, part)
    return target


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
