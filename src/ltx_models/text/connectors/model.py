"""The connectors, and the network of extractor and connectors."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ltx_models.nn import Array, Module
from ltx_models.text.connectors.config import ConnectorConfig
from ltx_models.text.connectors.extractors import EPS, FirstExtractor, SecondExtractor
from ltx_models.transformer.attention import Attention, FeedForward
from ltx_models.transformer.rope import Rotary, Tables

PaddingSide = Literal["left", "right"]


class ConnectorBlock(Module):
    """
    Attention and a feed-forward network, each after a norm and added to its input.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : ConnectorConfig
        Sizes.
    """

    def __init__(self, nn: Any, config: ConnectorConfig) -> None:
        super().__init__()
        width = config.width
        self.attn1 = Attention(
            nn, width, width, config.heads, config.head_dim, gated=config.gated, pairing=config.pairing
        )
        self.ff = FeedForward(nn, width, config.ff_bias)

    def forward(self, x: Array, rope: tuple[Array, Array]) -> Array:
        """Map (B, T, C)."""
        x = x + self.attn1(self.nn.rms_norm(x, None, EPS), rope=rope)
        return x + self.ff(self.nn.rms_norm(x, None, EPS))


class Connector(Module):
    """
    A small transformer over text features in which registers take the place of padding.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : ConnectorConfig
        Sizes.
    """

    def __init__(self, nn: Any, config: ConnectorConfig) -> None:
        super().__init__()
        self.config = config
        self.tables = Tables()
        self.learnable_registers = nn.parameter((config.registers, config.width))
        self.transformer_1d_blocks = nn.ModuleList([ConnectorBlock(nn, config) for _ in range(config.layers)])

    def forward(self, features: Array, order: Array, keep: Array) -> Array:
        """
        Encode.

        Parameters
        ----------
        features : array, shape (B, T, C)
            Of all tokens, padding among them.
        order : array of int, shape (B, T)
            The positions of the tokens, then those of the padding.
        keep : array of bool, shape (B, T, 1)
            Whether a token stands there, in that order.

        Returns
        -------
        array, shape (B, T, C)
            The encoding; all of it counts.
        """
        nn, xp, config = self.nn, self.nn.xp, self.config
        time = features.shape[1]
        x = xp.take_along_axis(features, xp.broadcast_to(order[..., None], features.shape), axis=1)
        registers = nn.cast(self.learnable_registers, x.dtype)
        x = xp.where(keep, x, xp.concat([registers] * (time // config.registers))[None])
        rotary = Rotary(config.width, config.heads, (config.max_pos,), double=config.double, middle=False)
        start = np.arange(time, dtype=np.float32)
        rope = self.tables.get(nn, rotary, np.stack([start, start], axis=-1)[None, None], x)
        for block in self.transformer_1d_blocks:
            x = block(x, rope)
        return nn.rms_norm(x, None, EPS)


class TextConnectors(Module):
    """
    The feature extractor and the connectors.

    Parameters
    ----------
    nn : Backend
        The framework.
    video, audio : ConnectorConfig or None
        The connectors; None for no audio.
    inputs : int
        Channels of all layers of a token together.
    features : int
        Channels that the first feature extractor gives; 0 for the second, which gives what the connectors take.
    """

    def __init__(
        self, nn: Any, video: ConnectorConfig, audio: ConnectorConfig | None, inputs: int, features: int = 0
    ) -> None:
        super().__init__()
        self.registers = video.registers
        if features:
            self.text_embedding_projection: Any = FirstExtractor(nn, inputs, features)
        else:
            self.text_embedding_projection = SecondExtractor(nn, inputs, video.width, audio.width if audio else 0)
        self.video_embeddings_connector = Connector(nn, video)
        self.audio_embeddings_connector: Any = None
        if audio is not None:
            self.audio_embeddings_connector = Connector(nn, audio)

    def forward(
        self, hidden_states: Array, attention_mask: Array, *, padding_side: PaddingSide = "left"
    ) -> tuple[Array, Array | None, Array]:
        """
        Encode prompts.

        Parameters
        ----------
        hidden_states : array, shape (layers + 1, B, T, D)
            Of the language model: the embeddings, and what each layer gives.
        attention_mask : array, shape (B, T)
            1 where a token is, 0 where padding is.
        padding_side : {"left", "right"}
            Where the padding stands.

        Returns
        -------
        video : array, shape (B, T, C)
            The encoding for the video stream, in the dtype of the weights.
        audio : array, shape (B, T, C'), or None
            The encoding for the audio stream; None where the checkpoint has no audio.
        mask : array, shape (B, T)
            All ones, as registers have taken the place of padding; in the dtype of `attention_mask`.

        Raises
        ------
        ValueError
            If shapes do not fit the checkpoint or one another, T is no multiple of the registers, or the padding stands
            on another side than was said.
        """
        nn = self.nn
        order, keep = self._layout(hidden_states, attention_mask, padding_side)
        features = self._features(hidden_states, attention_mask)
        order, keep = (nn.on_device(nn.asarray(x), hidden_states) for x in (order, keep))
        video = self.video_embeddings_connector(features[0], order, keep)
        audio = None
        if self.audio_embeddings_connector is not None:
            audio = self.audio_embeddings_connector(features[1], order, keep)
        return video, audio, nn.xp.ones_like(attention_mask)

    def features(
        self, hidden_states: Array, attention_mask: Array, *, padding_side: PaddingSide = "left"
    ) -> tuple[Array, Array | None]:
        """
        Give what the connectors take, where the tokens stand: what the official trainer keeps of a caption.

        Parameters
        ----------
        hidden_states, attention_mask, padding_side
            As `forward` takes them.

        Returns
        -------
        video : array, shape (B, T, C)
            In the dtype of the weights; zeros, through the projection, where padding is.
        audio : array, shape (B, T, C'), or None
            None where the checkpoint has no audio.

        Raises
        ------
        ValueError
            As `forward`.
        """
        self._layout(hidden_states, attention_mask, padding_side)
        video, audio = self._features(hidden_states, attention_mask)
        return video, audio if self.audio_embeddings_connector is not None else None

    def _features(self, hidden_states: Array, attention_mask: Array) -> tuple[Array, Array | None]:
        nn = self.nn
        hidden = nn.cast(nn.xp.permute_dims(hidden_states, (1, 2, 3, 0)), nn.float32)
        found: tuple[Array, Array | None] = self.text_embedding_projection(hidden, attention_mask[..., None, None] > 0)
        return found

    def _layout(self, hidden_states: Array, attention_mask: Array, side: str) -> tuple[Any, Any]:
        """Check the arguments; say where each token goes and which places hold one."""
        nn = self.nn
        if not nn.is_array(hidden_states) or not nn.is_array(attention_mask):
            msg = f"hidden_states, attention_mask: expected arrays of {nn.name}, got {type(hidden_states).__name__}"
            raise ValueError(msg)
        inputs = self.text_embedding_projection.inputs
        shape = tuple(hidden_states.shape)
        if len(shape) != 4 or 0 in shape or shape[0] * shape[3] != inputs:
            msg = (
                f"hidden_states: got shape {shape}, expected (layers + 1, batch, tokens, width) with layers + 1 times "
                f"width = {inputs}; is this the language model of the checkpoint?"
            )
            raise ValueError(msg)
        if tuple(attention_mask.shape) != shape[1:3]:
            msg = f"attention_mask: got shape {tuple(attention_mask.shape)}, expected (batch, tokens) = {shape[1:3]}"
            raise ValueError(msg)
        if shape[2] % self.registers:
            msg = f"hidden_states: {shape[2]} tokens are no multiple of the {self.registers} registers; pad to one"
            raise ValueError(msg)
        if side not in {"left", "right"}:
            msg = f"padding_side: got {side!r}, allowed are 'left' and 'right'"
            raise ValueError(msg)
        if not nn.all_finite(hidden_states):
            msg = "hidden_states: NaN or infinite values; a model in float16 overflows, load it in bfloat16"
            raise ValueError(msg)
        mask = np.asarray(nn.to_numpy(attention_mask)) > 0
        count = mask.sum(axis=1, keepdims=True)
        place = np.arange(shape[2])[None]
        wanted = place >= shape[2] - count if side == "left" else place < count
        if wrong := np.flatnonzero((mask != wanted).any(axis=1) | (count[:, 0] == 0)).tolist():
            msg = f"attention_mask: sample {wrong[0]} has no tokens, or its padding is not all on the {side}"
            raise ValueError(msg)
        return np.argsort(~mask, axis=1, kind="stable"), (place < count)[..., None]
