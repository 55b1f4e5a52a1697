"""One block of the LTX-2 transformer: both streams, each with itself, with text, and with the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ltx_models.nn import Array, Backend, Module
from ltx_models.transformer.attention import Attention, FeedForward, PerturbationMask
from ltx_models.transformer.config import StreamConfig, TransformerConfig
from ltx_models.transformer.modulation import Levels, Modulation

Table = tuple[Array, Array]


@dataclass(frozen=True, slots=True)
class Stream:
    """
    One stream within a forward pass.

    Attributes
    ----------
    x : array, shape (B, T, D)
        Tokens.
    text : array, shape (B, S, D_text)
        Text encoding.
    text_bias, bias : array or None
        Added to the scores of text and self attention.
    rope : pair of array
        Rotary tables of self attention.
    time : Levels
        Modulation rows of each noise level, (N, 6 or 9, D).
    text_time : Levels or None
        Modulation of the text encoding, (B, 2, D) (2.3).
    cross_rope : pair of array, or None
        Rotary tables of the attention between the streams.
    cross_time, cross_gate : Levels or None
        Modulation rows (N, 4, D) of what the streams show each other, and the gate (B, 1, D) of what they take.
    enabled : bool
        Whether the stream is updated.
    keep_self, keep_cross : bool or array
        Whether self attention, and attention to the other stream, are done.
    """

    x: Array
    text: Array
    rope: Table
    time: Levels
    text_bias: Array | None = None
    bias: Array | None = None
    text_time: Levels | None = None
    cross_rope: Table | None = None
    cross_time: Levels | None = None
    cross_gate: Levels | None = None
    enabled: bool = True
    keep_self: PerturbationMask = True
    keep_cross: PerturbationMask = True


class TransformerBlock(Module):
    """
    One block; what belongs to audio has the prefix ``audio_``.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : TransformerConfig
        The whole transformer's.
    """

    def __init__(self, nn: Backend, config: TransformerConfig) -> None:
        super().__init__()
        self.eps = config.eps
        for prefix, stream in (("", config.video), ("audio_", config.audio)):
            if stream is not None:
                self._add_stream(nn, config, prefix, stream)
        if config.video is not None and config.audio is not None:
            self._add_cross(nn, config, config.video, config.audio)

    def _add_stream(self, nn: Backend, config: TransformerConfig, prefix: str, stream: StreamConfig) -> None:
        width = stream.width
        shared = (stream.heads, stream.head_dim, config.eps, config.gated, config.pairing)
        setattr(self, f"{prefix}attn1", Attention(nn, width, width, *shared))
        setattr(self, f"{prefix}attn2", Attention(nn, width, stream.context_dim, *shared))
        setattr(self, f"{prefix}ff", FeedForward(nn, width, stream.ff_bias))
        setattr(self, f"{prefix}scale_shift_table", nn.parameter((config.rows, width)))
        if config.text_modulation:
            setattr(self, f"{prefix}prompt_scale_shift_table", nn.parameter((2, width)))

    def _add_cross(self, nn: Backend, config: TransformerConfig, video: StreamConfig, audio: StreamConfig) -> None:
        shared = (audio.heads, audio.head_dim, config.eps, config.gated, config.pairing)
        self.audio_to_video_attn = Attention(nn, video.width, audio.width, *shared)
        self.video_to_audio_attn = Attention(nn, audio.width, video.width, *shared)
        self.scale_shift_table_a2v_ca_video = nn.parameter((5, video.width))
        self.scale_shift_table_a2v_ca_audio = nn.parameter((5, audio.width))

    def forward(self, video: Stream | None, audio: Stream | None) -> tuple[Array | None, Array | None]:
        """
        Update the tokens of both streams.

        Parameters
        ----------
        video, audio : Stream or None
            The streams; None where absent.

        Returns
        -------
        pair of array or None
            The tokens of each stream, (B, T, D).
        """
        rows_v, rows_a = self._rows(video, ""), self._rows(audio, "audio_")
        vx, ax = self._attend(video, rows_v, ""), self._attend(audio, rows_a, "audio_")
        vx, ax = self._cross(video, audio, vx, ax)
        return self._transform(vx, rows_v, ""), self._transform(ax, rows_a, "audio_")

    def _rows(self, stream: Stream | None, prefix: str) -> Modulation | None:
        """Give the modulation of a stream that is updated."""
        if stream is None or not stream.enabled:
            return None
        return stream.time.modulation(getattr(self, f"{prefix}scale_shift_table"))

    def _norm(self, x: Array) -> Array:
        return self.nn.rms_norm(x, None, self.eps)

    def _attend(self, stream: Stream | None, rows: Modulation | None, prefix: str) -> Array | None:
        """Attend to oneself, then to text."""
        if stream is None or rows is None:
            return None if stream is None else stream.x
        nn, x = self.nn, stream.x
        y = nn.multiply_add(self._norm(x), rows.scale(1), rows.row(0))
        y = getattr(self, f"{prefix}attn1")(y, bias=stream.bias, rope=stream.rope, keep=stream.keep_self)
        x = nn.multiply_add(y, rows.row(2), x)
        y, text, attention = self._norm(x), stream.text, getattr(self, f"{prefix}attn2")
        if stream.text_time is None:
            return x + attention(y, text, bias=stream.text_bias)
        text_rows = stream.text_time.modulation(getattr(self, f"{prefix}prompt_scale_shift_table"))
        y = nn.multiply_add(y, rows.scale(7), rows.row(6))
        text = nn.multiply_add(text, text_rows.scale(1), text_rows.row(0))
        return nn.multiply_add(attention(y, text, bias=stream.text_bias), rows.row(8), x)

    def _cross(self, video: Stream | None, audio: Stream | None, vx: Any, ax: Any) -> tuple[Array | None, Array | None]:
        """Attend to the other stream as it was before either did."""
        if video is None or audio is None:
            return vx, ax
        to_video = video.enabled and video.keep_cross is not False
        to_audio = audio.enabled and audio.keep_cross is not False
        if not to_video and not to_audio:
            return vx, ax
        shown_v, shown_a = self._norm(vx), self._norm(ax)
        if to_video:
            vx = self._take(self.audio_to_video_attn, video, audio, (vx, shown_v, shown_a), ("video", "audio"), 0)
        if to_audio:
            ax = self._take(self.video_to_audio_attn, audio, video, (ax, shown_a, shown_v), ("audio", "video"), 2)
        return vx, ax

    def _take(
        self,
        attention: Any,
        to: Stream,
        of: Stream,
        arrays: tuple[Array, Array, Array],
        names: tuple[str, str],
        row: int,
    ) -> Array:
        """Attend from one stream to the other; `row` is the first of the direction's rows: scale, then shift."""
        assert to.cross_time is not None
        assert to.cross_gate is not None
        assert of.cross_time is not None
        nn, (x, query, shown) = self.nn, arrays
        table, other = (getattr(self, f"scale_shift_table_a2v_ca_{name}") for name in names)
        target_rows, source_rows = to.cross_time.modulation(table[:4]), of.cross_time.modulation(other[:4])
        y = attention(
            nn.multiply_add(query, target_rows.scale(row), target_rows.row(row + 1)),
            nn.multiply_add(shown, source_rows.scale(row), source_rows.row(row + 1)),
            rope=to.cross_rope,
            context_rope=of.cross_rope,
        )
        if to.keep_cross is not True:
            y = y * to.keep_cross
        return nn.multiply_add(y, to.cross_gate.modulation(table[4:]).row(0), x)

    def _transform(self, x: Any, rows: Modulation | None, prefix: str) -> Array | None:
        """Transform each token."""
        if rows is None:
            return x
        y = self.nn.multiply_add(self._norm(x), rows.scale(4), rows.row(3))
        return self.nn.multiply_add(getattr(self, f"{prefix}ff")(y), rows.row(5), x)
