"""Attention and feed-forward network of the LTX-2 transformer."""

from __future__ import annotations

from typing import Any

from ltx_models.nn import Array, Backend, Module
from ltx_models.transformer.rope import Pairing, rotate

PerturbationMask = bool | Array  # whether an operation is done: for all samples, for none, or (B, 1, 1) ones and zeros


class Attention(Module):
    """
    Attention of a stream to itself, to text or to the other stream.

    Parameters
    ----------
    nn : Backend
        The framework.
    width : int
        Channels of the queries' stream.
    context_width : int
        Channels of what is attended to.
    heads, head_dim : int
        Number of heads and channels of each.
    eps : float
        Of the norms of queries and keys, which span all heads.
    gated : bool
        Whether each head is scaled by 2 * sigmoid of a projection of the queries' input (2.3).
    pairing : {"split", "interleaved"}
        The rotary embedding's pairs of channels.
    """

    def __init__(
        self,
        nn: Backend,
        width: int,
        context_width: int,
        heads: int,
        head_dim: int,
        eps: float = 1e-6,
        gated: bool = False,
        pairing: Pairing = "split",
    ) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.pairing = pairing
        self.to_q = nn.Linear(width, inner)
        self.to_k = nn.Linear(context_width, inner)
        self.to_v = nn.Linear(context_width, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, width)])
        self.q_norm = nn.RMSNorm(inner, eps=eps)
        self.k_norm = nn.RMSNorm(inner, eps=eps)
        self.to_gate_logits: Any = nn.Linear(width, heads) if gated else None

    def forward(
        self,
        x: Array,
        context: Array | None = None,
        *,
        bias: Array | None = None,
        rope: tuple[Array, Array] | None = None,
        context_rope: tuple[Array, Array] | None = None,
        keep: PerturbationMask = True,
    ) -> Array:
        """
        Attend.

        Parameters
        ----------
        x : array, shape (B, T, width)
            Where queries come from.
        context : array, shape (B, S, context_width), optional
            Where keys and values come from; `x` itself by default.
        bias : array, optional
            Added to the scores; broadcastable to (B, heads, T, S).
        rope, context_rope : pair of array, optional
            Rotary tables of queries and keys; the same for both by default.
        keep : bool or array, shape (B, 1, 1)
            Where false or 0, values pass in place of what attention gives (of a stream that attends to itself).

        Returns
        -------
        array, shape (B, T, width)
            What was gathered, gated and projected.
        """
        context = x if context is None else context
        v = self._split(self.to_v(context))
        if keep is False:
            out = v
        else:
            q, k = self._split(self.q_norm(self.to_q(x))), self._split(self.k_norm(self.to_k(context)))
            if rope is not None:
                q = rotate(self.nn, q, rope, self.pairing)
                k = rotate(self.nn, k, context_rope or rope, self.pairing)
            out = self._swap(self.nn.attention(self._swap(q), self._swap(k), self._swap(v), bias))
            if keep is not True:
                out = self.nn.xp.where(keep[..., None] > 0, out, v)
        if self.to_gate_logits is not None:
            out = out * (2 * self.nn.sigmoid(self.to_gate_logits(x)))[..., None]
        return self.to_out[0](self.nn.xp.reshape(out, (*out.shape[:2], -1)))

    def _split(self, x: Array) -> Array:
        return self.nn.xp.reshape(x, (*x.shape[:2], self.heads, -1))  # (B, T, heads, d)

    def _swap(self, x: Array) -> Array:
        return self.nn.xp.permute_dims(x, (0, 2, 1, 3))


WIDER = 4
"""Channels inside of the feed-forward layers over those of the stream."""


class FeedForward(Module):
    """
    Two linear layers with GELU (tanh form) between, four times as wide inside.

    Parameters
    ----------
    nn : Backend
        The framework.
    width : int
        Channels.
    bias : bool
        Whether the layers have biases.
    """

    def __init__(self, nn: Backend, width: int, bias: bool = True) -> None:
        super().__init__()
        self.net = nn.ModuleList([_Inner(nn, width, bias), nn.Identity(), nn.Linear(WIDER * width, width, bias=bias)])

    def forward(self, x: Array) -> Array:
        """
        Transform each token.

        Parameters
        ----------
        x : array, shape (B, T, width)
            Tokens.

        Returns
        -------
        array, shape (B, T, width)
            Tokens.
        """
        return self.net[2](self.net[0](x))


class _Inner(Module):
    def __init__(self, nn: Backend, width: int, bias: bool) -> None:
        super().__init__()
        self.proj = nn.Linear(width, WIDER * width, bias=bias)

    def forward(self, x: Array) -> Array:
        return self.nn.gelu_tanh(self.proj(x))
