"""What a call asks a pipeline for, complete and checked; and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltx_models.nn import Array
from ltx_models.pipelines.grid import Size
from ltx_models.pipelines.pictures import Fit, Image
from ltx_models.pipelines.playing import playing
from ltx_models.pipelines.settings import EULER, Recipe
from ltx_models.pipelines.sound import Sound
from ltx_models.sampling import Guidance
from ltx_models.sampling.samplers import Sampler

Embeds = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Reference:
    """
    A clip that in-context LoRAs look at.

    Attributes
    ----------
    path : Path
        The video file.
    strength : float
        1 to keep it as it is.
    attention : float or None
        How much the generated clip and this one attend to each other, from 0 to 1; 1 and None leave attention alone.
    """

    path: Path
    strength: float = 1.0
    attention: float | None = None


@dataclass(frozen=True, slots=True)
class Retake:
    """
    A stretch of a clip that is made anew.

    Attributes
    ----------
    path : Path
        The clip.
    start, end : float
        Seconds.
    video, audio : bool
        Whether pictures, and sound, are made anew; otherwise they are kept and lead the other.
    """

    path: Path
    start: float
    end: float
    video: bool = True
    audio: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """
    All that a run needs to know.

    Attributes
    ----------
    recipe : Recipe
        The order of work.
    size : Size
        Of the result; it fits the grid.
    prompt, negative_prompt : str
        What to show and what not.
    prompt_embeds, negative_prompt_embeds : pair of array, or None
        The contexts of video and audio, in place of prompts.
    sigmas : tuple of sequence of float
        The noise levels of each stage.
    guidance : mapping of str to Guidance
        Of a guided first stage, for ``"video"`` and ``"audio"``.
    samplers : tuple of Sampler
        Of each stage.
    streams : tuple of str
        What is generated: ``"video"``, ``"audio"`` or both.
    seed : int
        Of all noise.
    images : tuple of Image
        Pictures to show.
    appended : bool
        Show also a picture at frame 0 as an extra, as between keyframes, and do not put it in place.
    image_crf : int
        How strongly pictures are compressed first.
    fit : {"refuse", "crop"}
        What becomes of pictures of another shape.
    references : tuple of Reference
        Clips that in-context LoRAs look at.
    sound : Sound or None
        Given sound, which leads the pictures.
    retake : Retake or None
        A stretch of a clip to be made anew.
    duration : (float, float) or None
        Between which durations, in seconds, the duration head is to choose; until it has, `size` has the longest.
    generated_keyframes : tuple of int
        Frames that are generated beside the clip, in its first stage (2.5).
    draw : callable, optional
        Noise in place of the seed's: takes the stream's name and an array, and gives one of the same shape.
    noise : mapping of str to array
        Noise that the first latents of a stream begin with, in place of the seed's.
    """

    recipe: Recipe
    size: Size
    prompt: str
    negative_prompt: str
    sigmas: tuple[Sequence[float], ...]
    guidance: Mapping[str, Guidance]
    samplers: tuple[Sampler, ...] = (EULER, EULER)
    prompt_embeds: Embeds | None = None
    negative_prompt_embeds: Embeds | None = None
    streams: tuple[str, ...] = ("video", "audio")
    seed: int = 10
    images: tuple[Image, ...] = ()
    appended: bool = False
    image_crf: int = 33
    fit: Fit = "refuse"
    references: tuple[Reference, ...] = ()
    sound: Sound | None = None
    retake: Retake | None = None
    duration: tuple[float, float] | None = None
    generated_keyframes: tuple[int, ...] = ()
    draw: Any = None
    noise: Mapping[str, Array] = field(default_factory=dict)

    @property
    def negates(self) -> bool:
        """Whether the negative prompt is needed."""
        return self.recipe.guided and any(self.guidance[name].negates for name in self.streams)


@dataclass(frozen=True, slots=True)
class Latents:
    """
    What is generated before it is decoded.

    Attributes
    ----------
    video : array, shape (1, 128, f, h, w), or None
        Normalised latents.
    audio : array, shape (1, 8, T, 16), or None
        Normalised latents.
    keyframes : array, shape (1, 128, K, h, w), or None
        Normalised latents of the keyframes that were generated beside the clip, a latent frame for each; of the first
        stage, hence half as high and wide where there are two.
    """

    video: Array | None = None
    audio: Array | None = None
    keyframes: Array | None = None


@dataclass(frozen=True, slots=True)
class LTX2Output:
    """
    What a call gives.

    Attributes
    ----------
    frames : array, list of lists of PIL image, or None
        As ``output_type`` says, the videos along the first axis; None where they went into a file or there are none.
    audio : ndarray of float32, shape (1, 2, N), or None
        The waveform, in [-1, 1].
    sample_rate : int or None
        Samples a second.
    fps : float
        Frames a second.
    latents : Latents
        Before decoding.
    path : Path or None
        The file that was written.
    notes : tuple of str
        What was done that was not asked for in so many words, for the user.
    """

    frames: Any
    audio: Any
    sample_rate: int | None
    fps: float
    latents: Latents
    path: Path | None = None
    notes: tuple[str, ...] = field(default=())

    def _repr_html_(self) -> str:
        """Show the videos in a notebook, playing, with their sound."""
        files = "" if self.path is None else f"{self.path}\n"
        shapes = {name: getattr(self.latents, name) for name in ("video", "audio")}
        latents = ", ".join(f"{name} {tuple(x.shape)}" for name, x in shapes.items() if x is not None)
        about = "\n".join([f"{files}{self.fps:g} frames a second; latents: {latents}", *self.notes])
        return playing(self.frames, self.audio, self.sample_rate, self.fps, self.path, about)
