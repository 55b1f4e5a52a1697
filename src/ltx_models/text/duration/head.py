"""The duration head of LTX-2.5: seconds from the text embeddings that the transformer gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import BackendName, Checkpoint, DType, load_component, prefixed
from ltx_models.nn import Array, Backend, Module


@dataclass(frozen=True, slots=True)
class DurationConfig:
    """
    Sizes of the duration head.

    Attributes
    ----------
    video_channels, audio_channels : int
        Channels of the text embeddings of each stream.
    width, heads, queries : int
        Channels, attention heads and learned queries of the pooler.
    hidden : int
        Channels between the two last layers.
    """

    video_channels: int = 4096
    audio_channels: int = 2048
    width: int = 256
    heads: int = 4
    queries: int = 1
    hidden: int = 256

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> DurationConfig:
        """
        Read the embedded configuration of a checkpoint.

        Parameters
        ----------
        config : mapping
            With the sections ``transformer`` and, where sizes differ from the published ones, ``duration_head``.

        Returns
        -------
        DurationConfig
            Absent keys take the published sizes.
        """
        streams, own = config.get("transformer") or {}, config.get("duration_head") or {}
        stored = {
            "video_channels": streams.get("cross_attention_dim"),
            "audio_channels": streams.get("audio_cross_attention_dim"),
            "width": own.get("pooler_hidden_dim"),
            "heads": own.get("num_pooler_heads"),
            "queries": own.get("num_queries"),
            "hidden": own.get("mlp_hidden"),
        }
        return cls(**{name: int(value) for name, value in stored.items() if value is not None})


class PooledAttention(Module):
    """
    Attention of learned queries to all tokens, with the keys of one stacked projection.

    Parameters
    ----------
    nn : Backend
        The framework.
    width, heads : int
        Channels and attention heads.
    """

    def __init__(self, nn: Any, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.parameter((3 * width, width))
        self.in_proj_bias = nn.parameter((3 * width,))
        self.out_proj = nn.Linear(width, width)

    def forward(self, queries: Array, tokens: Array) -> Array:
        """Gather (B, T, D) tokens for (B, Q, D) queries: (B, Q, D)."""
        xp, width = self.nn.xp, queries.shape[-1]
        q, k, v = (
            self._split(x @ xp.permute_dims(self.in_proj_weight[rows, :], (1, 0)) + self.in_proj_bias[rows])
            for x, rows in zip((queries, tokens, tokens), _thirds(width), strict=True)
        )
        out = xp.permute_dims(self.nn.attention(q, k, v), (0, 2, 1, 3))
        return self.out_proj(xp.reshape(out, queries.shape))

    def _split(self, x: Array) -> Array:
        xp = self.nn.xp
        return xp.permute_dims(xp.reshape(x, (*x.shape[:2], self.heads, -1)), (0, 2, 1, 3))


def _thirds(width: int) -> tuple[slice, slice, slice]:
    return slice(0, width), slice(width, 2 * width), slice(2 * width, 3 * width)


class AttentionPooler(Module):
    """
    Learned queries, and their attention.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : DurationConfig
        Sizes.
    """

    def __init__(self, nn: Any, config: DurationConfig) -> None:
        super().__init__()
        self.query_tokens = nn.parameter((config.queries, config.width))
        self.cross_attn = PooledAttention(nn, config.width, config.heads)

    def forward(self, tokens: Array) -> Array:
        """Pool (B, T, D) to (B, Q * D)."""
        xp, batch = self.nn.xp, tokens.shape[0]
        queries = xp.broadcast_to(self.query_tokens[None], (batch, *self.query_tokens.shape))
        return xp.reshape(self.cross_attn(queries, tokens), (batch, -1))


class DurationHead(Module):
    """
    Seconds that a clip of a prompt should last.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : DurationConfig
        Sizes.
    """

    def __init__(self, nn: Any, config: DurationConfig) -> None:
        super().__init__()
        self.config = config
        self.video_input_proj = nn.Linear(config.video_channels, config.width)
        self.audio_input_proj = nn.Linear(config.audio_channels, config.width)
        self.video_modality_emb = nn.parameter((config.width,))
        self.audio_modality_emb = nn.parameter((config.width,))
        self.attention_pooler = AttentionPooler(nn, config)
        self.mlp_hidden = nn.Linear(config.queries * config.width, config.hidden)
        self.mlp_out = nn.Linear(config.hidden, 1)

    def forward(self, video: Array | None = None, audio: Array | None = None) -> Array:
        """
        Estimate the duration.

        Parameters
        ----------
        video : array, shape (B, T, 4096), optional
            The text embeddings of the video stream, as the connectors give them.
        audio : array, shape (B, S, 2048), optional
            Those of the audio stream.

        Returns
        -------
        array, shape (B,)
            Seconds.

        Raises
        ------
        ValueError
            If both are absent, or a shape does not fit.
        """
        config = self.config
        tokens = [
            self._enter(name, x, channels)
            for name, x, channels in (("video", video, config.video_channels), ("audio", audio, config.audio_channels))
            if x is not None
        ]
        if not tokens:
            msg = "duration: got neither video nor audio embeddings; give at least one of them"
            raise ValueError(msg)
        pooled = self.attention_pooler(tokens[0] if len(tokens) == 1 else self.nn.xp.concat(tokens, axis=1))
        return self.nn.xp.exp(self.mlp_out(self.nn.gelu_tanh(self.mlp_hidden(pooled))))[:, 0]

    def _enter(self, name: str, x: Array, channels: int) -> Array:
        if x.ndim != 3 or x.shape[2] != channels:
            msg = f"duration: got {name} embeddings of shape {tuple(x.shape)}, expected (batch, tokens, {channels})"
            raise ValueError(msg)
        layer = getattr(self, f"{name}_input_proj")
        return layer(self.nn.cast(x, layer.weight.dtype)) + getattr(self, f"{name}_modality_emb")


def load_duration_head(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load the duration head of a checkpoint; the parameters are those of `ltx_models.checkpoints.load_component`.

    Parameters
    ----------
    path, backend, dtype, device
        See there.
    config : mapping, optional
        Takes the place of the embedded configuration.

    Returns
    -------
    DurationHead
        A native module, ready for inference.
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> DurationHead:
        return DurationHead(nn, DurationConfig.read(checkpoint.config if config is None else config))

    names = prefixed(("duration_head.", ""))
    return load_component(path, make, names, backend=backend, dtype=dtype, device=device)
