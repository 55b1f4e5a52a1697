"""Fuzz clips, sound and latents: what is damaged or cut off is refused as a ValueError, or read whole."""

import json
import struct
import tempfile
import warnings
from fractions import Fraction
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np

from ltx_models import media

FRAMES = 24
CONTAINERS = {
    "a.mp4": ("mp4", "libx264"),
    "a.mkv": ("matroska", "libx264"),
    "a.webm": ("webm", "libvpx-vp9"),
    "a.gif": ("gif", "gif"),
    "a.avi": ("avi", "mpeg4"),
}
ODD: tuple[Any, ...] = (None, -1, 0, 10**40, 0.5, "1/0", "1e999999999", "nan", [], {}, [1], "x", True, "\0", "9" * 400)


@cache
def clip(name: str) -> bytes:
    """Make a clip of smooth frames in a container."""
    kind, codec = CONTAINERS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        with av.open(str(path), "w", format=kind) as container:
            stream: Any = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8" if codec == "gif" else "yuv420p"
            for k in range(FRAMES):
                level = np.full((48, 64, 3), 10 * k, np.uint8)
                frame = av.VideoFrame.from_ndarray(level, format="rgb24").reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = k, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


def fuzz_clip(random: Random) -> None:
    """Cut a clip off, or change some of its bytes; a cut is never read as a shorter clip."""
    name = random.choice(list(CONTAINERS))
    data = bytearray(clip(name))
    cut = random.random() < 0.5
    if cut:
        del data[random.randrange(len(data)) :]
    else:
        for _ in range(random.randint(1, 20)):
            data[random.randrange(len(data))] = random.randrange(256)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", media.MediaWarning)
        path = Path(folder, name)
        path.write_bytes(data)
        try:
            frames = sum(1 for _ in media.iter_frames(path))
        except media.MediaError:
            return
        assert not cut or frames == FRAMES, f"{name}, cut to {len(data)} bytes, was read with {frames} frames"


def fuzz_sound(random: Random) -> None:
    """Write and read sound of any number of channels, and change bytes of its header."""
    channels, n = random.randint(1, 12), random.randint(1, 5000)
    samples = np.random.default_rng(random.randrange(2**32)).integers(-9000, 9000, (n, channels)).astype("<i2")
    head = struct.pack("<HHIIHH", 1, channels, 16000, 32000 * channels, 2 * channels, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", samples.nbytes) + samples.tobytes()
    data = bytearray(b"RIFF" + struct.pack("<I", len(body)) + body)
    damaged = random.random() < 0.5
    for _ in range(random.randint(1, 4) if damaged else 0):
        data[random.randrange(44)] = random.randrange(256)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.wav")
        path.write_bytes(data)
        try:
            read, _ = media.read_audio(path)
        except media.MediaError:
            assert damaged
            return
        if not damaged:
            np.testing.assert_array_equal(read[0].T * 2**15, samples)


def fuzz_latents(random: Random) -> None:
    """Put odd values into the description of latents; they are refused, or what is read is sound."""
    told: dict[str, Any] = {"fps": "25", "source": "", "pixel_aspect": "1", "autoencoder": {"name": "a", "digest": "b"}}
    for _ in range(random.randint(1, 3)):
        told[random.choice([*told, "audio_autoencoder"])] = random.choice(ODD)
    text = json.dumps(told)
    header: dict[str, Any] = {
        "__metadata__": {"format": "ltx-latents-1", "latents": text},
        "latents": {"dtype": "F32", "shape": [1, 4, 1, 2, 2], "data_offsets": [0, 64]},
    }
    if random.random() < 0.3:
        header["latents"][random.choice(["dtype", "shape", "data_offsets"])] = random.choice(ODD)
    raw = json.dumps(header).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.safetensors")
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(64))
        try:
            saved = media.read_latents(path)
        except media.MediaError:
            return
        assert saved.latents.shape == (1, 4, 1, 2, 2)
        assert saved.fps > 0
