"""
What frameworks get wrong on some devices, as data: how large an array and an operation may be, and who found out.

Nothing here was measured on such a device by this project: each row names the thread that reports it. The values are
those below which every reporter had right results.
"""

from dataclasses import dataclass, fields
from math import inf
from typing import NamedTuple

from tilekit.backends._base import Place

__all__ = ["KNOWN", "MOST", "WATCHED", "Known", "Limits", "known_of"]


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How large arrays and operations may be on a device before results are wrong; infinite where nothing is known.

    Parameters
    ----------
    elements : float
        Most elements of any array, and of the array that a view is a part of.
    convolution : float
        Most elements of the output of a convolution.
    unfolded : float
        Most elements of the matrix that a convolution unfolds its input to: output cells times the kernel's cells times
        the channels that it reads.
    padded_frame : float
        Most elements of a frame (the two innermost axes) where time of a five-dimensional array is padded with a
        constant. Padding by concatenation is right.
    work : float
        Most multiply-adds of one operation: a driver ends what keeps a graphics processor for longer than some seconds.
    unfolds : bool
        Whether convolutions over three axes unfold their input whatever the channels; else only where the channels do
        not divide by 16, or where the input is dilated.
    frames : bool
        Whether convolutions over three axes are better made as sums of convolutions of frames; see `by_frames`.
    """

    elements: float = inf
    convolution: float = inf
    unfolded: float = inf
    padded_frame: float = inf
    work: float = inf
    unfolds: bool = False
    frames: bool = False

    def __and__(self, other: "Limits") -> "Limits":
        """Take the stricter of both."""
        numbers = [f.name for f in fields(self) if f.name not in {"unfolds", "frames"}]
        strict = {name: min(getattr(self, name), getattr(other, name)) for name in numbers}
        return Limits(**strict, unfolds=self.unfolds or other.unfolds, frames=self.frames or other.frames)

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        return self != Limits()


class Known(NamedTuple):
    """A fault that somebody reported."""

    framework: str
    """``"torch"`` or ``"mlx"``."""
    device: str
    """``"metal"``, ``"mps"`` or ``"cuda"``."""
    since: str
    """First version that has it; empty for all."""
    before: str
    """First version that has it no more; empty where none is known."""
    what: str
    """What happens."""
    limits: Limits
    """What is right nevertheless; no limit where another version is the only cure."""
    advice: str
    """What to do; empty where plans stay below the limits."""
    source: str
    """Threads that report it."""
    date: str
    """When the newest of them was read."""
    cured: tuple[str, str] = ("", "")
    """A library below the framework that mends it, and from which version on."""


MOST = 2**31 - 1
"""The largest number of 32 bits with a sign: what indices of arrays are counted in."""
WATCHED = 2**42
"""
Multiply-adds that an Apple graphics processor finishes before its driver ends them. An estimate, measured by nobody
(2026-11): the least number of seconds that a thread names (5 of exo #1620; ltx-2-mlx #22 has 10) times 0.9e12
multiply-adds a second, two thirds of what the smallest one, that of an M1, could do at best (2.6e12 operations).
"""
KNOWN = (
    Known(
        "mlx",
        "metal",
        "",
        "",
        "indexing, reductions and matrix products of 2^31 elements and more fail, or are wrong without a word",
        Limits(elements=MOST),
        "",
        "mlx #3327, #3524, #3784, #2681",
        "2026-11",
    ),
    Known(
        "mlx",
        "metal",
        "",
        "",
        "convolutions give zeros, or wrong tails, where the output passes about 1.6e9 elements (which, depends on the "
        "channels)",
        Limits(convolution=1_500_000_000),
        "",
        "mlx #3979, #3248, #3591",
        "2026-11",
    ),
    Known(
        "mlx",
        "metal",
        "",
        "0.31",
        "convolutions over three axes unfold their input, and are wrong where the matrix passes 2^32 elements",
        Limits(unfolded=2**32 - 1, unfolds=True),
        "",
        "mlx #3138, #3143, #3147",
        "2026-11",
    ),
    Known(
        "mlx",
        "metal",
        "0.31",
        "",
        "convolutions over three axes unfold their input where channels do not divide by 16 or the input is dilated",
        Limits(unfolded=2**32 - 1),
        "",
        "mlx #3147, #3845, #3082",
        "2026-11",
    ),
    Known(
        "mlx",
        "metal",
        "",
        "0.32",
        "convolutions over three axes are 2 to 5 times slower than sums of those of frames",
        Limits(frames=True),
        "",
        "mlx #3625, #3785",
        "2026-11",
    ),
    Known(
        "mlx",
        "metal",
        "",
        "",
        "the driver ends what keeps the graphics processor for longer than some seconds",
        Limits(work=WATCHED),
        "",
        "ltx-video-mac #48; mlx #1231, #3267; exo #1620; ltx-2-mlx #22",
        "2026-11",
    ),
    Known(
        "torch",
        "mps",
        "",
        "2.14",
        "convolutions over three axes reach 7 percent of what those of frames do",
        Limits(frames=True),
        "",
        "pytorch #192213, #188802",
        "2026-11",
    ),
    Known(
        "torch",
        "mps",
        "",
        "",
        "arrays of 2^31 elements and more, and views of such arrays, raise or are wrong",
        Limits(elements=MOST, convolution=MOST),
        "",
        "pytorch #185663; ComfyUI #15902; SeedVR2 #600, #629",
        "2026-11",
    ),
    Known(
        "torch",
        "mps",
        "",
        "",
        "constant padding of time of a five-dimensional array writes the constant over the frames, where a frame has "
        "2^16 elements or more",
        Limits(padded_frame=2**16 - 1),
        "",
        "pytorch #194922, #194944",
        "2026-11",
    ),
    Known(
        "torch",
        "mps",
        "",
        "",
        "the driver ends what keeps the graphics processor for longer than some seconds, and what it would have given "
        "is taken for a result",
        Limits(work=WATCHED),
        "",
        "ltx-video-mac #48; pytorch #193571",
        "2026-11",
    ),
    Known(
        "torch",
        "cuda",
        "2.9",
        "2.10",
        "convolutions over three axes in bfloat16 or float16 take 3 to 17 times the memory, unless cuDNN is 9.15 or "
        "newer",
        Limits(frames=True),
        'install torch 2.10 or newer, or cuDNN 9.15 or newer with torch 2.9.1 (pip install "nvidia-cudnn-cu12>=9.15")',
        "pytorch #166643, #166790, #177406; ComfyUI #10373, #10398",
        "2026-11",
        ("cudnn", "9.15"),
    ),
)


def known_of(place: Place) -> tuple[Known, ...]:
    """
    List what is known about a place.

    Parameters
    ----------
    place : Place
        Framework, kind of device and version.

    Returns
    -------
    tuple of Known
        The rows of `KNOWN` that are about it.

    Examples
    --------
    >>> known_of(Place("mlx", "metal", "0.30.4"))[2].source
    'mlx #3138, #3143, #3147'
    >>> known_of(Place("torch", "cpu", "2.13.0"))
    ()
    """
    return tuple(
        row
        for row in KNOWN
        if (row.framework, row.device) == (place.framework, place.device)
        and _version(row.since) <= _version(place.version)
        and (not row.before or _version(place.version) < _version(row.before))
        and not _cured(row, place)
    )


def _cured(row: Known, place: Place) -> bool:
    library, since = row.cured
    found = dict(place.libraries).get(library, "")
    return bool(found) and _version(found) >= _version(since)


def _version(text: str) -> tuple[int, ...]:
    """Give the numbers that a version begins with."""
    numbers = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
