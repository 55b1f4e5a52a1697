"""
How noise levels reach the layers: embedded timesteps and the scales, shifts and gates made of them.

A clip has thousands of tokens but very few different noise levels: one in plain generation, two with a clean first
frame. So a level is embedded once, and tokens refer to it by an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ltx_models.nn import Array, Backend, Module

SINUSOIDS = 128


@dataclass(frozen=True, slots=True)
class Timesteps:
    """
    Noise levels of tokens, each value once.

    Attributes
    ----------
    values : array, shape (N,)
        The different levels, float32.
    index : array of int, shape (B, T), optional
        Which of them each token has. Without it there is one value a sample, or one a token in order.
    """

    values: Any
    index: Any = None

    @classmethod
    def of(cls, nn: Backend, x: Any, batch: int, tokens: int) -> Timesteps:
        """
        Find the different levels, without waiting for a device.

        Parameters
        ----------
        nn : Backend
            The framework.
        x : Timesteps or array, shape (B,), (B, 1), (B, T) or (B, T, 1)
            NumPy arrays and arrays in host memory are looked at. Of others it is known only whether they were expanded
            from one value a sample; if not, every token counts as different.
        batch, tokens : int
            B and T.

        Returns
        -------
        Timesteps
            The levels.

        Raises
        ------
        ValueError
            If the shape is another, or a level that was looked at is not finite.

        Examples
        --------
        >>> from ltx_models.nn import backend
        >>> Timesteps.of(backend("torch"), np.array([[0.5, 0.0, 0.5]], dtype=np.float32), 1, 3)
        Timesteps(values=array([0. , 0.5], dtype=float32), index=array([[1, 0, 1]]))
        """
        if isinstance(x, Timesteps):
            return x
        shape = tuple(x.shape)
        if shape not in {(batch,), (batch, 1), (batch, tokens), (batch, 1, 1), (batch, tokens, 1)}:
            msg = f"timesteps: got shape {shape}, allowed are ({batch},), ({batch}, 1) and ({batch}, {tokens})"
            raise ValueError(msg)
        x = x.reshape(batch, -1)
        if isinstance(x, np.ndarray):
            return cls._look(x.astype(np.float32))
        seen = nn.to_numpy(x, wait=False)
        if seen is not None:
            return cls._look(seen)
        return cls(x[:, 0] if nn.expanded(x, 1) else x.reshape(-1))

    @classmethod
    def _look(cls, x: Any) -> Timesteps:
        if not np.isfinite(x).all():
            msg = f"timesteps: {int((~np.isfinite(x)).sum())} of {x.size} noise levels are not finite"
            raise ValueError(msg)
        if (x == x[:, :1]).all():
            return cls(x[:, 0])
        values, index = np.unique(x, return_inverse=True)
        return cls(values, index.reshape(x.shape))


@dataclass(frozen=True, slots=True)
class Levels:
    """
    Something made of each noise level, and which level each token has.

    Attributes
    ----------
    values : array, shape (N, ...)
        One row a level.
    index : array of int, shape (B, T), optional
        See `Timesteps`.
    batch : int
        B.
    """

    values: Array
    index: Array | None
    batch: int

    def pick(self, rows: Array) -> Array:
        """
        Spread rows over tokens.

        Parameters
        ----------
        rows : array, shape (N, D)
            One a level.

        Returns
        -------
        array, shape (B, T, D) or (B, 1, D)
            One a token, or one a sample.
        """
        return rows[self.index] if self.index is not None else rows.reshape(self.batch, -1, rows.shape[-1])

    def modulation(self, table: Array) -> Modulation:
        """
        Add a learned table.

        Parameters
        ----------
        table : array, shape (k, D)
            Added to each level's (k, D).

        Returns
        -------
        Modulation
            The sums, to be picked row by row.
        """
        return Modulation(self, self.values + table)


@dataclass(frozen=True, slots=True)
class Modulation:
    """Rows of scales, shifts and gates: `values` has shape (N, k, D)."""

    levels: Levels
    values: Array

    def row(self, i: int) -> Array:
        """Give shift or gate `i` of each token."""
        return self.levels.pick(self.values[:, i])

    def scale(self, i: int) -> Array:
        """Give 1 + scale `i` of each token."""
        if self.levels.index is None:
            return self.levels.pick(self.values[:, i]) + 1  # last, where compilers fuse it with what follows
        return self.levels.pick(self.values[:, i] + 1)  # once a level, not once a token


def sinusoids(nn: Backend, timesteps: Array) -> Array:
    """
    Embed numbers by cosines, then sines, of 128 frequencies from 1 down to about 1e-4.

    Parameters
    ----------
    nn : Backend
        The framework.
    timesteps : array, shape (N,)
        Float32, from 0 to 1000.

    Returns
    -------
    array, shape (N, 256)
        Float32.
    """
    steps = np.arange(SINUSOIDS, dtype=np.float32)
    frequencies = nn.asarray(np.exp(steps * np.float32(-np.log(10000.0)) / np.float32(SINUSOIDS)), timesteps)
    angles = timesteps[:, None] * frequencies
    return nn.xp.concat([nn.xp.cos(angles), nn.xp.sin(angles)], axis=-1)


class AdaLN(Module):
    """
    Make `rows` modulation rows of a noise level.

    Parameters
    ----------
    nn : Backend
        The framework.
    width : int
        Channels.
    rows : int
        How many scales, shifts and gates.
    """

    def __init__(self, nn: Backend, width: int, rows: int) -> None:
        super().__init__()
        self.emb = _Embedding(nn, width)
        self.linear = nn.Linear(width, rows * width)

    def forward(self, timesteps: Array, dtype: Any) -> tuple[Array, Array]:
        """
        Embed.

        Parameters
        ----------
        timesteps : array, shape (N,)
            Noise levels times 1000, float32.
        dtype : object
            The dtype to compute in.

        Returns
        -------
        pair of array, shapes (N, rows, width) and (N, width)
            The rows, and the embedding that they were made of.
        """
        embedded = self.emb.timestep_embedder(self.nn.cast(sinusoids(self.nn, timesteps), dtype))
        rows = self.linear(self.nn.silu(embedded))
        return rows.reshape(rows.shape[0], -1, embedded.shape[-1]), embedded


class _Embedding(Module):
    def __init__(self, nn: Backend, width: int) -> None:
        super().__init__()
        self.timestep_embedder = MLP(nn, 2 * SINUSOIDS, width, "silu")


class MLP(Module):
    """
    Linear, activation, linear; the checkpoints name the layers ``linear_1`` and ``linear_2``.

    Parameters
    ----------
    nn : Backend
        The framework.
    inputs, width : int
        Channels before, and after each layer.
    activation : {"silu", "gelu_tanh"}
        Name of the operation between.
    """

    def __init__(self, nn: Backend, inputs: int, width: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.linear_1 = nn.Linear(inputs, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Array) -> Array:
        """
        Transform.

        Parameters
        ----------
        x : array, shape (..., inputs)
            Input.

        Returns
        -------
        array, shape (..., width)
            Output.
        """
        return self.linear_2(getattr(self.nn, self.activation)(self.linear_1(x)))
