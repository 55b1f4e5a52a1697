"""What hours of denoising gave is not lost where the minutes after it fail."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from ltx_models.checkpoints.latent_space import latent_space
from ltx_models.defaults import default_pipeline
from ltx_models.media import MediaError, write_latents
from ltx_models.pipelines.files import Files
from ltx_models.pipelines.request import Latents


@contextmanager
def kept_on_failure(
    latents: Latents, fps: float, saved: Path | None, output: Path | None, *, files: Files, seed: int
) -> Iterator[None]:
    """
    Save latents before a decode where that is wanted, and where it was not, if the decode fails.

    Parameters
    ----------
    latents : Latents
        What was generated.
    fps : float
        Frames a second.
    saved : Path or None
        Where they are to be saved before; None to save them only if the block raises.
    output : Path or None
        The video that the block makes; None where it makes no file, and none is made of the latents either.
    files : Files
        Whose autoencoders they belong to.
    seed : int
        Of the run, of which a diffusion decoder makes its noise.

    Yields
    ------
    None
        For the decode. Its errors go on, with a note that says where the latents are.
    """
    if latents.video is None:
        yield
        return
    place = None
    try:
        if saved is not None:
            _write(saved, latents, fps, files, seed)
            place = saved
        yield
    except Exception as error:
        wanted = saved or output
        if place is None and wanted is not None:
            place = _rescued(latents, fps, wanted, files, seed)
        if place is not None:
            command = shlex.join(("ltx-models", "decode", str(place), *_flags(files)))
            error.add_note(f"the latents are in {place}; what goes on from there: {command}")
        raise


def _flags(files: Files) -> tuple[str, ...]:
    """Name the files that decode latents, as the command line takes them."""
    if files.transformer.is_relative_to(default_pipeline()):
        return ()
    if files.video_vae is None and files.audio_vae is None:
        return "--checkpoint", str(files.transformer)
    pictures, sound = str(files.of("video_decoder")), str(files.of("audio_decoder"))
    return "--video-vae-path", pictures, "--audio-vae-path", sound


def _write(place: Path, latents: Latents, fps: float, files: Files, seed: int) -> None:
    write_latents(
        place,
        latents.video,
        fps=str(fps),
        audio=latents.audio,
        seed=seed,
        space=latent_space(files.of("video_decoder")),
        audio_space=None if latents.audio is None else latent_space(files.of("audio_decoder"), "audio"),
    )


def _rescued(latents: Latents, fps: float, wanted: Path, files: Files, seed: int) -> Path | None:
    """Save latents beside the file that could not be written, or else among temporary files."""
    stem = wanted.name.removesuffix(wanted.suffix).removesuffix(".latents")
    for folder in (wanted.parent, Path(tempfile.gettempdir())):
        names = (folder / f"{stem}{number or ''}.latents.safetensors" for number in count())
        place = next(name for name in names if not name.exists())
        try:
            _write(place, latents, fps, files, seed)
        except (MediaError, OSError):  # the next place, then
            continue
        return place
    return None
