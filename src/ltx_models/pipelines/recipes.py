"""Pipelines as sequences of the same steps: text, conditions, denoise, upsample, denoise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ltx_models.pipelines import steps
from ltx_models.pipelines.files import Lora
from ltx_models.pipelines.request import Latents
from ltx_models.pipelines.run import Run
from ltx_models.sampling import Noise


def generate(run: Run) -> Latents:
    """
    Run a pipeline up to its latents.

    Parameters
    ----------
    run : Run
        What is generated; the networks are released at the end unless they are kept.

    Returns
    -------
    Latents
        Of the streams that were asked for.
    """
    try:
        recipe = two_stages if run.request.recipe.two_stages else one_stage
        return recipe(run) if run.kept is None else run.kept.latents(run.components, "latents", lambda: recipe(run))
    finally:
        if not run.components.keep:
            run.components.release()


def one_stage(run: Run) -> Latents:
    """
    Denoise at full size: the dev pipeline with guidance, a distilled one without a second stage, a retake.

    Parameters
    ----------
    run : Run
        What is generated.

    Returns
    -------
    Latents
        Of the streams that were asked for.
    """
    request = run.request
    text = steps.encode_text(run)
    pictures = [*steps.encode_pictures(run, request.size, first_stage=True), *steps.ask_keyframes(run, request.size)]
    conditions = {"video": pictures, "audio": steps.encode_sound(run)}
    draw = request.draw or Noise(request.seed)
    return steps.denoise_stage(run, steps.Stage(0, request.size, text, conditions, draw, _loras(run, 0)))


def two_stages(run: Run) -> Latents:
    """
    Denoise at half the size, upsample, and refine.

    Parameters
    ----------
    run : Run
        What is generated; sound alone is refined as it is, as nothing of it is upsampled.

    Returns
    -------
    Latents
        Pictures of the second stage; sound of the one that the recipe names.
    """
    request = run.request
    text = steps.encode_text(run)
    sound = steps.encode_sound(run)
    draw = request.draw or Noise(request.seed)
    size = request.size.half
    pictures = [*steps.encode_pictures(run, size, first_stage=True), *steps.ask_keyframes(run, size)]
    conditions = {"video": pictures, "audio": sound}
    first = steps.Stage(0, size, text, conditions, draw, _loras(run, 0))
    small = _first(run, first)
    if small.video is None and request.recipe.first_sound:
        return small
    large = small if small.video is None else replace(small, video=steps.upsample(run, small.video))
    conditions = conditions | {"video": steps.encode_pictures(run, request.size, first_stage=False)}
    second = replace(first, number=1, size=request.size, conditions=conditions, loras=_loras(run, 1), initial=large)
    fine = steps.denoise_stage(run, second)
    sound_of = small if request.recipe.first_sound else fine
    return Latents(fine.video, sound_of.audio, small.keyframes)


def _first(run: Run, stage: steps.Stage) -> Latents:
    """Denoise the first of two stages, unless a run before kept its latents; the second goes on with its noise."""
    if run.kept is None:
        return steps.denoise_stage(run, stage)
    draw = stage.draw
    assert isinstance(draw, Noise)  # a kept run refuses another source
    return run.kept.latents(run.components, "stage-1", lambda: steps.denoise_stage(run, stage), draw)


def _loras(run: Run, stage: int) -> Sequence[Lora]:
    """Name the LoRAs of a stage: an in-context one belongs to the first, where its references are."""
    files, request = run.components.files, run.request
    common = () if request.references and stage == 1 else files.loras
    strength = request.recipe.strengths[stage]
    if not strength:
        return common
    if files.distilled_lora is None:
        msg = f"distilled_lora: the pipeline {request.recipe.name!r} needs the distilled LoRA's file"
        raise ValueError(msg)
    return (*common, (files.distilled_lora, strength))
