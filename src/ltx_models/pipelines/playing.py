"""Results as HTML that plays: what a notebook shows of them."""

from __future__ import annotations

import base64
import tempfile
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ltx_models.byte_sizes import format_bytes
from ltx_models.media import VideoWriter, write_audio

MOST_BYTES = 50_000_000  # of one file inside a notebook
MIME = {".mp4": ("video", "video/mp4"), ".wav": ("audio", "audio/wav"), ".flac": ("audio", "audio/flac")}


def playing(frames: Any, audio: Any, sample_rate: int | None, fps: float, path: Path | None, about: str) -> str:
    """
    Give videos or sounds as HTML, with everything inside.

    Parameters
    ----------
    frames : array (B, F, H, W, 3) in [0, 1], tensor (B, F, 3, H, W), list of lists of pictures, or None
        Of the videos.
    audio : ndarray, shape (B, 2, N), or None
        Of the videos, or alone.
    sample_rate : int or None
        Samples a second.
    fps : float
        Frames a second.
    path : Path or None
        Where the video was written, in place of the frames.
    about : str
        A line below.

    Returns
    -------
    str
        HTML.
    """
    with tempfile.TemporaryDirectory() as folder:
        if path is not None:
            files = [path]
        elif frames is not None:
            files = _videos(Path(folder), frames, audio, sample_rate, fps)
        elif audio is not None:
            files = [Path(folder) / f"{k}.wav" for k in range(len(audio))]
            for k, file in enumerate(files):
                write_audio(file, audio[k : k + 1], sample_rate or 0)
        else:
            files = []
        return "".join(map(_embedded, files)) + f"<pre>{escape(about)}</pre>"


def _videos(folder: Path, frames: Any, audio: Any, sample_rate: int | None, fps: float) -> list[Path]:
    """Write each video with its sound."""
    files = []
    for k, clip in enumerate(_clips(frames)):
        sound = None if audio is None or sample_rate is None else (audio[k : k + 1], sample_rate)
        files.append(folder / f"{k}.mp4")
        with VideoWriter(files[-1], fps=str(fps), height=clip.shape[1], width=clip.shape[2], audio=sound) as writer:
            writer.write(clip.transpose(3, 0, 1, 2)[None] * 2 - 1)
    return files


def _clips(frames: Any) -> list[Any]:
    """Give each video as an array (F, H, W, 3) in [0, 1], whatever form it has."""
    if isinstance(frames, list):
        return [np.stack([np.asarray(picture, np.float32) / 255 for picture in pictures]) for pictures in frames]
    values = np.asarray(frames)
    return list(values if values.shape[-1] == 3 else values.transpose(0, 1, 3, 4, 2))


def _embedded(path: Path) -> str:
    """Give a file as the element that plays it, or its name where it is large or gone."""
    kind, mime = MIME.get(path.suffix.lower(), ("video", "video/mp4"))
    size = path.stat().st_size if path.exists() else None
    if size is None or size > MOST_BYTES:
        return f"<p>{escape(str(path))}: {'is gone' if size is None else format_bytes(size)}</p>"
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<{kind} controls loop src="data:{mime};base64,{data}"></{kind}>'
