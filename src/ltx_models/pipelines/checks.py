"""What a call asks for, held against the checkpoint and the recipe before anything is computed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltx_models.media import MediaError, OriginalAudio, probe_video, refuse_same, refuse_unwritable
from ltx_models.media._files import av
from ltx_models.media._places import LATENTS, SOUND, VIDEO
from ltx_models.media.tracks import audio_track
from ltx_models.nn import Backend
from ltx_models.pipelines.grid import Size, fitted
from ltx_models.pipelines.pictures import Image, read_picture
from ltx_models.pipelines.request import Embeds, Retake
from ltx_models.pipelines.settings import Recipe


def find_streams(streams: Sequence[str] | None, config: Any, retake: Retake | None) -> tuple[str, ...]:
    there = tuple(name for name in ("video", "audio") if getattr(config, name) is not None)
    wanted = there if streams is None else tuple(name for name in ("video", "audio") if name in streams)
    if not wanted or set(streams or ()) - set(there):
        msg = f"streams: got {streams}, this checkpoint has {', '.join(there)}"
        raise ValueError(msg)
    if retake is not None and (not (retake.video or retake.audio) or (retake.audio and "audio" not in wanted)):
        msg = "retake: name what is to be made anew, pictures or sound, among the streams of the run"
        raise ValueError(msg)
    return wanted


def clip_size(retake: Retake, given: tuple[float | None, ...], recipe: Recipe) -> tuple[Size, list[str]]:
    """Take the size of a clip that is to be kept, which must fit as it is."""
    if any(value is not None for value in given):
        msg = "retake: size, frames and frame rate are the clip's own; leave them out"
        raise ValueError(msg)
    if recipe.two_stages:
        msg = f"retake: runs at full size, not with the pipeline {recipe.name!r}; take 'distilled-one-stage' or 'dev'"
        raise ValueError(msg)
    if not retake.audio and (track := audio_track(OriginalAudio(retake.path))) is not None:
        track.close()  # it can be kept
    info = probe_video(retake.path)
    if info.frames is None:
        msg = f"{retake.path}: does not say how many frames it has; write it anew as mp4"
        raise ValueError(msg)
    if not 0 <= retake.start < retake.end or retake.start >= info.frames / info.fps:
        msg = (
            f"retake: got {retake.start} to {retake.end} s, the clip lasts {float(info.frames / info.fps):.2f} s; the "
            "start must lie in it and before the end"
        )
        raise ValueError(msg)
    return fitted(Size(info.height, info.width, info.frames, float(info.fps)), two_stages=False)


def check_prompt(prompt: str | None, embeds: Embeds | None, enhance: bool) -> None:
    if (prompt is None) == (embeds is None):
        msg = "prompt: give either a prompt or prompt_embeds"
        raise ValueError(msg)
    if enhance and prompt is None:
        msg = "enhance_prompt: there is no prompt to be written out, only prompt_embeds"
        raise ValueError(msg)
    if prompt is not None and not prompt.strip():
        msg = "prompt: is empty; say what the video should show"
        raise ValueError(msg)


def find_images(image: Any, images: Sequence[Image], frames: int, streams: Sequence[str]) -> tuple[Image, ...]:
    found = (*(() if image is None else (Image(image),)), *images)
    for one in found:
        if not -frames <= one.frame < frames:
            msg = f"image: frame {one.frame} is not in the clip, which has frames 0 to {frames - 1}"
            raise ValueError(msg)
        if not 0 <= one.strength <= 1:
            msg = f"image: strength is {one.strength}, allowed is 0 to 1"
            raise ValueError(msg)
        if isinstance(one.picture, (str, os.PathLike)):
            read_picture(one.picture)  # which refuses a file that is none
    if found and "video" not in streams:
        msg = "image: there is no video in this run to show it"
        raise ValueError(msg)
    return found


def check_seed(seed: int) -> None:
    """Refuse seeds that generators do not take."""
    if not 0 <= seed < 2**63:
        msg = f"seed: got {seed}, expected a whole number of at least 0, below 2**63"
        raise ValueError(msg)


def check_audio_start(start: float) -> None:
    """Refuse a beginning that lies before the sound."""
    if not (math.isfinite(start) and start >= 0):
        msg = f"audio_start: got {start}, expected seconds from the beginning of the file, at least 0"
        raise ValueError(msg)


def check_output(output: Path | None, streams: Sequence[str], output_type: str, *, saves_latents: bool) -> None:
    """Refuse names of files that cannot hold what is generated, and a run without what writes them."""
    if output_type not in {"np", "pil", "latent"}:
        msg = f"output_type: got {output_type!r}, allowed are 'np', 'pil', 'latent'"
        raise ValueError(msg)
    if saves_latents and "video" not in streams:
        msg = "save_latents: there are no pictures in this run; leave it out, or generate both streams"
        raise ValueError(msg)
    if output is None:
        return
    allowed = VIDEO if "video" in streams else SOUND
    if output.suffix.lower() not in allowed:
        what = "a video is written" if "video" in streams else "sound alone is written"
        msg = f"output: got {output}, {what} as {' or '.join(allowed)}; give a name that ends so"
        raise MediaError(msg)
    av()  # which is needed at the end


def check_places(output: str | Path | None, save_latents: str | Path | None, size: Size, given: Sequence[Any]) -> None:
    """Refuse places that cannot take the results, or that hold what the run is given."""
    for place, suffixes in ((output, ()), (save_latents, LATENTS)):
        if place is not None:
            refuse_unwritable(place, 4 * 128 * math.prod(size.latent), suffixes=suffixes)
            refuse_same(place, [one for one in given if isinstance(one, (str, os.PathLike))])
    refuse_same(output, [save_latents], "written besides")


def check_device(nn: Backend, device: Any) -> None:
    """Refuse devices that are not there."""
    if device is None:
        return
    if nn.name == "mlx":
        msg = f"device: MLX arrays belong to no device, got {device!r}; leave it out"
        raise ValueError(msg)
    import torch

    try:
        torch.empty(0, device=device)
    # an unknown name, a build without CUDA, a device without memory of its own
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        found += ["mps"] if torch.backends.mps.is_available() else []
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        msg = f"device: got {str(device)!r}, torch has {', '.join(found)} here ({reason[:120]})"
        raise ValueError(msg) from error
