"""What a call may ask for: values that belong together, made of the flat keywords of `LTX2Pipeline`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack

from ltx_models.nn import Array
from ltx_models.pipelines import foreign
from ltx_models.pipelines.callbacks import Callbacks, StepEnd
from ltx_models.pipelines.pictures import Fit, Image
from ltx_models.pipelines.request import Embeds, Reference, Retake
from ltx_models.pipelines.settings import SEED
from ltx_models.sampling import Guidance

OutputType = Literal["np", "pt", "pil", "latent"]


@dataclass(frozen=True, slots=True)
class Prompts:
    """
    What to show and what not.

    Attributes
    ----------
    prompt, negative_prompt : str, optional
        In words; the negative one has a default, and only guided pipelines use it.
    enhance_prompt : bool
        Let the language model expand the prompt first; the expanded prompt is among the notes.
    prompt_embeds, negative_prompt_embeds : pair of array, optional
        Text embeddings of video and audio, of shape (1, S, C), in place of prompts.
    """

    prompt: str | None = None
    negative_prompt: str | None = None
    enhance_prompt: bool = False
    prompt_embeds: Embeds | None = None
    negative_prompt_embeds: Embeds | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """
    Pictures, clips and sound that lead the result.

    Attributes
    ----------
    image : path, PIL image or array, optional
        The first frame.
    images : sequence of Image
        Pictures at any frames.
    references : sequence of Reference
        Clips that in-context LoRAs look at.
    audio : path, optional
        Sound that leads the pictures, and becomes the sound of the video.
    audio_start : float
        Where in that file to begin, in seconds.
    retake : Retake, optional
        A stretch of a clip to generate anew; height, width, frames and frame rate are the clip's.
    fit : {"refuse", "crop"}
        What becomes of pictures of another aspect ratio.
    """

    image: Any = None
    images: Sequence[Image] = ()
    references: Sequence[Reference] = ()
    audio: str | Path | None = None
    audio_start: float = 0.0
    retake: Retake | None = None
    fit: Fit = "refuse"

    @property
    def all_images(self) -> tuple[Image, ...]:
        """All pictures, the first frame first."""
        return (*(() if self.image is None else (Image(self.image),)), *self.images)

    @property
    def sources(self) -> tuple[Any, ...]:
        """All files and values that are read."""
        pictures = [one.picture for one in self.all_images]
        return (self.audio, *pictures, *(one.path for one in self.references), self.retake and self.retake.path)


@dataclass(frozen=True, slots=True)
class SizeOptions:
    """
    The size of the result, by default that of the official tools.

    Attributes
    ----------
    height, width : int, optional
        Pixels.
    num_frames : int, optional
        1 + 8k.
    auto_duration : (float, float), optional
        Let the duration head (2.5) choose the number of frames by the prompt, for a clip of so many seconds at least
        and at most. Where there is a head and neither number is given, 1 to 20.
    frame_rate : float, optional
        Frames a second.
    snap : bool
        Move numbers that do not fit to the nearest that do, instead of refusing them.
    """

    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    auto_duration: tuple[float, float] | None = None
    frame_rate: float | None = None
    snap: bool = False

    @property
    def given(self) -> bool:
        """Whether anything but `snap` is set."""
        chosen = (self.height, self.width, self.num_frames, self.auto_duration, self.frame_rate)
        return any(one is not None for one in chosen)


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """
    How noise becomes latents.

    Attributes
    ----------
    num_inference_steps : int, optional
        Of a guided first stage; distilled schedules are fixed.
    sigmas : sequence of float, optional
        The noise levels of the first stage.
    guidance : mapping of str to Guidance, optional
        For ``"video"`` and ``"audio"``, in place of the defaults.
    guidance_scale : float, optional
        In place of the default of video alone; 1 for none.
    streams : sequence of str, optional
        ``("video",)``, ``("audio",)`` or both, which is the default.
    generated_keyframes : int or sequence of int
        Keyframes that a transformer of 2.5 generates beside the clip in its first stage: how many, spread evenly, or
        at which frames. They are not shown; they steady the clip, and are in `Latents`.
    seed : int
        The same seed gives the same video.
    draw : callable, optional
        Noise in place of the seed's: takes the stream's name and an array, and gives one of the same shape.
    latents : array, shape (1, 128, f, h, w), optional
        Standard normal noise that the video begins with, in place of the seed's; of the framework or of NumPy. Of a
        pipeline of two stages it is that of the first, at half the height and width. All other noise stays the seed's.
    audio_latents : array, shape (1, 8, T, 16), optional
        The same for the sound.
    """

    num_inference_steps: int | None = None
    sigmas: Sequence[float] | None = None
    guidance: Mapping[str, Guidance] | None = None
    guidance_scale: float | None = None
    streams: Sequence[str] | None = None
    generated_keyframes: int | Sequence[int] = 0
    seed: int = SEED
    draw: Callable[[str, Array], Array] | None = None
    latents: Any = None
    audio_latents: Any = None


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """
    What becomes of the latents.

    Attributes
    ----------
    output_type : {"np", "pt", "pil", "latent"}
        The frames: an array (1, F, H, W, 3) in [0, 1], a tensor of torch (1, F, 3, H, W), a list of pictures for each
        video, or none: `LTX2Output.latents` are there always.
    output : path, optional
        Write a video, frame by frame, with its sound; no frames are returned then. ``.wav`` for sound alone.
    save_latents : path, optional
        Save the latents before they are decoded; ``ltx-models decode`` makes a video from them.
    decode_bytes : int, optional
        What decoding may take beside the weights.
    keep : path, optional
        A folder for the latents of each stage, and for decoded frames where a video is written: the same call, made
        again after its process was killed, goes on after them. Remove it afterwards.
    """

    output_type: OutputType = "np"
    output: str | Path | None = None
    save_latents: str | Path | None = None
    decode_bytes: int | None = None
    keep: str | Path | None = None

    @property
    def path(self) -> Path | None:
        """Where the video is written."""
        return None if self.output is None else Path(self.output)

    @property
    def latents_path(self) -> Path | None:
        """Where the latents are saved."""
        return None if self.save_latents is None else Path(self.save_latents)


class Keywords(TypedDict, total=False):
    """The flat keywords of `LTX2Pipeline`, beside the two prompts: the fields of the values above."""

    enhance_prompt: bool
    prompt_embeds: Embeds | None
    negative_prompt_embeds: Embeds | None
    image: Any
    images: Sequence[Image]
    references: Sequence[Reference]
    audio: str | Path | None
    audio_start: float
    retake: Retake | None
    fit: Fit
    height: int | None
    width: int | None
    num_frames: int | None
    auto_duration: tuple[float, float] | None
    frame_rate: float | None
    snap: bool
    num_inference_steps: int | None
    sigmas: Sequence[float] | None
    guidance: Mapping[str, Guidance] | None
    guidance_scale: float | None
    streams: Sequence[str] | None
    generated_keyframes: int | Sequence[int]
    seed: int
    draw: Callable[[str, Array], Array] | None
    latents: Any
    audio_latents: Any
    output_type: OutputType
    output: str | Path | None
    save_latents: str | Path | None
    decode_bytes: int | None
    keep: str | Path | None
    progress: Callable[[str, int, int], object] | bool | None
    callback_on_step_end: StepEnd | None
    preview: Callable[[str, int, Array], object] | None
    preview_every: int


@dataclass(frozen=True, slots=True)
class Call:
    """
    All that a call asks for; what is left out is the pipeline's default.

    Attributes
    ----------
    prompts : Prompts
        What to show and what not.
    inputs : Inputs
        Pictures, clips and sound that lead the result.
    size : SizeOptions
        The size of the result.
    sampling : SamplingOptions
        How noise becomes latents.
    output : OutputOptions
        What becomes of the latents.
    callbacks : Callbacks
        What is called while the pipeline runs.

    Examples
    --------
    >>> call = Call(Prompts("a red circle moving right"), size=SizeOptions(height=64, width=96))
    >>> call == Call.of("a red circle moving right", height=64, width=96)
    True
    """

    prompts: Prompts = field(default_factory=Prompts)
    inputs: Inputs = field(default_factory=Inputs)
    size: SizeOptions = field(default_factory=SizeOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    callbacks: Callbacks = field(default_factory=Callbacks)

    @classmethod
    def of(cls, prompt: str | None = None, negative_prompt: str | None = None, **keywords: Unpack[Keywords]) -> Self:
        """
        Make a call of flat keywords.

        Parameters
        ----------
        prompt, negative_prompt : str, optional
            See `Prompts`.
        **keywords : Keywords
            Fields of the values by their names.

        Returns
        -------
        Call
            With these fields set.

        Raises
        ------
        TypeError
            If there is no such keyword; the text names the nearest one.
        """
        flat: dict[str, Any] = {"prompt": prompt, "negative_prompt": negative_prompt, **keywords}
        known = {name: {one.name for one in fields(group)} for name, group in GROUPS.items()}
        for name in flat.keys() - set().union(*known.values()):
            near = get_close_matches(name, set().union(*known.values()), 1)
            meant = (
                f"; here it is {foreign.KEYWORDS[name]}"
                if name in foreign.KEYWORDS
                else f"; did you mean {near[0]!r}?"
                if near
                else ""
            )
            msg = f"LTX2Pipeline: no keyword {name!r}{meant}"
            raise TypeError(msg)
        return cls(**{name: GROUPS[name](**{n: flat[n] for n in own & flat.keys()}) for name, own in known.items()})


GROUPS: dict[str, Any] = {
    "prompts": Prompts,
    "inputs": Inputs,
    "size": SizeOptions,
    "sampling": SamplingOptions,
    "output": OutputOptions,
    "callbacks": Callbacks,
}
