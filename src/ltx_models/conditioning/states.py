"""A stream's tokens: empty, given as a whole, and made noisy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ltx_models.conditioning.tokens import Floats, audio_positions, patchify, video_positions
from ltx_models.nn import Array, Backend, backend_of


@dataclass(frozen=True, slots=True)
class LatentState:
    """
    One stream's tokens before, during and after sampling.

    Attributes
    ----------
    latent : array, shape (B, T, C)
        Tokens, noisy while sampling. Before `add_noise`, what is refined: given tokens do not change it, and appended
        ones are 0 in it.
    clean : array, shape (B, T, C)
        Given tokens; of no meaning where `mask` is 1.
    mask : array of float32 on the host, shape (B, T)
        1 where a token is generated, 0 where it is given, and between for a mixture of both.
    positions : array of float32 on the host, shape (B, axes, T, 2)
        See `ltx_models.Modality`.
    shape : tuple of int
        Of the latent that the first tokens make up: (B, C, F, H, W) of video, (B, C, T, mel) of audio.
    attention_mask : array of float32 on the host, shape (B, T, T), or None
        How much tokens attend to each other.
    frozen : bool
        The stream is given as a whole and only conditions the other.
    keyframes_mask : array of float32 on the host, shape (B, T, 1), or None
        1 for the tokens of the first latent frame, which stands for a single frame, and of generated keyframes; a
        transformer of 2.5 marks them. None of audio.
    slots : (int, int) or None
        The first token of the generated keyframes, and how many keyframes there are.
    """

    latent: Array
    clean: Array
    mask: Floats
    positions: Floats
    shape: tuple[int, ...]
    attention_mask: Floats | None = None
    frozen: bool = False
    keyframes_mask: Floats | None = None
    slots: tuple[int, int] | None = None

    def appended(
        self,
        latent: Array,
        clean: Array,
        mask: Floats,
        positions: Floats,
        marks: Floats,
        attention: float | None = None,
    ) -> LatentState:
        """
        Append tokens.

        Parameters
        ----------
        latent, clean : array, shape (B, N, C)
            What is refined of them, and what is given.
        mask, marks : array of float32 on the host, shape (B, N)
            1 where they are generated; 1 where they are keyframes to mark.
        positions : array of float32 on the host, shape (1 or B, axes, N, 2)
            Where they are.
        attention : float, optional
            How much they and generated tokens attend to each other, from 0 to 1; fully where absent.

        Returns
        -------
        LatentState
            With the tokens after all others.
        """
        xp = backend_of(self.latent).xp
        marked, attended = self.keyframes_mask, self.attention_mask
        placed = (self.positions.shape[0], *positions.shape[1:])
        if attention is not None or attended is not None:
            attended = _grown(self, mask.shape[1], 1.0 if attention is None else attention)
        return replace(
            self,
            latent=xp.concat([self.latent, latent], axis=1),
            clean=xp.concat([self.clean, clean], axis=1),
            mask=np.concatenate([self.mask, mask], axis=1),
            positions=np.concatenate([self.positions, np.broadcast_to(positions, placed)], axis=2),
            attention_mask=attended,
            keyframes_mask=None if marked is None else np.concatenate([marked, marks[..., None]], axis=1),
        )

    @property
    def generated(self) -> int:
        """How many of the tokens, the first ones, make up the result."""
        return int(np.prod(self.shape[2:5])) if len(self.shape) == 5 else self.shape[2]


def _grown(state: LatentState, added: int, attention: float) -> Floats:
    batch, count = state.mask.shape
    grown = np.zeros((batch, count + added, count + added), np.float32)
    grown[:, :count, :count] = 1 if state.attention_mask is None else state.attention_mask
    grown[:, : state.generated, count:] = attention
    grown[:, count:, : state.generated] = attention
    grown[:, count:, count:] = 1
    return grown


def video_state(
    shape: Sequence[int], *, fps: float, like: Array, initial: Array | None = None, causal: bool = True
) -> LatentState:
    """
    Make a video stream with nothing given.

    Parameters
    ----------
    shape : sequence of int
        (B, C, F, H, W) of the latent.
    fps : float
        Frames a second.
    like : array
        Whose framework, dtype and device to use.
    initial : array, shape (B, C, F, H, W), optional
        A latent to start from, as after upsampling.
    causal : bool
        Whether the first latent frame stands for a single frame.

    Returns
    -------
    LatentState
        All of it to be generated.
    """
    positions = video_positions(*shape[2:], fps=fps, causal=causal)
    state = _state(shape, positions, like, initial)
    marks = np.zeros((*state.mask.shape, 1), np.float32)
    marks[:, : shape[3] * shape[4]] = 1
    return replace(state, keyframes_mask=marks)


def audio_state(shape: Sequence[int], *, like: Array, initial: Array | None = None) -> LatentState:
    """
    Make an audio stream with nothing given.

    Parameters
    ----------
    shape : sequence of int
        (B, C, T, mel) of the latent.
    like : array
        Whose framework, dtype and device to use.
    initial : array, shape (B, C, T, mel), optional
        A latent to start from.

    Returns
    -------
    LatentState
        All of it to be generated.
    """
    return _state(shape, audio_positions(shape[2]), like, initial)


def _state(shape: Sequence[int], positions: Floats, like: Array, initial: Array | None) -> LatentState:
    nn = backend_of(like)
    shape = tuple(shape)
    if initial is not None and tuple(initial.shape) != shape:
        msg = f"initial: got shape {tuple(initial.shape)}, expected {shape}"
        raise ValueError(msg)
    latent = nn.asarray(np.zeros(shape, dtype=np.float32), like) if initial is None else initial
    tokens = nn.cast(patchify(latent), like.dtype)
    batch, count, _ = tokens.shape
    positions = np.broadcast_to(positions, (batch, *positions.shape[1:]))
    return LatentState(tokens, tokens, np.ones((batch, count), np.float32), positions, shape)


def freeze(state: LatentState, latent: Array) -> LatentState:
    """
    Give a stream as a whole: it keeps its tokens and only conditions the other (audio to video, video to audio).

    Parameters
    ----------
    state : LatentState
        The stream.
    latent : array
        Of the state's shape.

    Returns
    -------
    LatentState
        With mask 0, to be given to the model at noise level 0.

    Raises
    ------
    ValueError
        If the shape is another.
    """
    if tuple(latent.shape) != state.shape:
        msg = f"latent: got shape {tuple(latent.shape)}, expected {state.shape}"
        raise ValueError(msg)
    tokens = backend_of(latent).cast(patchify(latent), state.latent.dtype)
    return replace(state, latent=tokens, clean=tokens, mask=np.zeros_like(state.mask), frozen=True)


def add_noise(state: LatentState, scale: float, draw: Callable[[Array], Array]) -> LatentState:
    """
    Make a state noisy before sampling.

    Parameters
    ----------
    state : LatentState
        With all its conditions: noise is drawn for appended tokens too.
    scale : float
        Noise level that sampling begins with, from 0 to 1.
    draw : callable
        Gives standard normal noise in the shape, dtype and on the device of an array.

    Returns
    -------
    LatentState
        Given tokens stay clean.

    Raises
    ------
    ValueError
        If `scale` is not in [0, 1].
    """
    if not 0 <= scale <= 1:
        msg = f"scale: got {scale}, allowed is 0 to 1"
        raise ValueError(msg)
    nn = backend_of(state.latent)
    x, clean, noise = (nn.cast(a, nn.float32) for a in (state.latent, state.clean, draw(state.latent)))
    mask = mask_array(nn, state)
    x = x + (noise - x) * scale
    return replace(state, latent=nn.cast(clean + (x - clean) * mask, state.latent.dtype))


def mask_array(nn: Backend, state: LatentState) -> Array:
    """
    Give a state's mask on the device.

    Parameters
    ----------
    nn : Backend
        The framework.
    state : LatentState
        The state.

    Returns
    -------
    array of float32, shape (B, T, 1)
        The mask.
    """
    x = nn.asarray(np.ascontiguousarray(state.mask[..., None]))
    return nn.cast(x, nn.float32, getattr(state.latent, "device", None))
