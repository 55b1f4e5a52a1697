"""From latents to what a call returns: frames and sound in memory, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ltx_models.media import OriginalAudio, VideoWriter, as_float32, write_audio
from ltx_models.pipelines import steps
from ltx_models.pipelines.call import OutputOptions, OutputType
from ltx_models.pipelines.request import Latents, LTX2Output, Request
from ltx_models.pipelines.run import Run
from ltx_models.pipelines.sound import Sound


def finish(run: Run, latents: Latents, options: OutputOptions, budget: int, notes: tuple[str, ...]) -> LTX2Output:
    """
    Decode latents, and write or return the result.

    Parameters
    ----------
    run : Run
        What was generated, with which networks.
    latents : Latents
        What came of it.
    options : OutputOptions
        What becomes of them.
    budget : int
        What decoding may take beside the weights, in bytes.
    notes : tuple of str
        For the user.

    Returns
    -------
    LTX2Output
        Frames and sound, or the path of the file that holds them.
    """
    fps, path = run.request.size.fps, options.path
    if options.output_type == "latent" and path is None:
        return LTX2Output(None, None, None, fps, latents, None, notes)
    sound = run.request.sound
    if sound is None and latents.audio is not None:
        sound = steps.decode_sound(run.components, latents.audio, run.callbacks)
    frames = None
    if path is not None:
        write(run, latents, sound, path, budget)
    elif latents.video is not None:
        video = steps.decode_video(run, latents.video, memory_bytes=budget)
        frames = as_frames(as_float32(video), options.output_type)
    rate, samples = (None, None) if sound is None else (sound.rate, sound.samples)
    return LTX2Output(frames, samples, rate, fps, latents, path, notes)


def write(run: Run, latents: Latents, sound: Sound | None, path: Path, budget: int) -> None:
    """
    Write a video with its sound, frame by frame, or sound alone.

    Parameters
    ----------
    run : Run
        Whose networks decode.
    latents : Latents
        Of the pictures, if there are any.
    sound : Sound or None
        Of the video.
    path : Path
        The file.
    budget : int
        What decoding may take beside the weights, in bytes.
    """
    if latents.video is None:
        assert sound is not None
        write_audio(path, sound.samples, sound.rate)
        return
    size = run.request.size
    with VideoWriter(
        path, fps=str(size.fps), height=size.height, width=size.width, audio=_track(run.request, sound)
    ) as writer:
        steps.decode_video(run, latents.video, memory_bytes=budget, sink=lambda frames, start: writer.write(frames))


def _track(request: Request, sound: Sound | None) -> Any:
    """Give the sound of a video: as it was where a retake keeps it, else what was generated."""
    if request.retake is not None and not request.retake.audio:
        return OriginalAudio(request.retake.path)
    return None if sound is None else (sound.samples, sound.rate)


def as_frames(video: Any, output_type: OutputType) -> Any:
    """
    Give a clip in the form that a caller wants.

    Parameters
    ----------
    video : ndarray, shape (1, 3, F, H, W)
        In about [-1, 1].
    output_type : {"np", "pt", "pil"}
        An array (1, F, H, W, 3) in [0, 1], a tensor of torch (1, F, 3, H, W), or a list of pictures in a list.

    Returns
    -------
    ndarray, tensor or list of list of PIL image
        The frames.
    """
    values = np.clip((video.transpose(0, 2, 3, 4, 1) + 1) / 2, 0, 1)
    if output_type == "np":
        return values
    if output_type == "pt":
        import torch

        return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 1, 4, 2, 3)))
    from PIL import Image as Pillow

    return [[Pillow.fromarray(np.rint(frame * 255).astype(np.uint8)) for frame in clip] for clip in values]
