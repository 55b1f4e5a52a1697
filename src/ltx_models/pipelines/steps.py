"""The steps that every pipeline is made of: text, conditions, denoise, upsample, decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from ltx_models.audio_vae import log_mel
from ltx_models.conditioning import (
    LatentState,
    add_noise,
    append_keyframe,
    append_reference,
    audio_state,
    freeze,
    regenerate,
    replace_frames,
    unpatchify,
    video_state,
)
from ltx_models.media import MediaError, as_float32, probe_video, read_video
from ltx_models.nn import Array
from ltx_models.pipelines.components import Components, reference_scales
from ltx_models.pipelines.files import Lora
from ltx_models.pipelines.grid import Size
from ltx_models.pipelines.pictures import read_image, read_reference
from ltx_models.pipelines.request import Latents, Request, Retake
from ltx_models.pipelines.sound import Sound, read_sound
from ltx_models.pipelines.watch import Watch
from ltx_models.sampling import Guidance, Noise, State, Step, Text, denoise
from ltx_models.upsampler import upsample_latent
from ltx_models.video_vae import decode_exact, encode_exact

AUDIO_CHANNELS = 8
SAMPLER_SEED = 10000  # added to the seed, so that a sampler's noise is not that of the first latents
Condition = Callable[[LatentState], LatentState]
Draw = Callable[[str, Array], Array]


@contextmanager
def phase(watch: Watch, name: str) -> Iterator[None]:
    """Tell when something begins and when it is done."""
    watch.tell(name, 0)
    yield
    watch.tell(name, 1)


def encode_text(parts: Components, ask: Request, watch: Watch) -> dict[str, Text]:
    """
    Give what each stream attends to.

    Parameters
    ----------
    parts : Components
        The networks.
    ask : Request
        With prompts, or their contexts.
    watch : Watch
        Who listens.

    Returns
    -------
    dict of str to Text
        For ``"video"`` and ``"audio"``.

    Raises
    ------
    ValueError
        If a negative prompt is needed and contexts were given for the other one only.
    """
    positive, negative = ask.prompt_embeds, ask.negative_prompt_embeds if ask.negates else None
    if positive is None or (ask.negates and negative is None):
        if ask.prompt_embeds is not None:
            msg = "negative_prompt_embeds: guidance needs them beside prompt_embeds; or set guidance_scale=1"
            raise ValueError(msg)
        with phase(watch, "text"):
            prompts = [ask.prompt, *([ask.negative_prompt] if ask.negates else [])]
            encoded = encode_prompts(parts, prompts)
        positive, negative = encoded[0], encoded[1] if ask.negates else None
    names = ("video", "audio")
    assert positive is not None
    contexts = [None if x is None else parts.adapted(parts.array(x)) for x in positive]
    worse = [None if x is None else parts.adapted(parts.array(x)) for x in negative or (None, None)]
    return {n: Text(c, w) for n, c, w in zip(names, contexts, worse, strict=True) if c is not None}


def enhance(parts: Components, prompt: str, seed: int, watch: Watch) -> str:
    """
    Let the language model write a prompt out.

    Parameters
    ----------
    parts : Components
        The networks.
    prompt : str
        An idea for a clip.
    seed : int
        Of its sampling.
    watch : Watch
        Who listens.

    Returns
    -------
    str
        The new prompt.
    """
    with phase(watch, "enhance"), parts.using("text_encoder") as encoder:
        return str(encoder.enhance(prompt, seed=seed))


def encode_prompts(parts: Components, prompts: Sequence[str]) -> list[tuple[Array, Array | None]]:
    """
    Run the language model and the connectors.

    Parameters
    ----------
    parts : Components
        The networks.
    prompts : sequence of str
        The prompts.

    Returns
    -------
    list of pair of array
        For each prompt the contexts of video and audio, of shape (1, S, C); None where the checkpoint has no audio.
    """
    with parts.using("text_encoder") as encoder:
        hidden, mask = encoder.hidden_states(encoder.tokenize(prompts))
        parts.nn.synchronize(hidden, mask)
    # gigabytes each: the one goes before the other comes
    with parts.using("connectors") as connectors:
        video, audio, _ = connectors(hidden, mask, padding_side="left")
    pairs = [(video[i : i + 1], None if audio is None else audio[i : i + 1]) for i in range(len(prompts))]
    parts.nn.synchronize(*(x for pair in pairs for x in pair if x is not None))
    return pairs


def find_conditions(parts: Components, ask: Request, size: Size, first: bool, watch: Watch) -> list[Condition]:
    """
    Encode the pictures and clips that lead the video of a stage.

    Parameters
    ----------
    parts : Components
        The networks.
    ask : Request
        With images, references or a retake.
    size : Size
        Of the stage.
    first : bool
        Whether it is the first stage; references lead that one only.
    watch : Watch
        Who listens.

    Returns
    -------
    list of callable
        From a state to one with the condition.
    """
    references = ask.references if first else ()
    if "video" not in ask.streams or not (ask.images or references or ask.retake):
        return []
    found: list[Condition] = []
    with phase(watch, "conditions"), parts.using("video_encoder") as encoder:

        def encode(video: Any) -> Array:
            return parts.array(encode_exact(encoder, parts.adapted(parts.array(video))))

        for image in ask.images:
            frame = image.frame if image.frame >= 0 else size.frames + image.frame
            latent = encode(read_image(image, size.height, size.width, crf=ask.image_crf, fit=ask.fit))
            if frame == 0 and not ask.appended:
                found.append(partial(replace_frames, latent=latent, strength=image.strength))
            else:
                shown = partial(append_keyframe, latent=latent, frame=frame, fps=size.fps, strength=image.strength)
                found.append(shown)
        downscale, time_scale = reference_scales(parts.files.loras) if references else (1, 1)
        for reference in references:
            rows, columns = _divided(size, downscale)
            clip = read_reference(reference.path, size.frames, rows, columns, time_scale=time_scale, fit=ask.fit)
            found.append(
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
        if ask.retake is not None:
            latent = encode(read_video(ask.retake.path, n_frames=size.frames).video)
            found.append(_taken(ask.retake, latent, anew=ask.retake.video))
    return found


def _divided(size: Size, downscale: int) -> tuple[int, int]:
    if size.height % (32 * downscale) or size.width % (32 * downscale):
        msg = (
            f"reference: this LoRA's references are {downscale} times smaller, and {size.width}x{size.height} divided "
            f"so is not whole latent cells; choose multiples of {32 * downscale} for the stage"
        )
        raise ValueError(msg)
    return size.height // downscale, size.width // downscale


def _taken(retake: Retake, latent: Array, *, anew: bool) -> Condition:
    """Keep a clip but for the retake's stretch; or all of it."""
    if anew:
        return partial(regenerate, latent=latent, start=retake.start, end=retake.end)
    return partial(freeze, latent=latent)


def find_sound(parts: Components, ask: Request, watch: Watch) -> list[Condition]:
    """
    Encode the sound that leads a run, or that a retake keeps.

    Parameters
    ----------
    parts : Components
        The networks.
    ask : Request
        With given sound or a retake.
    watch : Watch
        Who listens.

    Returns
    -------
    list of callable
        From a state to one with the condition; empty where there is no sound to be kept.

    Raises
    ------
    ValueError
        If the sound is shorter than the clip.
    """
    sound = ask.sound
    if ask.retake is not None and "audio" in ask.streams and probe_video(ask.retake.path).audio is not None:
        sound = read_sound(ask.retake.path, ask.size.seconds, shorter=True)
    if sound is None:
        return []
    with phase(watch, "sound"), parts.using("audio_encoder") as encoder:
        rate = encoder.config.sample_rate
        mel = log_mel(parts.array(sound.samples), sound.rate, target_rate=rate, mel_bins=encoder.config.mel_bins)
        latent = parts.array(encoder(parts.adapted(mel)))
    wanted = ask.size.audio_frames
    missing = wanted - latent.shape[2]
    if missing > 0 and ask.retake is not None:  # sound tracks often end a little before the pictures
        rest = parts.nn.xp.zeros_like(latent[:, :, :1])
        latent = parts.nn.xp.concat([latent, *[rest] * missing], axis=2)
    elif missing > 0:
        msg = f"sound: {latent.shape[2]} latent frames are fewer than the clip's {wanted}; give more sound"
        raise ValueError(msg)
    latent = latent[:, :, :wanted]
    if ask.retake is not None:
        return [_taken(ask.retake, latent, anew=ask.retake.audio)]
    return [partial(freeze, latent=latent)]


def run_stage(
    parts: Components,
    ask: Request,
    text: dict[str, Text],
    conditions: dict[str, list[Condition]],
    draw: Draw,
    watch: Watch,
    *,
    stage: int,
    size: Size,
    loras: Sequence[Lora] = (),
    initial: Latents | None = None,
) -> Latents:
    """
    Denoise once through a schedule.

    Parameters
    ----------
    parts : Components
        The networks.
    ask : Request
        What to do.
    text : dict of str to Text
        What each stream attends to.
    conditions : dict of str to list of callable
        For each stream, what is given.
    draw : callable
        Noise of the first latents: video's before audio's.
    watch : Watch
        Who listens.
    stage : int
        0 or 1.
    size : Size
        Of the stage.
    loras : sequence of (Path, float)
        Of this stage.
    initial : Latents, optional
        What the stage refines.

    Returns
    -------
    Latents
        Of the streams that were asked for.
    """
    sigmas = ask.sigmas[stage]
    model = parts.transformer(loras)
    initial = initial or Latents()
    streams: dict[str, LatentState] = {}
    like = parts.array(np.zeros((1,), np.float32))
    for name in ask.streams:
        if name == "video":
            state = video_state(
                (1, model.config.video.in_channels, *size.latent), fps=size.fps, like=like, initial=initial.video
            )
        else:
            bins = model.config.audio.in_channels // AUDIO_CHANNELS
            state = audio_state((1, AUDIO_CHANNELS, size.audio_frames, bins), like=like, initial=initial.audio)
        for condition in conditions[name]:
            state = condition(state)
        refined = getattr(initial, name) is not None
        streams[name] = add_noise(state, float(sigmas[0]) if refined else 1.0, partial(draw, name))
    named = f"stage {stage + 1}" if len(ask.sigmas) > 1 else "denoise"
    done = denoise(
        model,
        State(**streams, text={name: _text(ask, text[name], name) for name in streams}),
        sigmas,
        ask.recipe.sampler,
        _guidance(ask) if ask.recipe.guided and stage == 0 else None,
        draw=Noise(ask.seed + SAMPLER_SEED) if ask.draw is None else ask.draw,
        on_step=_listener(parts, watch, named, streams, len(sigmas) - 1),
    )
    latents = {name: unpatchify(s.latent, s.shape) for name, s in done.streams.items()}
    parts.nn.synchronize(*latents.values())
    return Latents(latents.get("video"), latents.get("audio"))


def _leads(ask: Request, name: str) -> bool:
    """Say whether a stream is sound that was given to lead the pictures: then nothing guides it."""
    return name == "audio" and ask.sound is not None


def _text(ask: Request, text: Text, name: str) -> Text:
    return Text(text.context) if _leads(ask, name) else text


def _guidance(ask: Request) -> dict[str, Guidance]:
    return {name: Guidance() if _leads(ask, name) else ask.guidance[name] for name in ask.streams}


def _listener(
    parts: Components, watch: Watch, named: str, streams: dict[str, LatentState], total: int
) -> Callable[[Step], bool | None]:
    """Pass steps on to whoever watches."""
    watch.tell(named, 0, total)

    def listen(step: Step) -> bool | None:
        parts.nn.synchronize(*step.latents.values())
        watch.tell(named, step.index + 1, total)
        if watch.preview is not None and "video" in streams and (step.index + 1) % watch.preview_every == 0:
            latent = unpatchify(step.denoised["video"], streams["video"].shape)
            watch.preview(named, step.index + 1, preview_picture(parts, latent))
        if watch.step_end is not None:
            return bool(watch.step_end(named, step.index, step.sigma, step.latents) is not False)
        return None

    return listen


def preview_picture(parts: Components, latent: Array) -> Array:
    """
    Decode the middle of a clip to one picture.

    Parameters
    ----------
    parts : Components
        The networks.
    latent : array, shape (1, 128, f, h, w)
        Normalised latents.

    Returns
    -------
    array, shape (3, 32 h, 32 w)
        In about [-1, 1].
    """
    middle = latent.shape[2] // 2
    decoder = parts.get("video_decoder")
    return decoder(parts.adapted(latent[:, :, middle : middle + 1]))[0, :, 0]


def enlarge(parts: Components, latent: Array, watch: Watch) -> Array:
    """
    Give latents of twice the height and width.

    Parameters
    ----------
    parts : Components
        The networks.
    latent : array, shape (1, 128, f, h, w)
        Normalised latents.
    watch : Watch
        Who listens.

    Returns
    -------
    array, shape (1, 128, f, 2 h, 2 w)
        Normalised latents, in float32.
    """
    with phase(watch, "upsample"), parts.using("upsampler") as upsampler:
        large = parts.array(upsample_latent(upsampler, latent, parts.get("statistics")))
        parts.nn.synchronize(large)
    wanted = (*latent.shape[:3], 2 * latent.shape[3], 2 * latent.shape[4])
    if tuple(large.shape) != wanted:
        msg = f"upsampler: gave {tuple(large.shape)} where {wanted} is needed; take a spatial x2 one"
        raise ValueError(msg)
    return large


def decode_video(
    parts: Components,
    latent: Array,
    watch: Watch,
    *,
    memory_bytes: int | None = None,
    sink: Callable[[Array, int], object] | None = None,
) -> Array | None:
    """
    Decode exactly, within a budget.

    Parameters
    ----------
    parts : Components
        The networks.
    latent : array, shape (1, 128, f, h, w)
        Normalised latents.
    watch : Watch
        Who listens.
    memory_bytes : int, optional
        What decoding may take beside the weights.
    sink : callable, optional
        Takes (frames, start) as they are done; otherwise the clip is returned.

    Returns
    -------
    array, shape (1, 3, F, H, W), or None
        In about [-1, 1].
    """
    with parts.using("video_decoder") as decoder:
        return decode_exact(
            decoder,
            parts.adapted(latent),
            memory_bytes=memory_bytes,
            on_frames_ready=sink,
            progress=partial(watch.tell, "decode"),
        )


def decode_sound(parts: Components, latent: Array, watch: Watch) -> Sound:
    """
    Decode sound, as a stream.

    Parameters
    ----------
    parts : Components
        The networks.
    latent : array, shape (1, 8, T, 16)
        Normalised latents.
    watch : Watch
        Who listens.

    Returns
    -------
    Sound
        On the host.

    Raises
    ------
    MediaError
        If values are not finite.
    """
    with phase(watch, "decode sound"), parts.using("audio_decoder") as decoder, parts.using("vocoder") as vocoder:
        mels = (parts.array(mel) for _, mel in decoder.stream(parts.adapted(latent)))
        samples = np.concatenate([as_float32(block) for _, block in vocoder.stream(mels)], axis=2)
        rate = int(vocoder.sample_rate)
    if not np.isfinite(samples).all():
        msg = "sound: the decoder gave values that are not finite; use bfloat16 or float32"
        raise MediaError(msg)
    return Sound(np.clip(samples, -1, 1), rate)
