"""What a pipeline does unless it is told otherwise: by the version that a checkpoint says of itself, and by recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ltx_models.checkpoints import open_checkpoint
from ltx_models.media.regular import parse_json
from ltx_models.sampling import DISTILLED_SIGMAS, STAGE_2_SIGMAS, Guidance, ltx2_sigmas
from ltx_models.sampling.samplers import Ancestral, Euler, Res2s, Sampler

SEED = 10
EULER = Euler()
ANCESTRAL_SINCE = (2, 5)  # the version from which the distilled first stage adds noise again after each step
NEGATIVE_PROMPT = (
    "low quality, blurred, unfocused, noise and grain, compression artefacts, flicker, jitter, shaky camera, "
    "washed out or banded colours, over- or underexposed, flat light, text, subtitles, watermark, deformed faces, "
    "extra fingers or limbs, wrong anatomy, unnatural skin, stiff movement, abrupt cuts, fade to black, cartoon or "
    "rendered look, silence, muffled or robotic voice, echo, hiss, sound out of step with lips"
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """
    The order of work of one pipeline.

    Attributes
    ----------
    name : str
        As users call it.
    guided : bool
        Whether the first stage runs a guided schedule with a negative prompt; otherwise the distilled one, unguided.
    two_stages : bool
        Whether a first stage of half the size is enlarged and refined by a second.
    strengths : (float, float)
        Of the distilled LoRA in either stage; 0 where it is not used.
    sampler : Sampler
        Of both stages.
    first_sound : bool
        Whether the sound of the first stage is kept; otherwise the second one's.
    high_quality : bool
        Whether its own defaults apply: fewer steps of twice the work, a larger picture, a schedule by picture size.
    """

    name: str
    guided: bool
    two_stages: bool
    strengths: tuple[float, float] = (0.0, 0.0)
    sampler: Sampler = EULER
    first_sound: bool = False
    high_quality: bool = False

    @property
    def needs_lora(self) -> bool:
        """Whether there must be a distilled LoRA."""
        return any(self.strengths)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("distilled", guided=False, two_stages=True),
        Recipe("distilled-one-stage", guided=False, two_stages=False),
        Recipe("dev", guided=True, two_stages=False),
        Recipe("dev-two-stage", guided=True, two_stages=True, strengths=(0.0, 1.0), first_sound=True),
        Recipe(
            "dev-two-stage-hq",
            guided=True,
            two_stages=True,
            strengths=(0.25, 0.5),
            sampler=Res2s(),
            first_sound=True,
            high_quality=True,
        ),
        Recipe("keyframes", guided=True, two_stages=True, strengths=(0.0, 1.0)),
    )
}


@dataclass(frozen=True, slots=True)
class Defaults:
    """
    Numbers that the official tools use.

    Attributes
    ----------
    height, width : int
        Pixels of the result.
    frames : int
        Frames of the result.
    fps : float
        Frames a second.
    steps : int
        Of a guided first stage.
    video, audio : Guidance
        Of a guided first stage.
    image_crf : int
        How strongly given pictures are compressed first, as those were that the model was trained on.
    sampler : Sampler
        Of a first stage that no reference or retake leads.
    """

    height: int
    width: int
    frames: int
    fps: float
    steps: int
    video: Guidance
    audio: Guidance
    image_crf: int
    sampler: Sampler = EULER


def version_of(path: str | Path) -> tuple[int, ...]:
    """
    Read the version that a checkpoint says it is of.

    Parameters
    ----------
    path : path
        A safetensors file, or a folder of shards.

    Returns
    -------
    tuple of int
        Such as (2, 3, 0). Where it says none, which is so in files of 2.0 and in other layouts, (2, 5) or (2, 3) if the
        transformer has what came with that version, else empty.

    Raises
    ------
    CheckpointError
        If it is no checkpoint.
    """
    with open_checkpoint(path, "numpy") as checkpoint:
        version = re.match(r"\d+(\.\d+)*", checkpoint.metadata.get("model_version", "").strip().strip('"'))
        section = checkpoint.config.get("transformer", {})
    marks = {"use_keyframes_abs_pos_embedding": (2, 5), "cross_attention_adaln": (2, 3)}
    found = (since for mark, since in marks.items() if isinstance(section, dict) and section.get(mark))
    newer = next(found, ())
    return tuple(int(part) for part in version[0].split(".")) if version else newer


def settings_of(metadata: Mapping[str, str]) -> dict[str, float]:
    """
    Read the sizes of clips that a checkpoint was trained on, which small ones name in their metadata.

    Parameters
    ----------
    metadata : mapping of str to str
        Of its file.

    Returns
    -------
    dict of str to float
        ``height`` and ``width`` of a first stage, ``frames`` and ``fps``; empty for official files, which say nothing.

    Examples
    --------
    >>> settings_of({"default_settings": '{"height": 64, "width": 96, "frames": 33, "fps": 24}'})["frames"]
    33
    """
    settings = parse_json(metadata.get("default_settings", "{}"))
    if not isinstance(settings, dict) or not all(isinstance(value, (int, float)) for value in settings.values()):
        msg = f"default_settings: got {settings!r}, expected numbers by name"
        raise ValueError(msg)
    return settings


def defaults(
    recipe: Recipe, version: Sequence[int], layers: int = 48, settings: Mapping[str, float] | None = None
) -> Defaults:
    """
    Give what a recipe uses with a checkpoint.

    Parameters
    ----------
    recipe : Recipe
        What is to be done.
    version : sequence of int
        What `version_of` read.
    layers : int
        Blocks of the transformer; where it has fewer than the official ones, its last but one is perturbed.
    settings : mapping of str to float, optional
        What `settings_of` read, which goes before the official sizes.

    Returns
    -------
    Defaults
        Sizes, steps and guidance.

    Notes
    -----
    Source: Lightricks/LTX-2, ``ltx_pipelines/utils/constants.py``.

    Examples
    --------
    >>> defaults(RECIPES["dev"], (2, 3)).steps, defaults(RECIPES["dev"], ()).steps
    (30, 40)
    >>> defaults(RECIPES["distilled"], (2, 3)).height
    1024
    >>> defaults(RECIPES["distilled"], (2, 5)).sampler
    Ancestral(eta=1.0, cfg_pp=False)
    """
    newer = tuple(version) >= (2, 3)
    block = 28 if newer else 29
    plain = Guidance(
        cfg_scale=3.0,
        stg_scale=1.0,
        stg_blocks=(block if block < layers else max(0, layers - 2),),
        modality_scale=3.0,
        rescale_scale=0.7,
    )
    scale = 2 if recipe.two_stages else 1
    crf = 18 if tuple(version) >= (2, 4) else 33
    if recipe.high_quality:
        quick = replace(plain, stg_scale=0.0, stg_blocks=(), rescale_scale=0.45)
        standard = Defaults(1088, 1920, 121, 24.0, 15, quick, replace(quick, cfg_scale=7.0, rescale_scale=1.0), crf)
    else:
        steps = 30 if newer else 40
        standard = Defaults(512 * scale, 768 * scale, 121, 24.0, steps, plain, replace(plain, cfg_scale=7.0), crf)
    ancestral = not recipe.guided and tuple(version) >= ANCESTRAL_SINCE
    standard = replace(standard, sampler=Ancestral() if ancestral else recipe.sampler)
    if not settings:
        return standard
    height, width = (int(settings[name]) * scale for name in ("height", "width"))
    return replace(standard, height=height, width=width, frames=int(settings["frames"]), fps=float(settings["fps"]))


def schedules(
    recipe: Recipe, steps: int, tokens: int, sigmas: Sequence[float] | None = None
) -> tuple[Sequence[float], ...]:
    """
    Give the noise levels of each stage.

    Parameters
    ----------
    recipe : Recipe
        What is to be done.
    steps : int
        Of a guided first stage.
    tokens : int
        Of the first stage's video, which the schedule of high quality goes by.
    sigmas : sequence of float, optional
        Takes the place of the first stage's.

    Returns
    -------
    tuple of sequence of float
        One for each stage.

    Examples
    --------
    >>> [len(s) - 1 for s in schedules(RECIPES["distilled"], 8, 1)]
    [8, 3]
    """
    if sigmas is not None:
        first: Sequence[float] = tuple(sigmas)
    elif not recipe.guided:
        first = DISTILLED_SIGMAS
    else:
        first = ltx2_sigmas(steps, tokens=tokens) if recipe.high_quality else ltx2_sigmas(steps)
    return (first, STAGE_2_SIGMAS) if recipe.two_stages else (first,)
