"""What may be uploaded: pictures and sounds, told by their first bytes and opened before anything is made of them."""

from __future__ import annotations

import shutil
from pathlib import Path

from ltx_models.byte_sizes import format_bytes
from ltx_models.media import MediaError, OriginalAudio, probe_video, write_picture
from ltx_models.media.tracks import audio_track
from ltx_models.pipelines.pictures import read_picture

MOST_PIXELS = 50_000_000
# Text, such as a playlist that names other files, begins with none of these.
PICTURES = {b"\x89PNG\r\n\x1a\n": 0, b"\xff\xd8\xff": 0, b"WEBP": 8}
CLIPS = {b"ftyp": 4, b"\x1aE\xdf\xa3": 0}
SOUNDS = {b"WAVE": 8, b"fLaC": 0, b"ID3": 0, b"\xff\xfb": 0, b"\xff\xf3": 0, b"OggS": 0, b"ftyp": 4}


def take_picture(path: Path, target: Path, most_bytes: int) -> tuple[int, int]:
    """
    Check an upload, and write it as PNG.

    Parameters
    ----------
    path : Path
        What was uploaded.
    target : Path
        Where the run finds it, ``.png``.
    most_bytes : int
        How large an upload may be.

    Returns
    -------
    (int, int)
        Width and height.

    Raises
    ------
    MediaError
        If it is no picture, or too large.
    """
    check_picture(path, most_bytes)
    pixels = read_picture(path)
    write_picture(target, pixels)
    return pixels.shape[1], pixels.shape[0]


def take_sound(path: Path, target: Path, most_bytes: int) -> None:
    """Check an uploaded sound as `check_sound` does, and copy it to where the run finds it."""
    check_sound(path, most_bytes)
    shutil.copyfile(path, target)


def take_clip(path: Path, target: Path, most_bytes: int) -> None:
    """Check an uploaded clip as `check_clip` does, and copy it to where the run finds it."""
    check_clip(path, most_bytes)
    shutil.copyfile(path, target)


def check_picture(path: Path, most_bytes: int) -> None:
    """Refuse an upload that is no picture, or too large; of its pixels none is read."""
    _refuse(path, PICTURES, most_bytes, "picture", "PNG, JPEG or WebP")
    _refuse_many_pixels(path)


def check_sound(path: Path, most_bytes: int) -> None:
    """Refuse an upload that has no sound, or is too large."""
    _refuse(path, SOUNDS, most_bytes, "sound", "WAV, FLAC, MP3, Ogg or MP4")
    track = audio_track(OriginalAudio(path))
    if track is None:
        msg = f"{path.name}: has no sound; give a file that has"
        raise MediaError(msg)
    track.close()


def check_clip(path: Path, most_bytes: int) -> None:
    """Refuse an upload that is no clip, or too large."""
    _refuse(path, CLIPS, most_bytes, "clip", "MP4, MOV, MKV or WebM")
    probe_video(path)


def _refuse(path: Path, marks: dict[bytes, int], most_bytes: int, what: str, kinds: str) -> None:
    """Refuse a file that is too large or begins as no such file does."""
    if path.is_symlink() or not path.is_file():
        msg = f"{path.name}: is no uploaded file; upload it again"
        raise MediaError(msg)
    size = path.stat().st_size
    if size > most_bytes:
        msg = f"{path.name}: has {format_bytes(size)}, allowed are {format_bytes(most_bytes)}; give a smaller file"
        raise MediaError(msg)
    with path.open("rb") as file:
        head = file.read(16)
    if not any(head[at:].startswith(mark) for mark, at in marks.items()):
        msg = f"{path.name}: is no {what} that can be read; allowed are {kinds}"
        raise MediaError(msg)


def _refuse_many_pixels(path: Path) -> None:
    """Refuse a picture that would fill the memory, from its header."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as opened:
            width, height = opened.size
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        msg = f"{path.name}: cannot be read as a picture: {error}"
        raise MediaError(msg) from error
    if width * height > MOST_PIXELS:
        msg = f"{path.name}: has {width}x{height} pixels, allowed are {MOST_PIXELS:,} in all; scale it down"
        raise MediaError(msg)
