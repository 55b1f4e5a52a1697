"""
Rotary position embedding of the LTX-2 transformer.

Everything that depends on positions only is computed once, on the host, by NumPy: the frequencies in float64, since the
highest turns a token by 15708 radians, and the tables in float32. A table has one angle for each pair of channels of
each head; heads do not share frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ltx_models.nn import Array, Backend

Pairing = Literal["split", "interleaved"]
Floats = NDArray[np.float32]
CACHED_TABLES = 8  # video and audio, own and cross, of two sets of positions


@dataclass(frozen=True, slots=True)
class Rotary:
    """
    How one attention turns positions into angles.

    Attributes
    ----------
    width : int
        Channels of all heads together.
    heads : int
        Number of heads.
    max_pos : tuple of float
        For each position axis the extent that maps to [-1, 1]: seconds, pixels, pixels.
    theta : float
        Ratio of the highest frequency to the lowest.
    double : bool
        Whether frequencies are computed in float64 and then rounded, or in float32.
    middle : bool
        Whether a token stands at the middle of its interval, or at its start.
    """

    width: int
    heads: int
    max_pos: tuple[float, ...]
    theta: float = 10000.0
    double: bool = True
    middle: bool = True

    def tables(self, positions: Floats) -> tuple[Floats, Floats]:
        """
        Compute cosines and sines.

        Parameters
        ----------
        positions : array, shape (B, axes, T, 2)
            The interval [start, end) of each token, in the units of `max_pos`; further axes are not looked at.

        Returns
        -------
        pair of array, shape (B, T, heads, width / heads / 2)
            B is 1 where all samples have the same positions.

        Examples
        --------
        >>> rotary = Rotary(width=16, heads=2, max_pos=(20.0,))
        >>> cos, sin = rotary.tables(np.array([[[[10.0, 10.0]]]], dtype=np.float32))  # the centre: no rotation
        >>> cos.shape, float(cos.min()), float(abs(sin).max())
        ((1, 1, 2, 4), 1.0, 0.0)
        """
        axes = len(self.max_pos)
        if (positions == positions[:1]).all():
            positions = positions[:1]
        start, end = positions[:, :axes, :, 0], positions[:, :axes, :, 1]
        place = (start + end) / np.float32(2) if self.middle else start
        signed = place / np.asarray(self.max_pos, dtype=np.float32)[:, None] * np.float32(2) - np.float32(1)
        signed = signed.transpose(0, 2, 1)  # (B, T, axes)
        rates = frequencies(self.width // (2 * axes), self.theta, self.double)
        angles = (signed[:, :, None, :] * rates[:, None]).reshape(*signed.shape[:2], -1)  # axis fastest
        # what does not divide by the number of axes is not rotated, and stands first
        angles = np.pad(angles, ((0, 0), (0, 0), (self.width // 2 - angles.shape[-1], 0)))
        angles = angles.reshape(*signed.shape[:2], self.heads, -1)
        return np.cos(angles), np.sin(angles)


@cache
def frequencies(count: int, theta: float, double: bool) -> Floats:
    """
    Space frequencies from pi/2 to theta * pi/2 evenly in their logarithm.

    Parameters
    ----------
    count : int
        How many.
    theta : float
        Ratio of the last to the first.
    double : bool
        Compute in float64; otherwise in float32, which differs by up to 4e-7 of each value.

    Returns
    -------
    array of float32, shape (count,)
        Radians for each unit of position.

    Examples
    --------
    >>> [round(float(f), 3) for f in frequencies(3, 10000.0, True)]
    [1.571, 157.08, 15707.963]
    """
    if double:
        return np.asarray(theta ** np.linspace(0, 1, count) * (np.pi / 2), dtype=np.float32)
    # each step rounded as PyTorch's float32 linspace and power round it: a last digit here is 1e-3 radians at the top
    step, place = float(np.float32(1) / np.float32(max(1, count - 1))), np.arange(count)
    exponents = np.where(place < count // 2, step * place, 1 - step * (count - 1 - place)).astype(np.float32)
    exponents = exponents if count > 1 else np.zeros(count, dtype=np.float32)
    powers = (theta ** exponents.astype(np.float64)).astype(np.float32)
    return np.asarray(powers * np.float32(np.pi) / np.float32(2))


class Tables:
    """Tables on the device, made once for each set of positions and kept for the steps that follow."""

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[Array, Array]] = {}

    def get(self, nn: Backend, rotary: Rotary, positions: Floats, like: Array) -> tuple[Array, Array]:
        """
        Give the tables of these positions, with the dtype and device of `like`.

        The key is the content of `positions`, so an array that was written to gets new tables.
        """
        place = (getattr(like, "device", None), like.dtype)
        key = (rotary, place, positions.shape, positions.tobytes())
        if key not in self._kept:
            if len(self._kept) >= CACHED_TABLES:
                del self._kept[next(iter(self._kept))]
            cos, sin = rotary.tables(positions)
            self._kept[key] = nn.asarray(cos, like), nn.asarray(sin, like)
        return self._kept[key]

    def __reduce__(self) -> tuple[type[Tables], tuple[()]]:
        return Tables, ()  # copies of a model start without tables


def rotate(nn: Backend, x: Array, table: tuple[Array, Array], pairing: Pairing) -> Array:
    """
    Turn pairs of channels by the angles of a table.

    Parameters
    ----------
    nn : Backend
        The framework.
    x : array, shape (B, T, heads, d)
        Queries or keys.
    table : pair of array, shape (B or 1, T, heads, d / 2)
        Cosines and sines.
    pairing : {"split", "interleaved"}
        Whether channel i goes with channel i + d/2, or 2i with 2i + 1.

    Returns
    -------
    array, shape (B, T, heads, d)
        The rotated channels, in the same order.
    """
    cos, sin = table
    if pairing == "split":
        half = x.shape[-1] // 2
        a, b = x[..., :half], x[..., half:]
        return nn.xp.concat([a * cos - b * sin, nn.multiply_add(a, sin, b * cos)], axis=-1)
    a, b = x[..., ::2], x[..., 1::2]
    turned = nn.xp.stack([a * cos - b * sin, nn.multiply_add(a, sin, b * cos)], axis=-1)
    return nn.xp.reshape(turned, x.shape)
