"""The pipeline that users call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from ltx_models.byte_sizes import format_bytes
from ltx_models.checkpoints import BackendName, DType, open_checkpoint
from ltx_models.checkpoints.files import described_by
from ltx_models.defaults import default_pipeline
from ltx_models.lora import check_lora
from ltx_models.media import (
    OriginalAudio,
    VideoWriter,
    as_float32,
    write_audio,
)
from ltx_models.nn import backend as get_backend
from ltx_models.pipelines import recipes, steps
from ltx_models.pipelines.checks import (
    check_audio_start,
    check_device,
    check_output,
    check_places,
    check_prompt,
    check_seed,
    clip_size,
    find_images,
    find_streams,
)
from ltx_models.pipelines.components import Components
from ltx_models.pipelines.finding import find_file, find_files, find_folder, to_standard_error
from ltx_models.pipelines.forecast import forecast, told
from ltx_models.pipelines.grid import Size, fitted
from ltx_models.pipelines.keeping import kept_on_failure
from ltx_models.pipelines.memory import GIB, MemoryPlan, plan_memory
from ltx_models.pipelines.pictures import Fit, Image
from ltx_models.pipelines.request import Embeds, Latents, LTX2Output, Reference, Request, Retake
from ltx_models.pipelines.settings import NEGATIVE_PROMPT, SEED, Recipe, defaults, said_of, schedules, version_of
from ltx_models.pipelines.sound import read_sound
from ltx_models.pipelines.sources import Wish
from ltx_models.pipelines.watch import Watch
from ltx_models.quantization import Scheme
from ltx_models.sampling import Guidance
from ltx_models.text.folder import check_folder
from ltx_models.transformer.loading import read_config

DECODE_BYTES = 8 * GIB
OutputType = Literal["np", "pil", "latent"]


class LTX2Pipeline:
    """
    From a prompt to a video with sound.

    Parameters
    ----------
    parts : Components
        The networks.
    recipe : Recipe
        The order of work.
    memory : MemoryPlan, optional
        How it fits into memory.
    say : callable, optional
        Takes lines for the user before a run; by default they go to standard error.

    Notes
    -----
    Make one by `from_pretrained`.
    """

    def __init__(
        self,
        parts: Components,
        recipe: Recipe,
        memory: MemoryPlan | None = None,
        say: Callable[[str], object] | None = None,
    ) -> None:
        self.say = say or to_standard_error
        self.parts = parts
        self.recipe = recipe
        self.memory = memory
        self.version = version_of(parts.files.transformer)
        with open_checkpoint(parts.files.transformer, "numpy") as checkpoint:
            with described_by(checkpoint.path):
                self.config = read_config(checkpoint, None)
            self.said = said_of(checkpoint.metadata)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        *,
        pipeline: str | None = None,
        backend: BackendName = "torch",
        dtype: DType = "bfloat16",
        device: Any = None,
        quantize: Scheme | None = None,
        offload: bool = False,
        quantize_text: Scheme | None = None,
        offload_text: bool = False,
        memory_bytes: int | None = None,
        text_encoder: str | Path | Literal[False] | None = None,
        upsampler: str | Path | None = None,
        distilled_lora: str | Path | None = None,
        loras: Sequence[tuple[str | Path, float]] = (),
        video_vae: str | Path | None = None,
        audio_vae: str | Path | None = None,
        keep: bool = False,
        token: str | None = None,
        revision: str | None = None,
        say: Callable[[str], object] | None = None,
    ) -> Self:
        """
        Make a pipeline of files; no weights are read yet.

        Parameters
        ----------
        path : path or str, optional
            By default the embedded toy, which knows nothing but moving shapes (`ltx_models.default_pipeline`), and that
            by itself alone. Else a checkpoint in any layout that `ltx_models.checkpoints.layouts` names: a safetensors
            file or a folder; or a repository of Hugging Face as ``"owner/name"``, or a file in one as
            ``"owner/name/file.safetensors"``. Of a repository only the files that the pipeline needs are fetched, and
            only where the cache lacks them.
        pipeline : str, optional
            ``"distilled"``, ``"distilled-one-stage"``, ``"dev"``, ``"dev-two-stage"``, ``"dev-two-stage-hq"`` or
            ``"keyframes"``. By default ``"dev"`` where the name says so, else ``"distilled"`` with an upsampler and
            ``"distilled-one-stage"`` without.
        backend : {"torch", "mlx"}
            The framework.
        dtype : {"bfloat16", "float16", "float32"}
            Of weights and computation.
        device : optional
            A torch device.
        quantize : {"fp8", "int8", "int4"}, optional
            Of the transformer.
        offload : bool
            Read the transformer's blocks from the file as they are needed.
        quantize_text : {"int8", "int4"}, optional
            Of the language model, on MLX.
        offload_text : bool
            Read the language model's layers from its files as they are needed.
        memory_bytes : int, optional
            Memory to fit into: chooses these four and the budget of the decode. The choice is `memory`, and each call
            says what its steps will take.
        text_encoder : path, str or False, optional
            The folder or repository of the Gemma model. By default the one in the folder or repository of the
            checkpoint, else, for a repository, Google's. False where ``prompt_embeds=`` makes it unnecessary.
        upsampler, distilled_lora : path or str, optional
            Files that two-stage pipelines need; by default those in the folder or repository of the checkpoint. These,
            too, may be files in a repository.
        loras : sequence of (path, float), optional
            LoRAs and their strengths.
        video_vae, audio_vae : path, optional
            Where the autoencoders are files of their own.
        keep : bool
            Keep networks in memory between uses.
        token : str, optional
            Of Hugging Face, for gated repositories; by default what is configured there.
        revision : str, optional
            The branch, tag or commit of the checkpoint's repository; pin one to get the same files for ever.
        say : callable, optional
            Takes lines about what will be fetched and how large it is; by default they go to standard error.

        Returns
        -------
        LTX2Pipeline
            Ready to be called.

        Raises
        ------
        CheckpointError
            If the checkpoint is missing, broken or has no transformer.
        DownloadError
            If a file is neither here nor to be had.
        ImportError
            If the backend's package is missing; the text says what to install.
        ValueError
            If a name is unknown, files are missing, or nothing fits the memory.
        """
        if memory_bytes is not None and (quantize or offload or quantize_text or offload_text):
            msg = "memory_bytes: chooses quantize and offload itself; leave those out, or leave memory_bytes out"
            raise ValueError(msg)
        check_device(get_backend(backend), device)
        if path is None:
            others = {"text_encoder": text_encoder, "upsampler": upsampler, "distilled_lora": distilled_lora}
            path = _toy(others | {"video_vae": video_vae, "audio_vae": audio_vae})
        find = partial(find_file, token=token, say=say)
        wish = Wish(pipeline, quantize == "fp8", upsampler is None, distilled_lora is None, text_encoder is None)
        recipe, files = find_files(path, wish, token=token, say=say, revision=revision)
        given = {"upsampler": upsampler, "distilled_lora": distilled_lora}
        files = replace(
            files,
            video_vae=_path(video_vae),
            audio_vae=_path(audio_vae),
            loras=tuple((find(file), float(strength)) for file, strength in loras),
            **{name: find(file) for name, file in given.items() if file is not None},
        )
        if text_encoder:
            files = replace(files, text_encoder=find_folder(text_encoder, token=token, say=say))
        if files.text_encoder is not None:
            check_folder(files.text_encoder)
        memory = None
        if memory_bytes is not None:
            itemsize = 4 if dtype == "float32" else 2
            memory = plan_memory(
                files.transformer,
                memory_bytes,
                backend=backend,
                itemsize=itemsize,
                text_encoder=files.text_encoder,
                device=device,
            )
            quantize, offload = memory.quantize, memory.offload
            quantize_text, offload_text = memory.text_quantize, memory.text_offload
        if recipe.two_stages:
            files.of("upsampler")
        if recipe.needs_lora and files.distilled_lora is None:
            msg = f"distilled_lora: the pipeline {recipe.name!r} needs the distilled LoRA's file"
            raise ValueError(msg)
        distilled = [files.distilled_lora] if recipe.needs_lora and files.distilled_lora is not None else []
        for lora in [*(file for file, _ in files.loras), *distilled]:
            check_lora(lora, files.transformer)
        parts = Components(
            files,
            backend_name=backend,
            dtype=dtype,
            device=device,
            quantize=quantize,
            offload=offload,
            keep=keep,
            text_quantize=quantize_text,
            text_offload=offload_text,
        )
        return cls(parts, recipe, memory, say)

    def __call__(
        self,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        *,
        image: Any = None,
        images: Sequence[Image] = (),
        references: Sequence[Reference] = (),
        audio: str | Path | None = None,
        audio_start: float = 0.0,
        retake: Retake | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        frame_rate: float | None = None,
        enhance_prompt: bool = False,
        snap: bool = False,
        fit: Fit = "refuse",
        num_inference_steps: int | None = None,
        sigmas: Sequence[float] | None = None,
        guidance: dict[str, Guidance] | None = None,
        guidance_scale: float | None = None,
        streams: Sequence[str] | None = None,
        seed: int = SEED,
        draw: Any = None,
        prompt_embeds: Embeds | None = None,
        negative_prompt_embeds: Embeds | None = None,
        output_type: OutputType = "np",
        output: str | Path | None = None,
        save_latents: str | Path | None = None,
        decode_bytes: int | None = None,
        progress: Callable[[str, int, int], object] | None = None,
        callback_on_step_end: Callable[[str, int, float, dict[str, Any]], Any] | None = None,
        preview: Callable[[str, int, Any], object] | None = None,
        preview_every: int = 1,
    ) -> LTX2Output:
        """
        Generate.

        Parameters
        ----------
        prompt, negative_prompt : str, optional
            What to show, and what not; the negative one has a default, and is used by guided pipelines only.
        image : path, PIL image or array, optional
            The first frame.
        images : sequence of Image, optional
            Pictures at any frames.
        references : sequence of Reference, optional
            Clips that in-context LoRAs look at.
        audio : path, optional
            Sound that leads the pictures, and becomes the sound of the video.
        audio_start : float
            Where in that file to begin, in seconds.
        retake : Retake, optional
            A stretch of a clip to be made anew; size, frames and rate are the clip's.
        height, width : int, optional
            Pixels; by default as the official tools.
        num_frames : int, optional
            1 + 8k.
        frame_rate : float, optional
            Frames a second.
        enhance_prompt : bool
            Let the language model write the prompt out first; what it wrote is among the notes.
        snap : bool
            Move sizes that do not fit to the nearest that do, instead of refusing them.
        fit : {"refuse", "crop"}
            What becomes of pictures of another shape.
        num_inference_steps : int, optional
            Of a guided first stage.
        sigmas : sequence of float, optional
            The noise levels of the first stage.
        guidance : dict of str to Guidance, optional
            For ``"video"`` and ``"audio"``, in place of the defaults.
        guidance_scale : float, optional
            In place of the default of video alone; 1 for none.
        streams : sequence of str, optional
            ``("video",)``, ``("audio",)`` or both, which is the default.
        seed : int
            The same seed gives the same video.
        draw : callable, optional
            Noise in place of the seed's: takes the stream's name and an array, and gives one of the same shape.
        prompt_embeds, negative_prompt_embeds : pair of array, optional
            The contexts of video and audio, of shape (1, S, C), in place of prompts.
        output_type : {"np", "pil", "latent"}
            The frames: an array (1, F, H, W, 3) in [0, 1], pictures, or none.
        output : path, optional
            Write a video, frame by frame, with its sound; no frames are returned then. ``.wav`` for sound alone.
        save_latents : path, optional
            Save the latents before they are decoded; ``ltx-models decode`` makes a video of them.
        decode_bytes : int, optional
            What decoding may take beside the weights.
        progress : callable, optional
            Takes (phase, done, total).
        callback_on_step_end : callable, optional
            Takes (phase, step, sigma, latents); the run stops if it returns False.
        preview : callable, optional
            Takes (phase, step, picture), the middle frame as the model now takes it to be.
        preview_every : int
            Steps from one preview to the next.

        Returns
        -------
        LTX2Output
            Frames, sound, latents, and notes for the user.

        Raises
        ------
        ValueError
            If something does not fit; the text says what would.
        MediaError
            If a file cannot be read or written.
        Cancelled
            If `callback_on_step_end` returned False.
        """
        wanted = find_streams(streams, self.config, retake)
        check_output(_path(output), wanted, output_type, saves_latents=save_latents is not None)
        check_seed(seed)
        check_audio_start(audio_start)
        standard = defaults(self.recipe, self.version, self.config.layers, self.said)
        if retake is not None:
            size, notes = clip_size(retake, (height, width, num_frames, frame_rate), self.recipe)
        else:
            asked = Size(
                standard.height if height is None else height,
                standard.width if width is None else width,
                standard.frames if num_frames is None else num_frames,
                standard.fps if frame_rate is None else frame_rate,
            )
            size, notes = fitted(asked, two_stages=self.recipe.two_stages, snap=snap)
        given = [audio, image, *(one.picture for one in images), *(one.path for one in references)]
        check_places(output, save_latents, size, [*given, retake and retake.path, *self.parts.files.paths])
        check_prompt(prompt, prompt_embeds, enhance_prompt)
        if not self.recipe.guided:
            unused = {"negative_prompt": negative_prompt, "guidance": guidance, "guidance_scale": guidance_scale}
            unused["num_inference_steps"] = num_inference_steps
            names = ", ".join(name for name, value in unused.items() if value is not None)
            notes += [f"{names}: not used by the pipeline {self.recipe.name!r}"] if names else []
        number = standard.steps if num_inference_steps is None else num_inference_steps
        first = size.half if self.recipe.two_stages else size
        chosen = {"video": standard.video, "audio": standard.audio} | (guidance or {})
        if guidance_scale is not None:
            chosen["video"] = replace(chosen["video"], cfg_scale=guidance_scale)
        if len(wanted) == 1:  # there is no other stream to be guided away from
            chosen = {name: replace(g, modality_scale=1.0) for name, g in chosen.items()}
        ask = Request(
            recipe=self.recipe,
            size=size,
            prompt=prompt or "",
            negative_prompt=NEGATIVE_PROMPT if negative_prompt is None else negative_prompt,
            sigmas=schedules(self.recipe, number, int(np.prod(first.latent)), sigmas),
            guidance=chosen,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            streams=wanted,
            seed=seed,
            images=find_images(image, images, size.frames, wanted),
            appended=self.recipe.name == "keyframes",
            image_crf=standard.image_crf,
            fit=fit,
            references=tuple(references),
            sound=None if audio is None else read_sound(audio, size.seconds, start=audio_start),
            retake=retake,
            draw=draw,
        )
        watch = Watch(progress, callback_on_step_end, preview, preview_every)
        if enhance_prompt:
            ask = replace(ask, prompt=steps.enhance(self.parts, ask.prompt, seed, watch))
            notes.append(f"prompt: {ask.prompt}")
        budget = decode_bytes or (self.memory.decode_bytes if self.memory else DECODE_BYTES)
        if self.memory is not None:
            self._foretell(size, budget)
        latents = recipes.generate(self.parts, ask, watch)
        with kept_on_failure(latents, size.fps, _path(save_latents), _path(output), files=self.parts.files):
            return self._finish(ask, latents, watch, output_type, _path(output), budget, tuple(notes))

    def _foretell(self, size: Size, budget: int) -> None:
        """Say what each step will take, and whether that is more than there is."""
        assert self.memory is not None
        found = forecast(self.parts, self.recipe, size, self.config, budget)
        self.say(told(found))
        step = max(found, key=lambda name: found[name])
        if found[step] > self.memory.memory_bytes:
            most = format_bytes(self.memory.memory_bytes)
            self.say(f"{step} may need more than the {most} given; a smaller picture or fewer frames need less")

    def _finish(
        self,
        ask: Request,
        latents: Latents,
        watch: Watch,
        output_type: OutputType,
        output: Path | None,
        budget: int,
        notes: tuple[str, ...],
    ) -> LTX2Output:
        """Decode, and write or return."""
        if output_type == "latent" and output is None:
            return LTX2Output(None, None, None, ask.size.fps, latents, None, notes)
        sound = ask.sound
        if sound is None and latents.audio is not None:
            sound = steps.decode_sound(self.parts, latents.audio, watch)
        decode = partial(steps.decode_video, self.parts, watch=watch, memory_bytes=budget)
        frames = None
        if output is not None and latents.video is None:
            assert sound is not None
            write_audio(output, sound.samples, sound.rate)
        elif output is not None:
            track = None if sound is None else (sound.samples, sound.rate)
            kept = ask.retake is not None and not ask.retake.audio
            source = OriginalAudio(ask.retake.path) if kept and ask.retake is not None else track
            fps = str(ask.size.fps)
            with VideoWriter(output, fps=fps, height=ask.size.height, width=ask.size.width, audio=source) as writer:
                decode(latents.video, sink=lambda block, start: writer.write(block))
        elif latents.video is not None:
            frames = _frames(as_float32(decode(latents.video)), output_type)
        rate, samples = (None, None) if sound is None else (sound.rate, sound.samples)
        return LTX2Output(frames, samples, rate, ask.size.fps, latents, output, notes)


def _toy(others: dict[str, Any]) -> Path:
    """Give the embedded toy, unless files were given that are parts of another checkpoint."""
    if given := [name for name, value in others.items() if value]:
        msg = (
            f"path: no checkpoint was given, but {', '.join(given)}; say which checkpoint they belong to "
            "(--checkpoint-path): the embedded toy is never mixed with other files"
        )
        raise ValueError(msg)
    return default_pipeline()


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _frames(video: Any, output_type: OutputType) -> Any:
    values = np.clip((video.transpose(0, 2, 3, 4, 1) + 1) / 2, 0, 1)
    if output_type == "np":
        return values
    from PIL import Image as Pillow

    return [Pillow.fromarray(np.rint(frame * 255).astype(np.uint8)) for frame in values[0]]
