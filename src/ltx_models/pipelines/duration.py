"""How long a clip becomes where no number of frames is given: as the duration head of 2.5 reads it off the prompt."""

from __future__ import annotations

import math
from dataclasses import replace

from ltx_models.checkpoints import open_checkpoint
from ltx_models.pipelines import steps
from ltx_models.pipelines.call import Call
from ltx_models.pipelines.checks import check_images
from ltx_models.pipelines.files import Files
from ltx_models.pipelines.resolve import resolve
from ltx_models.pipelines.run import Run
from ltx_models.pipelines.settings import Defaults
from ltx_models.text.duration import duration_frames

Bounds = tuple[float, float]
USUAL: Bounds = (1.0, 20.0)  # seconds, as in the official tools
LONGEST = 60.0  # seconds: the networks were trained on clips of 20
STEP = 8


def with_own_head(files: Files) -> Files:
    """
    Name the duration head that a whole checkpoint holds, where no other was given.

    Parameters
    ----------
    files : Files
        Of a pipeline.

    Returns
    -------
    Files
        With the head, if there is one.
    """
    if files.duration_head is not None:
        return files
    with open_checkpoint(files.transformer, "numpy") as checkpoint:
        own = any(key.startswith("duration_head.") for key in checkpoint.files)
    return replace(files, duration_head=files.transformer) if own else files


def resolve_duration(call: Call, files: Files) -> Bounds | None:
    """
    Say whether the duration head chooses the number of frames, and between which durations.

    Parameters
    ----------
    call : Call
        What is asked for.
    files : Files
        Which may have a duration head.

    Returns
    -------
    (float, float) or None
        The shortest and the longest duration in seconds; None where the frames are given, by number, clip or sound, or
        are the default.

    Raises
    ------
    ValueError
        If a duration is asked for that cannot be chosen.
    """
    size, inputs = call.size, call.inputs
    if size.auto_duration is None:
        led = inputs.retake is not None or inputs.audio is not None
        return USUAL if files.duration_head is not None and size.num_frames is None and not led else None
    check_bounds(size.auto_duration)
    given = {"num_frames": size.num_frames, "audio": inputs.audio, "retake": inputs.retake}
    for name, value in given.items():
        if value is not None:
            msg = f"auto_duration: {name} says how long the clip is; leave one of the two out"
            raise ValueError(msg)
    files.of("duration_head")
    return size.auto_duration


def check_bounds(bounds: Bounds) -> None:
    """
    Refuse what are no two durations in seconds.

    Parameters
    ----------
    bounds : (float, float)
        The shortest and the longest.

    Raises
    ------
    ValueError
        If they are not two finite numbers above 0, in order, and at most a minute.
    """
    numbers = tuple(bounds)
    if len(numbers) != 2 or not all(math.isfinite(n) for n in numbers) or not 0 < numbers[0] <= numbers[1] <= LONGEST:
        msg = (
            f"auto_duration: got {' to '.join(f'{n:g}' for n in numbers)} seconds; expected a shortest and a longest "
            f"duration, above 0 and at most {LONGEST:g}, such as {USUAL[0]:g} and {USUAL[1]:g}"
        )
        raise ValueError(msg)


def most_frames(bounds: Bounds, fps: float) -> int:
    """
    Count the frames of the longest clip that the duration head may choose.

    Parameters
    ----------
    bounds : (float, float)
        The shortest and the longest duration in seconds.
    fps : float
        Frames a second.

    Returns
    -------
    int
        ``1 + 8 k``.

    Raises
    ------
    ValueError
        If no such number lies between the two durations.

    Examples
    --------
    >>> most_frames((1.0, 20.0), 24.0)
    473
    """
    if not fps > 0:
        msg = f"frame rate: got {fps}, must be above 0"
        raise ValueError(msg)
    most = duration_frames(bounds[1], fps, minimum=bounds[0], maximum=bounds[1])
    if most % STEP != 1:
        below = (most - 1) // STEP * STEP + 1
        msg = (
            f"auto_duration: no clip of 1 + {STEP}k frames lasts {bounds[0]:g} to {bounds[1]:g} seconds at {fps:g} "
            f"frames a second; {below} frames last {below / fps:.2f} and {below + STEP} last {(below + STEP) / fps:.2f}"
        )
        raise ValueError(msg)
    return most


def timed(run: Run, call: Call, defaults: Defaults) -> tuple[Run, str]:
    """
    Encode the prompt, ask the duration head how long its clip should be, and complete the request accordingly.

    Parameters
    ----------
    run : Run
        Whose request has bounds of the duration.
    call : Call
        What was asked for.
    defaults : Defaults
        What the recipe uses unless told otherwise.

    Returns
    -------
    run : Run
        Whose request has the number of frames, and the text embeddings, which are not made again.
    note : str
        What was chosen, for the user.

    Raises
    ------
    ValueError
        If a picture or keyframe has no place in a clip of that length.
    """
    request = run.request
    assert request.duration is not None
    least, most = request.duration
    positive, negative = steps.encode_contexts(run)
    seconds = steps.estimate_seconds(run, positive)
    frames = duration_frames(seconds, request.size.fps, minimum=least, maximum=most)
    size = replace(request.size, frames=frames)
    check_images(call.inputs, frames, request.streams)
    found = resolve(call, request.recipe, defaults, request.streams, size)
    found = replace(found, prompt=request.prompt, prompt_embeds=positive, negative_prompt_embeds=negative)
    note = f"duration: {seconds:.2f} s as the duration head says, within {least:g} to {most:g}: {frames} frames"
    return replace(run, request=found), note
