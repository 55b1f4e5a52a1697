"""Sizes that fit: whole latent cells of a picture and a clip, in every stage."""

from __future__ import annotations

from dataclasses import dataclass

from ltx_models.conditioning import SCALE, audio_tokens


@dataclass(frozen=True, slots=True)
class Size:
    """
    The size of a clip.

    Attributes
    ----------
    height, width : int
        Pixels.
    frames : int
        Frames.
    fps : float
        Frames a second.
    """

    height: int
    width: int
    frames: int
    fps: float

    @property
    def latent(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns."""
        return (self.frames - 1) // SCALE[0] + 1, self.height // SCALE[1], self.width // SCALE[2]

    @property
    def half(self) -> Size:
        """The size of the first of two stages."""
        return Size(self.height // 2, self.width // 2, self.frames, self.fps)

    @property
    def audio_frames(self) -> int:
        """Latent frames of sound that go with it."""
        return audio_tokens(self.frames, self.fps)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / self.fps


def fitted(size: Size, *, two_stages: bool, snap: bool = False) -> tuple[Size, list[str]]:
    """
    Refuse a size that is not made of whole latent cells, or move it to the nearest that is.

    Parameters
    ----------
    size : Size
        What is asked for.
    two_stages : bool
        Whether half of it must be whole cells too.
    snap : bool
        Move instead of refusing.

    Returns
    -------
    size : Size
        One that fits.
    notes : list of str
        What was moved, for the user.

    Raises
    ------
    ValueError
        If it does not fit, or a number is not above 0; the text names the nearest that do.

    Examples
    --------
    >>> fitted(Size(500, 768, 100, 24.0), two_stages=False, snap=True)[1]
    ['height: 500 moved to 512', 'frames: 100 moved to 97']
    >>> fitted(Size(512, 768, 100, 24.0), two_stages=False)
    Traceback (most recent call last):
    ...
    ValueError: frames: got 100, must be 1 + 8k; nearest 97 and 105; snap=True (--snap) takes the nearest
    """
    if not size.fps > 0:
        msg = f"frame rate: got {size.fps}, must be above 0"
        raise ValueError(msg)
    notes: list[str] = []
    cell = SCALE[1] * (2 if two_stages else 1)
    height = _moved("height", size.height, cell, 0, snap, notes)
    width = _moved("width", size.width, cell, 0, snap, notes)
    frames = _moved("frames", size.frames, SCALE[0], 1, snap, notes)
    return Size(height, width, frames, size.fps), notes


def _moved(name: str, value: int, step: int, rest: int, snap: bool, notes: list[str]) -> int:
    least = rest or step
    if value >= least and value % step == rest:
        return value
    below = max(least, (value - rest) // step * step + rest)
    above = below + step if value > below else below
    if value > 0 and snap:
        nearest = below if value - below <= above - value else above
        notes.append(f"{name}: {value} moved to {nearest}")
        return nearest
    rule = f"{rest} + {step}k" if rest else f"a multiple of {step}"
    which = f"nearest {below} and {above}" if above != below else f"the least is {below}"
    msg = f"{name}: got {value}, must be {rule}; {which}" + (
        "; snap=True (--snap) takes the nearest" if value > 0 else ""
    )
    raise ValueError(msg)
