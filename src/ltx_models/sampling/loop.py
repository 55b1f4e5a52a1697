"""The loop that joins a transformer, guidance and a sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ltx_models.conditioning import LatentState, mask_array
from ltx_models.nn import Array, backend_of
from ltx_models.sampling.guidance import Guidance
from ltx_models.sampling.samplers import Blend, Draw, Euler, Latents, Prediction, Sampler, SamplerStep
from ltx_models.sampling.schedules import check_sigmas
from ltx_models.sampling.steps import denoised_of
from ltx_models.transformer import Modality, Timesteps
from ltx_models.transformer.modality import (
    SKIP_AUDIO_SELF,
    SKIP_AUDIO_TO_VIDEO,
    SKIP_VIDEO_SELF,
    SKIP_VIDEO_TO_AUDIO,
    Perturbations,
)

SELF = {"video": SKIP_VIDEO_SELF, "audio": SKIP_AUDIO_SELF}


@dataclass(frozen=True, slots=True)
class TextEmbeddings:
    """
    The text embeddings that a stream attends to.

    Attributes
    ----------
    context : array, shape (B, S, C)
        Of the prompt.
    negative : array, shape (B, S, C), optional
        Of the negative prompt; needed for guidance with a cfg_scale other than 1.
    mask, negative_mask : array, optional
        See `Modality`.
    """

    context: Array
    negative: Array | None = None
    mask: Array | None = None
    negative_mask: Array | None = None


@dataclass(frozen=True, slots=True)
class State:
    """
    What is sampled.

    Attributes
    ----------
    video, audio : LatentState or None
        The streams; None where absent.
    text : mapping of str to TextEmbeddings
        For each stream, by the names ``"video"`` and ``"audio"``.
    """

    video: LatentState | None = None
    audio: LatentState | None = None
    text: Mapping[str, TextEmbeddings] = field(default_factory=dict)

    @property
    def streams(self) -> dict[str, LatentState]:
        """The streams that are there, video first."""
        return {name: s for name, s in (("video", self.video), ("audio", self.audio)) if s is not None}


class Cancelled(Exception):
    """
    Sampling was stopped by ``on_step``.

    Attributes
    ----------
    state : State
        As it was after the last step.
    """

    def __init__(self, state: State, step: SamplerStep) -> None:
        super().__init__(f"stopped after step {step.index + 1} of {step.total}")
        self.state = state


class Noise:
    """
    A source of standard normal noise, the same on every framework and device.

    Parameters
    ----------
    seed : int
        Where the sequence begins.

    Examples
    --------
    >>> import torch
    >>> a, b = (Noise(1)("video", torch.zeros(2, 3)) for _ in range(2))
    >>> bool((a == b).all()), a.shape
    (True, torch.Size([2, 3]))
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def __call__(self, name: str, like: Array) -> Array:
        """
        Draw on the host.

        Parameters
        ----------
        name : str
            The stream; of no effect.
        like : array
            Whose shape, dtype and device to use.

        Returns
        -------
        array
            The noise.
        """
        drawn = self._generator.standard_normal(tuple(like.shape), dtype=np.float32)
        return backend_of(like).asarray(drawn, like)

    @property
    def state(self) -> dict[str, Any]:
        """Where in the sequence it is, as JSON values; set it, and the same noise follows."""
        return dict(self._generator.bit_generator.state)

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        self._generator.bit_generator.state = value


def denoise(
    model: Any,
    state: State,
    sigmas: Sequence[float],
    sampler: Sampler | None = None,
    guidance: Guidance | Mapping[str, Guidance] | None = None,
    *,
    draw: Draw | None = None,
    on_step: Callable[[SamplerStep], bool | None] | None = None,
) -> State:
    """
    Sample both streams together.

    Parameters
    ----------
    model : Transformer
        Called with `Modality` for each stream; gives velocities.
    state : State
        Noisy streams (see `ltx_models.conditioning.add_noise`) and their text.
    sigmas : sequence of float
        The schedule, falling, from what the state was made noisy with.
    sampler : Sampler, optional
        `Euler` by default.
    guidance : Guidance or mapping of str to Guidance, optional
        For both streams, or each; none by default.
    draw : callable, optional
        Noise for samplers that add some: ``Noise(10000)`` by default.
    on_step : callable, optional
        Called after every step with a `SamplerStep`, whose arrays may still be being computed. What it returns stops
        the run if it is ``False``.

    Returns
    -------
    State
        With clean latents.

    Raises
    ------
    ValueError
        If the schedule is none, a stream lacks its text or a needed negative prompt.
    Cancelled
        If `on_step` returned ``False``.

    Notes
    -----
    In a step nothing waits for the device. Passes (prompt, negative prompt, perturbed, without the other stream) run
    one after another, each only if a stream's guidance asks for it.
    """
    levels = check_sigmas(sigmas)
    predictor = _Predictor(model, state, guidance)
    latents = {name: s.latent for name, s in state.streams.items()}
    blends = {name: _blend(s) for name, s in state.streams.items()}
    steps = (sampler or Euler()).run(predictor, latents, blends, levels, draw or Noise(10000))
    for step in steps:
        latents = step.latents
        backend_of(next(iter(latents.values()))).async_eval(*latents.values())
        predictor.step += 1
        if on_step is not None and on_step(step) is False:
            raise Cancelled(_done(state, latents), step)
    return _done(state, latents)


def _done(state: State, latents: Latents) -> State:
    states = {name: replace(s, latent=latents[name]) for name, s in state.streams.items()}
    return replace(state, video=states.get("video"), audio=states.get("audio"))


def _blend(state: LatentState) -> Blend:
    nn = backend_of(state.latent)
    return Blend(state.clean, mask_array(nn, state), bool((state.mask != 1).any()), bool((state.mask == 0).any()))


class _Predictor:
    """Asks the model for denoised latents: all passes that guidance needs, each made of what the host knows."""

    def __init__(self, model: Any, state: State, guidance: Guidance | Mapping[str, Guidance] | None) -> None:
        self.model = model
        self.step = 0
        self.streams = state.streams
        if not self.streams:
            msg = "state: neither video nor audio"
            raise ValueError(msg)
        plain = guidance if isinstance(guidance, Guidance) else Guidance()
        named = guidance if isinstance(guidance, Mapping) else {}
        self.guidance = {name: named.get(name, plain) for name in self.streams}
        self.text = self._texts(state)
        # levels that tokens have in units of sigma: found once, so that no step has to look at values
        self.levels = {name: np.unique(s.mask, return_inverse=True) for name, s in self.streams.items()}
        self.masks = {name: _blend(s).mask for name, s in self.streams.items()}
        self.attention = {name: self._attention(s) for name, s in self.streams.items()}
        self.last: Latents = {}

    def _texts(self, state: State) -> dict[str, TextEmbeddings]:
        for name, guidance in self.guidance.items():
            text = state.text.get(name)
            if text is None:
                msg = f"state: no text for {name}; give State(..., text={{{name!r}: TextEmbeddings(context)}})"
                raise ValueError(msg)
            if guidance.negates and text.negative is None:
                scale = guidance.cfg_scale
                msg = f"guidance of {name}: cfg_scale is {scale}, which needs TextEmbeddings(context, negative)"
                raise ValueError(msg)
        return dict(state.text)

    @staticmethod
    def _attention(state: LatentState) -> Array | None:
        nn = backend_of(state.latent)
        if state.attention_mask is None:
            return None
        return nn.cast(nn.asarray(state.attention_mask), nn.float32, getattr(state.latent, "device", None))

    def __call__(self, latents: Latents, sigma: float) -> Prediction:
        skipped = {name for name, g in self.guidance.items() if g.skips(self.step) and name in self.last}
        active = {name: g for name, g in self.guidance.items() if name not in skipped}
        if not active:
            return Prediction(dict(self.last), {})
        cond = self._pass(latents, sigma, skipped)
        uncond: Latents = {}
        perturbed: Latents = {}
        alone: Latents = {}
        if any(g.negates for g in active.values()):
            uncond = self._pass(latents, sigma, skipped, negative=True)
        if any(g.perturbs for g in active.values()):
            skips = [[SELF[name], list(g.stg_blocks)] for name, g in active.items() if g.perturbs]
            perturbed = self._pass(latents, sigma, skipped, skips=skips)
        if any(g.isolates for g in active.values()):
            cross = [[SKIP_AUDIO_TO_VIDEO, None], [SKIP_VIDEO_TO_AUDIO, None]]
            alone = self._pass(latents, sigma, skipped, skips=cross)
        for name, g in active.items():
            self.last[name] = g.apply(cond[name], uncond.get(name), perturbed.get(name), alone.get(name))
        return Prediction({name: self.last[name] for name in latents}, uncond)

    def _pass(
        self, latents: Latents, sigma: float, skipped: set[str], *, negative: bool = False, skips: Any = None
    ) -> Latents:
        """Run the model once and give denoised latents."""
        modalities = {
            name: self._modality(name, x, sigma, name not in skipped, negative) for name, x in latents.items()
        }
        batch = next(iter(latents.values())).shape[0]
        perturbations: Perturbations | None = None if skips is None else [skips] * batch
        velocities = self.model(**modalities, perturbations=perturbations)
        by_stream = dict(zip(("video", "audio"), velocities, strict=True))
        return {name: denoised_of(x, by_stream[name], self.masks[name] * sigma) for name, x in latents.items()}

    def _modality(self, name: str, x: Array, sigma: float, enabled: bool, negative: bool) -> Modality:
        state, text = self.streams[name], self.text[name]
        values, index = self.levels[name]
        negative = negative and text.negative is not None
        batch = x.shape[0]
        own = 0.0 if state.frozen else sigma
        nn = backend_of(x)
        steps = np.full(batch, own, np.float32)
        spread = Timesteps(values.astype(np.float32) * np.float32(sigma), index.reshape(state.mask.shape))
        return Modality(
            latent=x,
            sigma=nn.cast(nn.asarray(steps), nn.float32, getattr(x, "device", None)),
            timesteps=spread if len(values) > 1 else Timesteps(steps * values[0]),
            positions=state.positions,
            context=text.negative if negative else text.context,
            context_mask=text.negative_mask if negative else text.mask,
            attention_mask=self.attention[name],
            enabled=enabled,
            keyframes_mask=state.keyframes_mask,
        )
