"""Pipelines as sequences of the same steps: text, conditions, denoise, upsample, denoise."""

from __future__ import annotations

from collections.abc import Sequence

from ltx_models.pipelines import steps
from ltx_models.pipelines.components import Components
from ltx_models.pipelines.files import Lora
from ltx_models.pipelines.grid import Size
from ltx_models.pipelines.request import Latents, Request
from ltx_models.pipelines.watch import Watch
from ltx_models.sampling import Noise


def generate(parts: Components, ask: Request, watch: Watch) -> Latents:
    """
    Run a pipeline up to its latents.

    Parameters
    ----------
    parts : Components
        The networks; the transformer is released at the end unless they are kept.
    ask : Request
        What to do.
    watch : Watch
        Who listens.

    Returns
    -------
    Latents
        Of the streams that were asked for.
    """
    try:
        return two_stages(parts, ask, watch) if ask.recipe.two_stages else one_stage(parts, ask, watch)
    finally:
        if not parts.keep:
            parts.release()


def one_stage(parts: Components, ask: Request, watch: Watch) -> Latents:
    """
    Denoise at full size: the dev pipeline with guidance, a distilled one without a second stage, a retake.

    Parameters
    ----------
    parts : Components
        The networks.
    ask : Request
        What to do.
    watch : Watch
        Who listens.

    Returns
    -------
    Latents
        Of the streams that were asked for.
    """
    text = steps.encode_text(parts, ask, watch)
    video = steps.find_conditions(parts, ask, ask.size, True, watch)
    given = {"video": video, "audio": steps.find_sound(parts, ask, watch)}
    draw = ask.draw or Noise(ask.seed)
    return steps.run_stage(parts, ask, text, given, draw, watch, stage=0, size=ask.size, loras=_loras(parts, ask, 0))


def two_stages(parts: Components, ask: Request, watch: Watch) -> Latents:
    """
    Denoise at half the size, enlarge, and refine.

    Parameters
    ----------
    parts : Components
        The networks.
    ask : Request
        What to do.
    watch : Watch
        Who listens.

    Returns
    -------
    Latents
        Pictures of the second stage; sound of the one that the recipe names.
    """
    parts.files.of("upsampler")  # refused now, and not after the first stage
    text = steps.encode_text(parts, ask, watch)
    sound = steps.find_sound(parts, ask, watch)
    draw = ask.draw or Noise(ask.seed)

    def stage(number: int, size: Size, initial: Latents | None = None) -> Latents:
        video = steps.find_conditions(parts, ask, size, number == 0, watch)
        given, loras = {"video": video, "audio": sound}, _loras(parts, ask, number)
        return steps.run_stage(
            parts, ask, text, given, draw, watch, stage=number, size=size, loras=loras, initial=initial
        )

    small = stage(0, ask.size.half)
    large = Latents(steps.enlarge(parts, small.video, watch), small.audio)
    fine = stage(1, ask.size, large)
    return Latents(fine.video, small.audio if ask.recipe.first_sound else fine.audio)


def _loras(parts: Components, ask: Request, stage: int) -> Sequence[Lora]:
    """Name the LoRAs of a stage: an in-context one belongs to the first, where its references are."""
    common = () if ask.references and stage == 1 else parts.files.loras
    strength = ask.recipe.strengths[stage]
    if not strength:
        return common
    if parts.files.distilled_lora is None:
        msg = f"distilled_lora: the pipeline {ask.recipe.name!r} needs the distilled LoRA's file"
        raise ValueError(msg)
    return (*common, (parts.files.distilled_lora, strength))
