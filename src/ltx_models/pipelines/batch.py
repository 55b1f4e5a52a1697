"""Several videos of one call: a call of its own for each, and their results as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltx_models.nn import backend_of
from ltx_models.pipelines.call import Call
from ltx_models.pipelines.request import Latents, LTX2Output, Request
from ltx_models.pipelines.settings import SEED

SEEDS = 2**62  # that a generator draws from
NOISE = ("latents", "audio_latents")  # the keywords of noise that is given


def calls(
    prompt: Any, negative_prompt: Any, keywords: Mapping[str, Any], *, count: int = 1, generator: Any = None
) -> list[Call]:
    """
    Make a call for each video.

    Parameters
    ----------
    prompt, negative_prompt : str, sequence of str, or None
        Of one video, or of several.
    keywords : mapping
        Of every call, as `Call.of` takes them.
    count : int
        Videos of each prompt.
    generator : torch.Generator, numpy.random.Generator, or a sequence of them, optional
        Draws the seeds.

    Returns
    -------
    list of Call
        The videos of the first prompt first; seeds count up where no generator draws them.

    Raises
    ------
    ValueError
        If numbers of prompts, generators or files do not fit, or a seed is given beside a generator.
    """
    prompts = _several("prompt", prompt)
    negatives = _several("negative_prompt", negative_prompt)
    if len(negatives) == 1:
        negatives *= len(prompts)
    if len(negatives) != len(prompts):
        msg = f"negative_prompt: got {len(negatives)} for {len(prompts)} prompts; give one, or one for each"
        raise ValueError(msg)
    if count < 1:
        msg = f"num_videos_per_prompt: got {count!r}, expected a whole number of at least 1"
        raise ValueError(msg)
    n = len(prompts) * count
    for name in ("output", "save_latents"):
        if n > 1 and keywords.get(name) is not None:
            msg = f"{name}: is one file, and {n} videos are asked for; call the pipeline once for each of them"
            raise ValueError(msg)
    pairs = [pair for pair in zip(prompts, negatives, strict=True) for _ in range(count)]
    seeds = _seeds(keywords, generator, n)
    rest = {name: value for name, value in keywords.items() if name not in {"seed", *NOISE}}
    noise = _noise(keywords, n)
    return [
        Call.of(one, other, seed=seed, **own, **rest)
        for (one, other), seed, own in zip(pairs, seeds, noise, strict=True)
    ]


def check(requests: Sequence[Request]) -> None:
    """
    Refuse, before the first video is made, videos whose sizes are not known to be the same.

    Parameters
    ----------
    requests : sequence of Request
        Of all videos.

    Raises
    ------
    ValueError
        If the prompts decide how long their videos are.
    """
    if any(request.duration is not None for request in requests):
        msg = "num_frames: several videos in one call have one length; give num_frames=, or call once for each video"
        raise ValueError(msg)


def joined(outputs: Sequence[LTX2Output]) -> LTX2Output:
    """
    Make one result of several.

    Parameters
    ----------
    outputs : sequence of LTX2Output
        Of one call; at least one.

    Returns
    -------
    LTX2Output
        Arrays of all along the first axis; pictures as a list for each video.
    """
    first = outputs[0]
    if len(outputs) == 1:
        return first
    frames = [one.frames for one in outputs]
    return LTX2Output(
        [clip for own in frames for clip in own] if isinstance(first.frames, list) else _stacked(frames),
        _stacked([one.audio for one in outputs]),
        first.sample_rate,
        first.fps,
        Latents(
            *(_stacked([getattr(one.latents, name) for one in outputs]) for name in ("video", "audio", "keyframes"))
        ),
        None,
        tuple(dict.fromkeys(note for one in outputs for note in one.notes)),
    )


def _several(name: str, value: Any) -> list[Any]:
    """Give what was given as a list; a text stands for itself."""
    if not isinstance(value, list | tuple):
        return [value]
    if not value:
        msg = f"{name}: got an empty list; give at least one text"
        raise ValueError(msg)
    return list(value)


def _seeds(keywords: Mapping[str, Any], generator: Any, n: int) -> list[int]:
    """Give a seed for each video."""
    if generator is None:
        return [keywords.get("seed", SEED) + k for k in range(n)]
    if "seed" in keywords:
        msg = "seed: is drawn by generator=; give one of the two"
        raise ValueError(msg)
    given = list(generator) if isinstance(generator, list | tuple) else [generator] * n
    if len(given) != n:
        msg = f"generator: got {len(given)} for {n} videos; give one, or one for each video"
        raise ValueError(msg)
    return [_drawn(one) for one in given]


def _noise(keywords: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
    """Give each video its own of the noise of all, which lie along the first axis."""
    own: list[dict[str, Any]] = [{} for _ in range(n)]
    for name in NOISE:
        given: Any = keywords.get(name)
        if given is None:
            continue
        shape = tuple(getattr(given, "shape", ()))
        if n > 1 and shape[:1] != (n,):
            msg = f"{name}: got shape {shape} for {n} videos; give the noise of all along the first axis"
            raise ValueError(msg)
        for k in range(n):
            own[k][name] = given[k : k + 1] if n > 1 else given
    return own


def _drawn(generator: Any) -> int:
    """Let a generator of numpy or torch draw a seed."""
    if isinstance(generator, np.random.Generator):
        return int(generator.integers(SEEDS))
    if type(generator).__module__.partition(".")[0] == "torch":
        import torch

        return int(torch.randint(SEEDS, (), generator=generator, device=generator.device))
    msg = (
        f"generator: got a {type(generator).__name__}, expected a torch.Generator or numpy.random.Generator; "
        "seed= takes a whole number"
    )
    raise ValueError(msg)


def _stacked(values: Sequence[Any]) -> Any:
    """Put arrays of one library behind one another along the first axis."""
    if values[0] is None:
        return None
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    return backend_of(values[0]).xp.concat(list(values), axis=0)
