"""What a call leaves open, filled in: sizes, schedules and guidance of the recipe and the checkpoint's version."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ltx_models.conditioning import even_keyframes
from ltx_models.pipelines.call import Call, OutputOptions, SamplingOptions
from ltx_models.pipelines.checks import clip_size
from ltx_models.pipelines.grid import Size, fitted
from ltx_models.pipelines.request import Request
from ltx_models.pipelines.settings import NEGATIVE_PROMPT, Defaults, Recipe, schedules
from ltx_models.pipelines.sound import read_sound
from ltx_models.sampling import Guidance


def resolve_size(call: Call, recipe: Recipe, defaults: Defaults, frames: int | None = None) -> tuple[Size, list[str]]:
    """
    Give the size of the result: that of a retake's clip, else what the call says, else the default.

    Parameters
    ----------
    call : Call
        What is asked for.
    recipe : Recipe
        The pipeline.
    defaults : Defaults
        What it uses unless told otherwise.
    frames : int, optional
        In place of the default.

    Returns
    -------
    size : Size
        One that fits the grid.
    notes : list of str
        What was moved, for the user.
    """
    options = call.size
    if call.inputs.retake is not None:
        return clip_size(call.inputs.retake, options, recipe)
    size = Size(
        defaults.height if options.height is None else options.height,
        defaults.width if options.width is None else options.width,
        (frames or defaults.frames) if options.num_frames is None else options.num_frames,
        defaults.fps if options.frame_rate is None else options.frame_rate,
    )
    return fitted(size, two_stages=recipe.two_stages, snap=options.snap)


def resolve(call: Call, recipe: Recipe, defaults: Defaults, streams: tuple[str, ...], size: Size) -> Request:
    """
    Complete a checked call.

    Parameters
    ----------
    call : Call
        What is asked for.
    recipe : Recipe
        The pipeline.
    defaults : Defaults
        What it uses unless told otherwise.
    streams : tuple of str
        What is generated.
    size : Size
        Of the result.

    Returns
    -------
    Request
        All that the run needs to know.
    """
    prompts, inputs, sampling = call.prompts, call.inputs, call.sampling
    n_steps = defaults.steps if sampling.num_inference_steps is None else sampling.num_inference_steps
    first = size.half if recipe.two_stages else size
    led = bool(inputs.references or inputs.retake)
    given = {"video": sampling.latents, "audio": sampling.audio_latents}
    return Request(
        recipe=recipe,
        size=size,
        prompt=prompts.prompt or "",
        negative_prompt=NEGATIVE_PROMPT if prompts.negative_prompt is None else prompts.negative_prompt,
        sigmas=schedules(recipe, n_steps, math.prod(first.latent), sampling.sigmas),
        samplers=(recipe.sampler if led else defaults.sampler, recipe.sampler),
        guidance=resolve_guidance(sampling, defaults, streams),
        prompt_embeds=prompts.prompt_embeds,
        negative_prompt_embeds=prompts.negative_prompt_embeds,
        streams=streams,
        seed=sampling.seed,
        images=inputs.all_images,
        appended=recipe.name == "keyframes",
        image_crf=defaults.image_crf,
        fit=inputs.fit,
        references=tuple(inputs.references),
        sound=None if inputs.audio is None else read_sound(inputs.audio, size.seconds, start=inputs.audio_start),
        retake=inputs.retake,
        generated_keyframes=resolve_keyframes(sampling.generated_keyframes, size.frames),
        draw=sampling.draw,
        noise={name: x for name, x in given.items() if x is not None},
    )


def resolve_guidance(sampling: SamplingOptions, defaults: Defaults, streams: tuple[str, ...]) -> Mapping[str, Guidance]:
    """
    Give the guidance of each stream.

    Parameters
    ----------
    sampling : SamplingOptions
        What is asked for.
    defaults : Defaults
        What is used unless it says otherwise.
    streams : tuple of str
        What is generated; one alone has no other stream to be guided away from.

    Returns
    -------
    mapping of str to Guidance
        For ``"video"`` and ``"audio"``.
    """
    guidance = {"video": defaults.video, "audio": defaults.audio} | dict(sampling.guidance or {})
    if sampling.guidance_scale is not None:
        guidance["video"] = replace(guidance["video"], cfg_scale=sampling.guidance_scale)
    if len(streams) == 1:
        guidance = {name: replace(one, modality_scale=1.0) for name, one in guidance.items()}
    return guidance


def resolve_keyframes(asked: int | Sequence[int], frames: int) -> tuple[int, ...]:
    """
    Give the frames at which keyframes are generated.

    Parameters
    ----------
    asked : int or sequence of int
        How many, or where.
    frames : int
        Frames of the clip.

    Returns
    -------
    tuple of int
        Frames of the clip, each once and in order.

    Raises
    ------
    ValueError
        If there are too many of them, or one does not lie in the clip.

    Examples
    --------
    >>> resolve_keyframes(3, 121), resolve_keyframes([60, 8, 60], 121)
    ((30, 60, 90), (8, 60))
    """
    if isinstance(asked, int):
        return even_keyframes(asked, frames) if asked else ()
    chosen = tuple(sorted({int(frame) for frame in asked}))
    if chosen and not 0 <= chosen[0] <= chosen[-1] < frames:
        msg = f"generated_keyframes: got {list(chosen)}, the clip has frames 0 to {frames - 1}"
        raise ValueError(msg)
    return chosen


def networks_of(
    request: Request, options: OutputOptions, *, previews: bool = False, enhancer: bool = False
) -> list[str]:
    """
    Name the networks that a run needs.

    Parameters
    ----------
    request : Request
        What is generated.
    options : OutputOptions
        What becomes of the latents.
    previews : bool
        Whether pictures are decoded on the way.
    enhancer : bool
        Whether a separate model writes the prompt out.

    Returns
    -------
    list of str
        As `Components` names them, in the order of their use.
    """
    decodes = options.output is not None or options.output_type != "latent"
    video, audio = ("video" in request.streams, "audio" in request.streams)
    retake = request.retake is not None
    needed = {
        "prompt_enhancer": enhancer,
        "text_encoder": request.prompt_embeds is None,
        "connectors": request.prompt_embeds is None,
        "duration_head": request.duration is not None,
        "video_encoder": video and bool(request.images or request.references or retake),
        "audio_encoder": audio and (request.sound is not None or retake),
        "transformer": True,
        "upsampler": video and request.recipe.two_stages,
        "statistics": video and request.recipe.two_stages,
        "video_decoder": video and (decodes or previews),
        "audio_decoder": audio and decodes and request.sound is None,
        "vocoder": audio and decodes and request.sound is None,
    }
    return [name for name, need in needed.items() if need]


def unused(call: Call, recipe: Recipe) -> list[str]:
    """
    Say what a call sets and its pipeline does not use.

    Parameters
    ----------
    call : Call
        What is asked for.
    recipe : Recipe
        The pipeline.

    Returns
    -------
    list of str
        Notes for the user.
    """
    if recipe.guided:
        return []
    values = {
        "negative_prompt": call.prompts.negative_prompt,
        "guidance": call.sampling.guidance,
        "guidance_scale": call.sampling.guidance_scale,
        "num_inference_steps": call.sampling.num_inference_steps,
    }
    names = ", ".join(name for name, value in values.items() if value is not None)
    return [f"{names}: not used by the pipeline {recipe.name!r}"] if names else []
