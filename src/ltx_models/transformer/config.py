"""The configuration of a transformer, read from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from ltx_models.transformer.rope import Pairing, Rotary

CrossTimesteps = Literal["own", "other"]
PIXELS_AND_SECONDS = (20.0, 2048.0, 2048.0)
# the same in all files: other tools refuse files that do not say so
_CONSTANT = {
    "_class_name": "AVTransformer3DModel",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "av_cross_ada_norm": True,
    "causal_temporal_positioning": True,
    "cross_attention_norm": True,
    "double_self_attention": False,
    "dropout": 0.0,
    "norm_elementwise_affine": False,
    "num_embeds_ada_norm": 1000,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "positional_embedding_type": "rope",
    "qk_norm": "rms_norm",
    "share_ff": False,
    "standardization_norm": "rms_norm",
    "upcast_attention": False,
    "use_audio_video_cross_attention": True,
    "use_linear_projection": False,
}
# present, and so, where the text encoding is projected before it arrives (2.3); absent in 2.0
_READY_TEXT = {
    "caption_proj_before_connector": True,
    "caption_proj_input_norm": False,
    "caption_projection_first_linear": False,
    "caption_projection_second_linear": False,
}


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """
    One stream of tokens, video or audio.

    Attributes
    ----------
    in_channels, out_channels : int
        Latent channels.
    heads, head_dim : int
        Attention heads and the channels of each.
    context_dim : int
        Channels of the text encoding that the blocks attend to.
    max_pos : tuple of float
        For each position axis the extent that rotary angles span.
    caption_channels : int or None
        Channels of a text encoding that is projected inside the transformer (2.0); None where it arrives ready (2.3).
    ff_bias : bool
        Whether the layers of the feed-forward networks have biases (2.5: those of video have not).
    """

    in_channels: int
    out_channels: int
    heads: int
    head_dim: int
    context_dim: int
    max_pos: tuple[float, ...]
    caption_channels: int | None = None
    ff_bias: bool = True

    @property
    def width(self) -> int:
        """Channels of a token inside the transformer."""
        return self.heads * self.head_dim

    @property
    def text_channels(self) -> int:
        """Channels of the text encoding as it arrives."""
        return self.context_dim if self.caption_channels is None else self.caption_channels


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """
    The whole transformer.

    Attributes
    ----------
    video, audio : StreamConfig or None
        The streams; None where there is none.
    layers : int
        Number of blocks.
    gated : bool
        Attention with a gate for each head (2.3).
    text_modulation : bool
        Text cross attention with scales, shifts and a gate, and a modulated text encoding (2.3).
    text_embedding : bool
        Whether the modulation of the text encoding depends on the noise level; without it, a block's table alone.
    keyframe_marker : bool
        Whether tokens of keyframes get a learned embedding (2.5).
    pairing : {"split", "interleaved"}
        The rotary embedding's pairs of channels.
    double_frequencies : bool
        Whether rotary frequencies are computed in float64.
    theta : float
        Ratio of rotary frequencies.
    middle : bool
        Whether a token's position is the middle of its interval.
    timestep_scale, cross_timestep_scale : float
        What noise levels are multiplied by, in general and for the gates between the streams.
    eps : float
        Of all norms.
    cross_timesteps : {"own", "other"}
        Which noise levels scale and shift the input of the attention between the streams: each token's own, or the
        other stream's (as the first release, 1.0.0, did). The two agree where all tokens of both streams are equally
        noisy.
    """

    video: StreamConfig | None
    audio: StreamConfig | None
    layers: int
    gated: bool = False
    text_modulation: bool = False
    text_embedding: bool = True
    keyframe_marker: bool = False
    pairing: Pairing = "split"
    double_frequencies: bool = True
    theta: float = 10000.0
    middle: bool = True
    timestep_scale: float = 1000.0
    cross_timestep_scale: float = 1000.0
    eps: float = 1e-6
    cross_timesteps: CrossTimesteps = "own"

    def __post_init__(self) -> None:
        if self.video is None and self.audio is None:
            msg = "transformer: neither video nor audio; at least one stream is needed"
            raise ValueError(msg)
        if self.pairing not in {"split", "interleaved"}:
            msg = f"transformer: rope_type is {self.pairing!r}, allowed are 'split' and 'interleaved'"
            raise ValueError(msg)
        if self.cross_timesteps not in {"own", "other"}:
            msg = f"transformer: cross_timesteps is {self.cross_timesteps!r}, allowed are 'own' and 'other'"
            raise ValueError(msg)

    @classmethod
    def of(
        cls, config: Mapping[str, Any], *, video: bool = True, audio: bool = True, **others: Any
    ) -> TransformerConfig:
        """
        Read a checkpoint's configuration.

        Parameters
        ----------
        config : mapping
            The section ``transformer`` of the embedded configuration.
        video, audio : bool
            Which streams the checkpoint has tensors of.
        **others : object
            Attributes that no checkpoint names, such as ``cross_timesteps``.

        Returns
        -------
        TransformerConfig
            The configuration.

        Raises
        ------
        ValueError
            If a needed key is missing, or a value is not supported.

        Examples
        --------
        >>> config = TransformerConfig.of(
        ...     {"num_layers": 2, "num_attention_heads": 4, "attention_head_dim": 16, "cross_attention_dim": 64,
        ...      "caption_proj_before_connector": True}, audio=False)
        >>> config.video.width, config.video.text_channels, config.audio
        (64, 64, None)
        """
        needed = ["num_layers"]
        needed += ["num_attention_heads", "attention_head_dim", "cross_attention_dim"] if video else []
        needed += [f"audio_{name}" for name in needed[1:]] if audio and video else []
        needed += ["audio_num_attention_heads", "audio_attention_head_dim"] if audio and not video else []
        if missing := sorted(set(needed) - config.keys()):
            msg = f"transformer config: missing {', '.join(missing)}; pass a whole one as config={{'transformer': ...}}"
            raise ValueError(msg)
        return cls(
            video=_stream(config, "", PIXELS_AND_SECONDS) if video else None,
            audio=_stream(config, "audio_", PIXELS_AND_SECONDS[:1], alone=not video) if audio else None,
            layers=config["num_layers"],
            gated=bool(config.get("apply_gated_attention", False)),
            text_modulation=bool(config.get("cross_attention_adaln", False)),
            # the official reader of files with audio alone does not look at these
            text_embedding=not video or bool(config.get("use_prompt_adaln_single", True)),
            keyframe_marker=video and bool(config.get("use_keyframes_abs_pos_embedding", False)),
            pairing=cast("Pairing", config.get("rope_type", "split")),
            double_frequencies=config.get("frequencies_precision") == "float64",
            theta=float(config.get("positional_embedding_theta", 10000.0)),
            middle=bool(config.get("use_middle_indices_grid", True)),
            timestep_scale=float(config.get("timestep_scale_multiplier", 1000)),
            cross_timestep_scale=float(config.get("av_ca_timestep_scale_multiplier", 1)),
            eps=float(config.get("norm_eps", 1e-6)),
            **others,
        )

    def section(self) -> dict[str, Any]:
        """
        Write the configuration as checkpoints have it.

        Returns
        -------
        dict of str to object
            From which `of` makes the same configuration.
        """
        section: dict[str, Any] = _CONSTANT | {
            "num_layers": self.layers,
            "apply_gated_attention": self.gated,
            "cross_attention_adaln": self.text_modulation,
            "use_prompt_adaln_single": self.text_embedding,
            "use_keyframes_abs_pos_embedding": self.keyframe_marker,
            "rope_type": self.pairing,
            "frequencies_precision": "float64" if self.double_frequencies else "float32",
            "positional_embedding_theta": self.theta,
            "use_middle_indices_grid": self.middle,
            "timestep_scale_multiplier": self.timestep_scale,
            "av_ca_timestep_scale_multiplier": self.cross_timestep_scale,
            "norm_eps": self.eps,
        }
        for prefix, stream in (("", self.video), ("audio_", self.audio)):
            if stream is not None:
                section |= {
                    f"{prefix}in_channels": stream.in_channels,
                    f"{prefix}out_channels": stream.out_channels,
                    f"{prefix}num_attention_heads": stream.heads,
                    f"{prefix}attention_head_dim": stream.head_dim,
                    f"{prefix}cross_attention_dim": stream.context_dim,
                    f"{prefix}positional_embedding_max_pos": list(stream.max_pos),
                    f"{prefix}ff_bias": stream.ff_bias,
                }
                section |= {"caption_channels": stream.caption_channels} if stream.caption_channels else _READY_TEXT
        return section

    @property
    def rows(self) -> int:
        """How many modulation rows a block has for each stream."""
        return 9 if self.text_modulation else 6

    def rotary(self, stream: StreamConfig) -> Rotary:
        """Give the positions of a stream's attention to itself."""
        return Rotary(stream.width, stream.heads, stream.max_pos, self.theta, self.double_frequencies, self.middle)

    def cross_rotary(self) -> Rotary:
        """Give the positions of the attention between the streams: time only, in the audio stream's heads."""
        assert self.video is not None
        assert self.audio is not None
        most = max(self.video.max_pos[0], self.audio.max_pos[0])
        width, heads = self.audio.width, self.audio.heads
        return Rotary(width, heads, (most,), self.theta, self.double_frequencies, self.middle)


def _stream(config: Mapping[str, Any], prefix: str, max_pos: tuple[float, ...], alone: bool = False) -> StreamConfig:
    # audio channel counts are missing in some files: both are 8 channels x 16 mel bands
    default = None if prefix else 128
    inputs = config.get(f"{prefix}in_channels", config.get(f"{prefix}out_channels", default or 128))
    heads, head_dim = config[f"{prefix}num_attention_heads"], config[f"{prefix}attention_head_dim"]
    ready = bool(config.get("caption_proj_before_connector", False))
    return StreamConfig(
        in_channels=inputs,
        out_channels=config.get(f"{prefix}out_channels", inputs),
        heads=heads,
        head_dim=head_dim,
        context_dim=config.get(f"{prefix}cross_attention_dim", heads * head_dim),
        max_pos=tuple(float(x) for x in config.get(f"{prefix}positional_embedding_max_pos", max_pos)),
        caption_channels=None if ready else config.get("caption_channels", 3840),
        ff_bias=alone or bool(config.get(f"{prefix}ff_bias", True)),
    )
