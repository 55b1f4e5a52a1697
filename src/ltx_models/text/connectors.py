"""
The text connectors of LTX-2 and LTX-2.3: hidden states of the language model to what the transformer attends to.

First a feature extractor joins all layers of a token and projects them; then, for video and for audio, a small
transformer in which learned registers take the place of padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from ltx_models.checkpoints import BackendName, Checkpoint, CheckpointError, DType, load_component, prefixed, section_of
from ltx_models.nn import Array, Backend, Module
from ltx_models.text.gemma4 import TextEncoderFile, check_pair
from ltx_models.transformer.attention import Attention, FeedForward
from ltx_models.transformer.rope import Pairing, Rotary, Tables

PaddingSide = Literal["left", "right"]
EPS = 1e-6
# what tells the second feature extractor from the first, and the only values it has been published with
V2_KEYS = {
    "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
    "caption_proj_input_norm": False,
    "caption_projection_second_linear": False,
}
PREFIXES = tuple(
    (f"{before}{name}", name)
    for before in ("model.diffusion_model.", "")
    for name in ("video_embeddings_connector.", "audio_embeddings_connector.")
)


@dataclass(frozen=True, slots=True)
class ConnectorConfig:
    """
    One connector.

    Attributes
    ----------
    heads, head_dim : int
        Attention heads, and channels of each.
    layers : int
        Blocks.
    registers : int
        Learned vectors that stand where padding was.
    max_pos : float
        The position that rotary angles span.
    gated : bool
        Whether attention heads are gated (2.3).
    pairing : {"split", "interleaved"}
        The rotary embedding's pairs of channels.
    double : bool
        Whether its frequencies are computed in float64.
    ff_bias : bool
        Whether the feed-forward networks have biases.
    """

    heads: int
    head_dim: int
    layers: int
    registers: int = 128
    max_pos: float = 1.0
    gated: bool = False
    pairing: Pairing = "split"
    double: bool = False
    ff_bias: bool = True

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.heads * self.head_dim

    @classmethod
    def read(cls, section: Mapping[str, Any], prefix: str = "") -> ConnectorConfig:
        """
        Read the section ``transformer`` of an embedded configuration.

        Parameters
        ----------
        section : mapping
            ``config["transformer"]``.
        prefix : str
            Which connector: ``""`` or ``"audio_"``; that of audio falls back to the sizes of video's.

        Returns
        -------
        ConnectorConfig
            Keys that the official code reads; others are ignored.

        Raises
        ------
        ValueError
            If the rotary embedding is of a kind that is not known.

        Notes
        -----
        Source: the configurators of Lightricks/LTX-2; absent keys take their code's defaults.
        """
        pairing = str(section.get("rope_type", "split"))
        if pairing not in {"split", "interleaved"}:
            msg = f"transformer.rope_type: got {pairing!r}, allowed are 'split' and 'interleaved'"
            raise ValueError(msg)

        def size(name: str, default: int) -> int:
            fallback = section.get(f"connector_{name}", default)
            return int(section.get(f"{prefix}connector_{name}", fallback))

        return cls(
            heads=size("num_attention_heads", 30),
            head_dim=size("attention_head_dim", 128),
            layers=size("num_layers", 2),
            registers=int(section.get("connector_num_learnable_registers") or 128),
            max_pos=float(section.get("connector_positional_embedding_max_pos", [1])[0]),
            gated=bool(section.get("connector_apply_gated_attention", False)),
            pairing=cast(Pairing, pairing),
            double=section.get("frequencies_precision") == "float64",
            ff_bias=bool(section.get("connector_ff_bias", True)),
        )


def is_second_extractor(section: Mapping[str, Any]) -> bool:
    """
    Choose the feature extractor that a configuration asks for.

    Parameters
    ----------
    section : mapping
        ``config["transformer"]``.

    Returns
    -------
    bool
        True for that of 2.3, which projects for video and audio apart.

    Raises
    ------
    ValueError
        If the configuration asks for something between the two.

    Examples
    --------
    >>> is_second_extractor({}), is_second_extractor(V2_KEYS)
    (False, True)
    """
    flags = {key: section[key] for key in V2_KEYS if key in section}
    if flags and flags != V2_KEYS:
        msg = f"transformer: got {flags}; known are none of these keys (2.0), or {V2_KEYS} (2.3)"
        raise ValueError(msg)
    return bool(flags)


class FirstExtractor(Module):
    """
    The feature extractor of 2.0: each layer is scaled to a common range over the tokens of a sample; one projection.

    Parameters
    ----------
    nn : Backend
        The framework.
    inputs, outputs : int
        Channels of all layers of a token together, and of a feature.
    """

    def __init__(self, nn: Any, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.aggregate_embed = nn.Linear(inputs, outputs, bias=False)

    def forward(self, hidden: Array, keep: Array) -> tuple[Array, Array]:
        """Map (B, T, D, L) in float32, with (B, T, 1, 1) true where a token is, to (B, T, C), the same for both."""
        nn, xp = self.nn, self.nn.xp
        batch, time, width, layers = hidden.shape
        tokens = xp.sum(nn.cast(keep, hidden.dtype), axis=1, keepdims=True)
        kept = xp.where(keep, hidden, xp.zeros_like(hidden))
        mean = xp.sum(kept, axis=(1, 2), keepdims=True) / (tokens * width + EPS)
        huge = xp.full_like(hidden, float("inf"))
        low = xp.min(xp.where(keep, hidden, huge), axis=(1, 2), keepdims=True)
        high = xp.max(xp.where(keep, hidden, -huge), axis=(1, 2), keepdims=True)
        x = xp.where(keep, 8 * (hidden - mean) / (high - low + EPS), xp.zeros_like(hidden))
        x = self.aggregate_embed(nn.cast(x.reshape(batch, time, width * layers), self.aggregate_embed.weight.dtype))
        return x, x


class SecondExtractor(Module):
    """
    The feature extractor of 2.3: each layer of a token is scaled to a root mean square of 1; two projections.

    Parameters
    ----------
    nn : Backend
        The framework.
    inputs : int
        Channels of all layers of a token together.
    video, audio : int
        Channels of a feature for video, and for audio; 0 for none.
    """

    def __init__(self, nn: Any, inputs: int, video: int, audio: int) -> None:
        super().__init__()
        self.inputs, self.video, self.audio = inputs, video, audio
        self.video_aggregate_embed = nn.Linear(inputs, video)
        if audio:
            self.audio_aggregate_embed = nn.Linear(inputs, audio)

    def forward(self, hidden: Array, keep: Array) -> tuple[Array, Array | None]:
        """Map (B, T, D, L) in float32, with (B, T, 1, 1) true where a token is, to (B, T, C) of each."""
        nn, xp = self.nn, self.nn.xp
        batch, time, width, layers = hidden.shape
        x = hidden / xp.sqrt(xp.mean(hidden**2, axis=2, keepdims=True) + EPS)
        x = xp.where(keep, x, xp.zeros_like(x)).reshape(batch, time, width * layers)

        def project(linear: Any, outputs: int) -> Array:
            return linear(nn.cast(x * sqrt(outputs / width), linear.weight.dtype))

        video = project(self.video_aggregate_embed, self.video)
        return video, project(self.audio_aggregate_embed, self.audio) if self.audio else None


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


def load_connectors(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
    projections: str | Path | None = None,
) -> Any:
    """
    Load the feature extractor and the connectors of a checkpoint.

    Parameters
    ----------
    path, backend, dtype, device
        As every loader takes them, with the same errors: see `ltx_models.checkpoints.load_component`.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, or its section ``transformer``.
    projections : path, optional
        The text encoder's file, where that holds the projections, as in 2.5.

    Returns
    -------
    TextConnectors
        A native module, ready for inference.

    Raises
    ------
    ValueError
        If the text encoder of `projections` does not belong to the transformer.

    Examples
    --------
    >>> connectors = load_connectors("ltx-2.3.safetensors", backend="mlx")  # doctest: +SKIP
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> TextConnectors:
        section = section_of(checkpoint, config, "transformer")
        if projections is not None:
            gemma = TextEncoderFile.read(Path(projections)).config
            check_pair(checkpoint.metadata, gemma, f"{path} and {projections}")
        second = is_second_extractor(section)
        key = f"text_embedding_projection.{'video_aggregate_embed' if second else 'aggregate_embed'}.weight"
        if key not in checkpoint.files:
            msg = (
                f"{path}: no {key}; this file holds no text connectors, or its configuration is that of another version"
            )
            raise CheckpointError(msg)
        outputs, inputs = checkpoint.shape(key)
        heard = any("audio_embeddings_connector." in name for name in checkpoint.files)
        audio = ConnectorConfig.read(section, "audio_") if heard else None
        return TextConnectors(nn, ConnectorConfig.read(section), audio, inputs, 0 if second else outputs)

    names = prefixed(*PREFIXES, ("text_embedding_projection.", "text_embedding_projection."))
    return load_component(path, make, names, backend=backend, dtype=dtype, device=device, beside=projections)
