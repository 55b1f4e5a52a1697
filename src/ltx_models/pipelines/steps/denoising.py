"""One stage: from noise, or from latents made noisy again, to latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ltx_models.conditioning import LatentState, add_noise, audio_state, take_slots, unpatchify, video_state
from ltx_models.nn import Array
from ltx_models.pipelines.files import Lora
from ltx_models.pipelines.grid import Size
from ltx_models.pipelines.noise import AUDIO_CHANNELS, beginning, given_tokens
from ltx_models.pipelines.request import Latents, Request
from ltx_models.pipelines.run import Run
from ltx_models.pipelines.steps.conditions import Condition
from ltx_models.pipelines.steps.decoding import preview_picture
from ltx_models.sampling import Guidance, Noise, SamplerStep, State, TextEmbeddings, denoise

SAMPLER_SEED = 10000  # added to the seed, so that a sampler's noise is not that of the first latents
Draw = Callable[[str, Array], Array]


@dataclass(frozen=True, slots=True)
class Stage:
    """
    What differs between the stages of a run.

    Attributes
    ----------
    number : int
        0 or 1.
    size : Size
        Of its result.
    text : mapping of str to TextEmbeddings
        What each stream attends to.
    conditions : mapping of str to sequence of callable
        For each stream, from a state to one with the condition.
    draw : callable
        Noise of the first latents: video's before audio's.
    loras : sequence of (Path, float)
        Files and strengths.
    initial : Latents
        What the stage refines; empty for noise alone.
    """

    number: int
    size: Size
    text: Mapping[str, TextEmbeddings]
    conditions: Mapping[str, Sequence[Condition]]
    draw: Draw
    loras: Sequence[Lora] = ()
    initial: Latents = Latents()  # noqa: RUF009  # frozen


def denoise_stage(run: Run, stage: Stage) -> Latents:
    """
    Denoise once through a schedule.

    Parameters
    ----------
    run : Run
        What is generated, with which networks.
    stage : Stage
        Which stage of it.

    Returns
    -------
    Latents
        Of the streams that were asked for.
    """
    request = run.request
    sigmas = request.sigmas[stage.number]
    model = run.components.transformer(stage.loras)
    streams = {name: _noisy(run, stage, name, model) for name in request.streams}
    phase = f"stage {stage.number + 1}" if len(request.sigmas) > 1 else "denoise"
    final = denoise(
        model,
        State(**streams, text={name: _text(request, stage.text[name], name) for name in streams}),
        sigmas,
        request.samplers[stage.number],
        _guidance(request) if request.recipe.guided and stage.number == 0 else None,
        draw=Noise(request.seed + SAMPLER_SEED) if request.draw is None else request.draw,
        on_step=_listener(run, phase, streams, len(sigmas) - 1),
    )
    latents = {name: unpatchify(s.latent, s.shape) for name, s in final.streams.items()}
    if final.video is not None and final.video.slots is not None:
        latents["keyframes"] = take_slots(final.video, final.video.latent)
    run.components.nn.synchronize(*latents.values())
    return Latents(**latents)


def _noisy(run: Run, stage: Stage, name: str, model: Any) -> LatentState:
    """Make the state of a stream: empty or to be refined, conditioned, with noise."""
    like = run.components.array(np.zeros((1,), np.float32))
    size, initial = stage.size, stage.initial
    if name == "video":
        state = video_state(
            (1, model.config.video.in_channels, *size.latent), fps=size.fps, like=like, initial=initial.video
        )
    else:
        bins = model.config.audio.in_channels // AUDIO_CHANNELS
        state = audio_state((1, AUDIO_CHANNELS, size.audio_frames, bins), like=like, initial=initial.audio)
    for condition in stage.conditions[name]:
        state = condition(state)
    refined = getattr(initial, name) is not None
    sigma = float(run.request.sigmas[stage.number][0]) if refined else 1.0
    draw: Callable[[Array], Array] = partial(stage.draw, name)
    if stage.number == 0 and name in run.request.noise:
        draw = beginning(given_tokens(run.request.noise[name], run.components.nn), draw)
    return add_noise(state, sigma, draw)


def _leads(request: Request, name: str) -> bool:
    """Whether a stream is sound that was given to lead the pictures: then nothing guides it."""
    return name == "audio" and request.sound is not None


def _text(request: Request, text: TextEmbeddings, name: str) -> TextEmbeddings:
    return TextEmbeddings(text.context) if _leads(request, name) else text


def _guidance(request: Request) -> dict[str, Guidance]:
    return {name: Guidance() if _leads(request, name) else request.guidance[name] for name in request.streams}


def _listener(
    run: Run, phase: str, streams: Mapping[str, LatentState], total: int
) -> Callable[[SamplerStep], bool | None]:
    """Pass steps on to the callbacks."""
    components, callbacks = run.components, run.callbacks
    callbacks.report(phase, 0, total)

    def listen(step: SamplerStep) -> bool | None:
        components.nn.synchronize(*step.latents.values())
        callbacks.report(phase, step.index + 1, total)
        if callbacks.preview is not None and "video" in streams and (step.index + 1) % callbacks.preview_every == 0:
            latent = unpatchify(step.denoised["video"], streams["video"].shape)
            callbacks.preview(phase, step.index + 1, preview_picture(components, latent))
        if callbacks.callback_on_step_end is not None:
            return bool(callbacks.callback_on_step_end(phase, step.index, step.sigma, step.latents) is not False)
        return None

    return listen
