"""From pictures, clips and sound to conditions of a stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ltx_models.audio_vae import log_mel
from ltx_models.conditioning import (
    LatentState,
    append_keyframe,
    append_reference,
    append_slots,
    freeze,
    regenerate,
    replace_frames,
)
from ltx_models.media import probe_video, read_video
from ltx_models.nn import Array
from ltx_models.pipelines.components import reference_scales
from ltx_models.pipelines.grid import Size
from ltx_models.pipelines.pictures import Image, read_image, read_reference
from ltx_models.pipelines.request import Request, Retake
from ltx_models.pipelines.run import Run
from ltx_models.pipelines.sound import read_sound
from ltx_models.video_vae import encode_exact

Condition = Callable[[LatentState], LatentState]
Encode = Callable[[Any], Array]


def encode_pictures(run: Run, size: Size, *, first_stage: bool) -> list[Condition]:
    """
    Encode the pictures and clips that lead the video of a stage.

    Parameters
    ----------
    run : Run
        Whose request may have images, references or a retake.
    size : Size
        Of the stage.
    first_stage : bool
        Whether it is the first stage; references lead only that one.

    Returns
    -------
    list of callable
        From a state to one with the condition.
    """
    components, request = run.components, run.request
    with_references = first_stage and bool(request.references)
    if "video" not in request.streams or not (request.images or with_references or request.retake):
        return []
    with run.callbacks.phase("conditions"), components.using("video_encoder") as encoder:

        def encode(video: Any) -> Array:
            return components.array(encode_exact(encoder, components.adapted(components.array(video))))

        conditions = [_picture(image, request, size, encode) for image in request.images]
        if with_references:
            conditions += _references(request, size, encode, reference_scales(components.files.loras))
        if request.retake is not None:
            latent = encode(read_video(request.retake.path, n_frames=size.frames).video)
            conditions.append(_retake(request.retake, latent, anew=request.retake.video))
    return conditions


def ask_keyframes(run: Run, size: Size) -> list[Condition]:
    """
    Ask for the keyframes that are generated beside the clip.

    Parameters
    ----------
    run : Run
        Whose request may name frames for them.
    size : Size
        Of the stage.

    Returns
    -------
    list of callable
        From a state to one with slots for them, to be applied after all other conditions.
    """
    frames = run.request.generated_keyframes
    return [partial(append_slots, frames=frames, fps=size.fps)] if frames else []


def _picture(image: Image, request: Request, size: Size, encode: Encode) -> Condition:
    """Replace the first frame, or append a picture as a keyframe."""
    frame = image.frame if image.frame >= 0 else size.frames + image.frame
    latent = encode(read_image(image, size.height, size.width, crf=request.image_crf, fit=request.fit))
    if frame == 0 and not request.appended:
        return partial(replace_frames, latent=latent, strength=image.strength)
    return partial(append_keyframe, latent=latent, frame=frame, fps=size.fps, strength=image.strength)


def _references(request: Request, size: Size, encode: Encode, scales: tuple[int, int]) -> list[Condition]:
    """Append reference clips, as much smaller and slower as the LoRA was trained with."""
    downscale, time_scale = scales
    height, width = _divided(size, downscale)
    conditions: list[Condition] = []
    for reference in request.references:
        clip = read_reference(reference.path, size.frames, height, width, time_scale=time_scale, fit=request.fit)
        conditions.append(
            partial(
                append_reference,
                latent=encode(clip),
                fps=size.fps,
                downscale=downscale,
                time_scale=time_scale,
                strength=reference.strength,
                attention=None if reference.attention == 1 else reference.attention,
            )
        )
    return conditions


def _divided(size: Size, downscale: int) -> tuple[int, int]:
    if size.height % (32 * downscale) or size.width % (32 * downscale):
        msg = (
            f"reference: this LoRA's references are {downscale} times smaller, and {size.width}x{size.height} divided "
            f"so is not whole latent cells; choose multiples of {32 * downscale} for the stage"
        )
        raise ValueError(msg)
    return size.height // downscale, size.width // downscale


def _retake(retake: Retake, latent: Array, *, anew: bool) -> Condition:
    """Keep a clip except for the retake's stretch; or all of it."""
    if anew:
        return partial(regenerate, latent=latent, start=retake.start, end=retake.end)
    return partial(freeze, latent=latent)


def encode_sound(run: Run) -> list[Condition]:
    """
    Encode the sound that leads a run, or that a retake keeps.

    Parameters
    ----------
    run : Run
        Whose request may have sound or a retake.

    Returns
    -------
    list of callable
        From a state to one with the condition; empty where no sound is kept.

    Raises
    ------
    ValueError
        If the sound is shorter than the clip.
    """
    components, request = run.components, run.request
    sound, retake = request.sound, request.retake
    if retake is not None and "audio" in request.streams and probe_video(retake.path).audio is not None:
        sound = read_sound(retake.path, request.size.seconds, shorter=True)
    if sound is None:
        return []
    with run.callbacks.phase("sound"), components.using("audio_encoder") as encoder:
        rate = encoder.config.sample_rate
        mel = log_mel(components.array(sound.samples), sound.rate, target_rate=rate, mel_bins=encoder.config.mel_bins)
        latent = components.array(encoder(components.adapted(mel)))
    n_frames = request.size.audio_frames
    missing = n_frames - latent.shape[2]
    if missing > 0 and retake is not None:  # sound tracks often end a little before the pictures
        rest = components.nn.xp.zeros_like(latent[:, :, :1])
        latent = components.nn.xp.concat([latent, *[rest] * missing], axis=2)
    elif missing > 0:
        msg = f"sound: {latent.shape[2]} latent frames are fewer than the clip's {n_frames}; give more sound"
        raise ValueError(msg)
    latent = latent[:, :, :n_frames]
    if retake is not None:
        return [_retake(retake, latent, anew=retake.audio)]
    return [partial(freeze, latent=latent)]
