"""What a call asks for, checked against the checkpoint and the recipe before anything is computed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from ltx_models.media import MediaError, OriginalAudio, probe_video, refuse_same, refuse_unwritable
from ltx_models.media._files import av
from ltx_models.media._places import LATENTS, SOUND, VIDEO
from ltx_models.media.tracks import audio_track
from ltx_models.media.writer import check_codec
from ltx_models.pipelines.call import Call, Inputs, OutputOptions, Prompts, SizeOptions
from ltx_models.pipelines.files import Files
from ltx_models.pipelines.grid import Size, fitted
from ltx_models.pipelines.pictures import Image, read_picture
from ltx_models.pipelines.request import Request, Retake
from ltx_models.pipelines.settings import Recipe
from ltx_models.transformer import TransformerConfig

STREAMS = ("video", "audio")


def check_call(call: Call, streams: Sequence[str], size: Size, files: Files) -> None:
    """
    Refuse a call that cannot be run.

    Parameters
    ----------
    call : Call
        What is asked for.
    streams : sequence of str
        What is generated.
    size : Size
        Of the result.
    files : Files
        Of the networks, which must not be written over.

    Raises
    ------
    ValueError
        If something does not fit; the text says what would.
    MediaError
        If a file cannot be read or written.
    """
    check_prompts(call.prompts)
    check_enhancer(call.prompts, files)
    check_seed(call.sampling.seed)
    check_audio_start(call.inputs.audio_start)
    check_output(call.output, streams)
    check_places(call.output, size, [*call.inputs.sources, *files.paths])
    check_images(call.inputs, size.frames, streams)


def find_streams(streams: Sequence[str] | None, config: TransformerConfig, retake: Retake | None) -> tuple[str, ...]:
    """Give the streams to generate, video first."""
    available = tuple(name for name in STREAMS if getattr(config, name) is not None)
    chosen = available if streams is None else tuple(name for name in STREAMS if name in streams)
    if not chosen or set(streams or ()) - set(available):
        msg = f"streams: got {streams}, this checkpoint has {', '.join(available)}"
        raise ValueError(msg)
    if retake is not None and (not (retake.video or retake.audio) or (retake.audio and "audio" not in chosen)):
        msg = "retake: name what to generate anew, pictures or sound, among the streams of the run"
        raise ValueError(msg)
    return chosen


def clip_size(retake: Retake, options: SizeOptions, recipe: Recipe) -> tuple[Size, list[str]]:
    """Give the size of a clip that is to be kept, which must fit as it is."""
    if options.given:
        msg = "retake: size, frames and frame rate are the clip's own; leave them out"
        raise ValueError(msg)
    if recipe.two_stages:
        msg = f"retake: runs at full size, not with the pipeline {recipe.name!r}; take 'distilled-one-stage' or 'dev'"
        raise ValueError(msg)
    if not retake.audio and (track := audio_track(OriginalAudio(retake.path))) is not None:
        track.close()  # it can be kept
    info = probe_video(retake.path)
    if info.frames is None:
        msg = f"{retake.path}: does not say how many frames it has; write it anew as mp4"
        raise ValueError(msg)
    if not 0 <= retake.start < retake.end or retake.start >= info.frames / info.fps:
        msg = (
            f"retake: got {retake.start} to {retake.end} s, the clip lasts {float(info.frames / info.fps):.2f} s; the "
            "start must lie in it and before the end"
        )
        raise ValueError(msg)
    return fitted(Size(info.height, info.width, info.frames, float(info.fps)), two_stages=False)


def check_prompts(prompts: Prompts) -> None:
    """Refuse prompts that are missing, empty or no text."""
    if (prompts.prompt is None) == (prompts.prompt_embeds is None):
        msg = "prompt: give either a prompt or prompt_embeds"
        raise ValueError(msg)
    if prompts.enhance_prompt and prompts.prompt is None:
        msg = "enhance_prompt: there is no prompt to expand, only prompt_embeds"
        raise ValueError(msg)
    texts: dict[str, Any] = {"prompt": prompts.prompt, "negative_prompt": prompts.negative_prompt}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            msg = f"{name}: got {type(text).__name__}, expected one text; call the pipeline once for each video"
            raise ValueError(msg)
    if prompts.prompt is not None and not prompts.prompt.strip():
        msg = "prompt: is empty; say what the video should show"
        raise ValueError(msg)


def check_enhancer(prompts: Prompts, files: Files) -> None:
    """Refuse to expand a prompt where no model can write."""
    encoder = files.text_encoder
    if prompts.enhance_prompt and files.prompt_enhancer is None and encoder is not None and encoder.is_file():
        msg = (
            f"enhance_prompt: the text encoder {encoder} encodes prompts and does not write; give the folder of an "
            "instruction-tuned Gemma as prompt_enhancer= (--prompt-enhancer-gemma-root)"
        )
        raise ValueError(msg)


def check_embeds(request: Request) -> None:
    """Refuse text embeddings without the negative ones that guidance needs."""
    if request.prompt_embeds is not None and request.negates and request.negative_prompt_embeds is None:
        msg = "negative_prompt_embeds: guidance needs them beside prompt_embeds; or set guidance_scale=1"
        raise ValueError(msg)


def check_keyframes(request: Request, config: TransformerConfig) -> None:
    """Refuse generated keyframes where nothing can generate them."""
    if not request.generated_keyframes:
        return
    why = None
    if not config.keyframe_marker:
        why = "this transformer knows none; take a checkpoint of 2.5"
    elif "video" not in request.streams:
        why = "there is no video in this run"
    elif request.retake is not None:
        why = "a retake keeps the frames of its clip; generate a clip, or leave the keyframes out"
    if why is not None:
        msg = f"generated_keyframes: got {list(request.generated_keyframes)}, but {why}"
        raise ValueError(msg)


def check_images(inputs: Inputs, frames: int, streams: Sequence[str]) -> None:
    """Refuse pictures that cannot be read or have no place in the clip."""
    for image in inputs.all_images:
        check_image(image, frames)
    if inputs.all_images and "video" not in streams:
        msg = "image: there is no video in this run to show it"
        raise ValueError(msg)


def check_image(image: Image, frames: int) -> None:
    """Refuse a picture that cannot be read or has no place in the clip."""
    if not -frames <= image.frame < frames:
        msg = f"image: frame {image.frame} is not in the clip, which has frames 0 to {frames - 1}"
        raise ValueError(msg)
    if not 0 <= image.strength <= 1:
        msg = f"image: strength is {image.strength}, allowed is 0 to 1"
        raise ValueError(msg)
    if isinstance(image.picture, (str, os.PathLike)):
        read_picture(image.picture)  # which refuses a file that is none


def check_seed(seed: int) -> None:
    """Refuse seeds that generators do not take."""
    if not 0 <= seed < 2**63:
        msg = f"seed: got {seed}, expected a whole number of at least 0, below 2**63"
        raise ValueError(msg)


def check_audio_start(start: float) -> None:
    """Refuse a start before the beginning of the file."""
    if not (math.isfinite(start) and start >= 0):
        msg = f"audio_start: got {start}, expected seconds from the beginning of the file, at least 0"
        raise ValueError(msg)


def check_output(options: OutputOptions, streams: Sequence[str]) -> None:
    """Refuse names of files that cannot hold what is generated, and a run without the package that writes them."""
    if options.output_type not in {"np", "pt", "pil", "latent"}:
        msg = f"output_type: got {options.output_type!r}, allowed are 'np', 'pt', 'pil', 'latent'"
        raise ValueError(msg)
    if options.save_latents is not None and "video" not in streams:
        msg = "save_latents: there are no pictures in this run; leave it out, or generate both streams"
        raise ValueError(msg)
    if options.path is None:
        return
    suffixes = VIDEO if "video" in streams else SOUND
    if options.path.suffix.lower() not in suffixes:
        what = "a video is written" if "video" in streams else "sound alone is written"
        msg = f"output: got {options.path}, {what} as {' or '.join(suffixes)}; give a name that ends so"
        raise MediaError(msg)
    if "video" in streams:  # written at the end
        check_codec(options.path)
    else:
        av()


def check_places(options: OutputOptions, size: Size, sources: Sequence[Any]) -> None:
    """Refuse places that cannot take the results, or that hold what the run reads."""
    n_bytes = 4 * 128 * math.prod(size.latent)
    for place, suffixes in ((options.output, ()), (options.save_latents, LATENTS)):
        if place is not None:
            refuse_unwritable(place, n_bytes, suffixes=suffixes)
            refuse_same(place, [one for one in sources if isinstance(one, (str, os.PathLike))])
    refuse_same(options.output, [options.save_latents], "written besides")
