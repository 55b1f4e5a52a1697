"""The transformer: embeddings in, blocks, output heads out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ltx_models.nn import Array, Backend, Module
from ltx_models.nn.border import check_widest
from ltx_models.transformer.attention import WIDER
from ltx_models.transformer.block import Stream, TransformerBlock
from ltx_models.transformer.config import StreamConfig, TransformerConfig
from ltx_models.transformer.modality import (
    SKIP_AUDIO_SELF,
    SKIP_AUDIO_TO_VIDEO,
    SKIP_VIDEO_SELF,
    SKIP_VIDEO_TO_AUDIO,
    Modality,
    PerturbationMasks,
    Perturbations,
    check_modality,
    self_bias,
    text_bias,
)
from ltx_models.transformer.modulation import MLP, AdaLN, Levels, Timesteps
from ltx_models.transformer.rope import Tables

__all__ = ["Modality", "StreamConfig", "Timesteps", "Transformer", "TransformerConfig"]

STREAMS = (("video", ""), ("audio", "audio_"))
# who perturbs a stream: its self attention, and its attention to the other
SKIPS = {
    "video": (SKIP_VIDEO_SELF, SKIP_AUDIO_TO_VIDEO),
    "audio": (SKIP_AUDIO_SELF, SKIP_VIDEO_TO_AUDIO),
}
CROSS_GATE = {"video": "av_ca_a2v_gate_adaln_single", "audio": "av_ca_v2a_gate_adaln_single"}


class Transformer(Module):
    """
    The transformer of LTX-2 (2.0, 2.3 and 2.5), with video, audio or both.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : TransformerConfig
        Sizes and rules.

    Notes
    -----
    Parameter paths are the official keys without ``model.diffusion_model.``.

    Source: Lightricks/LTX-2, ``ltx_core/model/transformer``.

    Examples
    --------
    >>> from ltx_models.nn import backend
    >>> audio = StreamConfig(in_channels=8, out_channels=8, heads=2, head_dim=8, context_dim=16, max_pos=(20.0,))
    >>> model = Transformer(backend("torch"), TransformerConfig(video=None, audio=audio, layers=1))
    >>> import numpy as np, torch
    >>> tokens = np.arange(3, dtype=np.float32).reshape(1, 1, 3, 1) * 0.04
    >>> given = Modality(
    ...     latent=torch.zeros(1, 3, 8), sigma=torch.ones(1), timesteps=np.ones((1, 1), dtype=np.float32),
    ...     positions=np.concatenate([tokens, tokens + np.float32(0.04)], axis=-1), context=torch.zeros(1, 5, 16))
    >>> video_velocity, audio_velocity = model(audio=given)
    >>> video_velocity is None, tuple(audio_velocity.shape)
    (True, (1, 3, 8))
    """

    def __init__(self, nn: Backend, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.tables = Tables()
        for name, prefix in STREAMS:
            stream = getattr(config, name)
            if stream is not None:
                self._add_stream(nn, prefix, stream)
        if config.video is not None and config.audio is not None:
            for name, stream in (("video", config.video), ("audio", config.audio)):
                setattr(self, f"av_ca_{name}_scale_shift_adaln_single", AdaLN(nn, stream.width, 4))
                setattr(self, CROSS_GATE[name], AdaLN(nn, stream.width, 1))
        self.transformer_blocks = nn.ModuleList([TransformerBlock(nn, config) for _ in range(config.layers)])

    def _add_stream(self, nn: Backend, prefix: str, stream: StreamConfig) -> None:
        width = stream.width
        setattr(self, f"{prefix}patchify_proj", nn.Linear(stream.in_channels, width))
        setattr(self, f"{prefix}adaln_single", AdaLN(nn, width, self.config.rows))
        if self.config.text_modulation and self.config.text_embedding:
            setattr(self, f"{prefix}prompt_adaln_single", AdaLN(nn, width, 2))
        if self.config.keyframe_marker and not prefix:
            self.keyframes_abs_pos_embedding = nn.parameter((1, width))
        if stream.caption_channels is not None:
            projection = MLP(nn, stream.caption_channels, width, "gelu_tanh")
            setattr(self, f"{prefix}caption_projection", projection)
        setattr(self, f"{prefix}scale_shift_table", nn.parameter((2, width)))
        setattr(self, f"{prefix}proj_out", nn.Linear(width, stream.out_channels))

    def forward(
        self,
        video: Modality | None = None,
        audio: Modality | None = None,
        perturbations: Perturbations | None = None,
    ) -> tuple[Array | None, Array | None]:
        """
        Predict velocities.

        Parameters
        ----------
        video, audio : Modality or None
            Each stream's input; None where absent.
        perturbations : sequence of sequence of pair, optional
            For each sample, pairs of a name (``"SKIP_VIDEO_SELF_ATTN"``, ``"SKIP_AUDIO_SELF_ATTN"``,
            ``"SKIP_A2V_CROSS_ATTN"``, ``"SKIP_V2A_CROSS_ATTN"``) and the blocks that leave it out, or None for all
            blocks.

        Returns
        -------
        pair of array or None, shape (B, T, C)
            Velocity of each stream in the dtype of the weights; None where absent.

        Raises
        ------
        ValueError
            If shapes, masks or perturbations do not fit; the text says which.
        """
        inputs = {"video": video, "audio": audio}
        self._check(inputs)
        states = {name: self._preprocess(name, prefix, inputs) for name, prefix in STREAMS}
        batch = next(m.latent.shape[0] for m in inputs.values() if m is not None)
        skips = PerturbationMasks(perturbations, batch, self.config.layers)
        streams = {name: None if state is None else state[0] for name, state in states.items()}
        for i, block in enumerate(self.transformer_blocks):
            for name, stream in streams.items():
                if stream is not None:
                    own, cross = (skips.keep(self.nn, skip, i, stream.x) for skip in SKIPS[name])
                    streams[name] = replace(stream, keep_self=own, keep_cross=cross)
            done = dict(zip(streams, block(*streams.values()), strict=True))
            streams = {name: None if s is None else replace(s, x=done[name]) for name, s in streams.items()}
        results = (self._postprocess(streams[name], states[name], prefix) for name, prefix in STREAMS)
        return next(results), next(results)

    def _check(self, inputs: Mapping[str, Modality | None]) -> None:
        present = {name: m for name, m in inputs.items() if m is not None}
        for name, m in present.items():
            stream = getattr(self.config, name)
            if stream is None:
                msg = f"{name}: this transformer has no {name} stream; leave {name}= out"
                raise ValueError(msg)
            check_modality(name, m, stream)
            elements = m.latent.shape[0] * m.latent.shape[1] * WIDER * stream.width
            cure = "make fewer or smaller frames, or fewer samples at once"
            made = f"{name}: the feed-forward layers make"
            check_widest(self.nn, m.latent, elements, made, cure, work=elements * stream.width)
        sizes = {m.latent.shape[0] for m in present.values()}
        if len(sizes) != 1:
            msg = f"batch sizes: got {sorted(sizes)}; give video, audio, or both with the same batch size"
            raise ValueError(msg)

    def _preprocess(
        self, name: str, prefix: str, inputs: Mapping[str, Modality | None]
    ) -> tuple[Stream, Levels] | None:
        """Make a stream of its input, and give the levels that its output head needs."""
        own, other = inputs[name], inputs["audio" if name == "video" else "video"]
        if own is None:
            return None
        nn, config = self.nn, getattr(self.config, name)
        dtype = getattr(self, f"{prefix}scale_shift_table").dtype
        x = self._mark(getattr(self, f"{prefix}patchify_proj")(nn.cast(own.latent, dtype)), own, prefix)
        batch, tokens, _ = x.shape
        steps = Timesteps.of(nn, own.timesteps, batch, tokens)
        time, embedded = self._embed(f"{prefix}adaln_single", steps, x)
        text = nn.cast(own.context, dtype)
        if config.caption_channels is not None:
            text = getattr(self, f"{prefix}caption_projection")(text)
        positions = own.positions if isinstance(own.positions, np.ndarray) else nn.to_numpy(own.positions)
        positions = positions.astype(np.float32)
        stream = Stream(
            x=x,
            text=text,
            rope=self.tables.get(nn, self.config.rotary(config), positions, x),
            time=time,
            text_bias=text_bias(nn, name, own, dtype),
            bias=self_bias(nn, name, own, dtype),
            enabled=own.enabled,
        )
        if self.config.text_modulation:
            stream = replace(stream, text_time=self._text_time(own, x, prefix))
        if other is not None:
            seen = steps if self.config.cross_timesteps == "own" else Timesteps(other.sigma)
            stream = replace(
                stream,
                cross_rope=self.tables.get(nn, self.config.cross_rotary(), positions[:, :1], x),
                cross_time=self._embed(f"av_ca_{name}_scale_shift_adaln_single", seen, x)[0],
                cross_gate=self._embed(CROSS_GATE[name], Timesteps(other.sigma), x, self.config.cross_timestep_scale)[
                    0
                ],
            )
        return stream, embedded

    def _mark(self, x: Array, own: Modality, prefix: str) -> Array:
        """Add the learned embedding to the tokens of keyframes."""
        if own.keyframes_mask is None or prefix or not self.config.keyframe_marker:
            return x
        mask = self._place(own.keyframes_mask, x)
        return self.nn.xp.where(mask > 0, x + self.keyframes_abs_pos_embedding, x)

    def _text_time(self, own: Modality, x: Array, prefix: str) -> Levels:
        """Give the modulation of the text encoding; zeros where it is a table of the blocks alone."""
        if self.config.text_embedding:
            return self._embed(f"{prefix}prompt_adaln_single", Timesteps(own.sigma), x)[0]
        return Levels(self.nn.xp.zeros_like(x[:1, :1]), None, 1)

    def _embed(self, adaln: str, steps: Timesteps, x: Array, scale: float | None = None) -> tuple[Levels, Levels]:
        """Run one of the embeddings on each noise level."""
        values = self._place(steps.values, x, self.nn.float32)
        index = None if steps.index is None else self._place(steps.index, x)
        rows, embedded = getattr(self, adaln)(values * (scale or self.config.timestep_scale), x.dtype)
        return Levels(rows, index, x.shape[0]), Levels(embedded, index, x.shape[0])

    def _place(self, x: Any, like: Array, dtype: Any = None) -> Array:
        x = self.nn.asarray(x) if isinstance(x, np.ndarray) else x
        return self.nn.cast(x, dtype or x.dtype, getattr(like, "device", None))

    def _postprocess(self, stream: Stream | None, state: tuple[Stream, Levels] | None, prefix: str) -> Array | None:
        """Turn a stream's tokens into velocities."""
        if stream is None or state is None:
            return None
        embedded = state[1]
        table = getattr(self, f"{prefix}scale_shift_table")
        rows = Levels(embedded.values[:, None], embedded.index, embedded.batch).modulation(table)
        y = self.nn.multiply_add(self.nn.layer_norm(stream.x, self.config.eps), rows.scale(1), rows.row(0))
        return getattr(self, f"{prefix}proj_out")(y)
