"""What the flags of ``ltx-models generate`` say, as the arguments of a call, and what it writes beside videos."""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ltx_models.cli.machine import taken
from ltx_models.cli.progress import Progress
from ltx_models.media import write_picture
from ltx_models.media._files import unfinished


def pipeline_of(args: argparse.Namespace, say: Callable[[str], object]) -> Any:
    """Make the pipeline that the flags name; no weights are read yet."""
    from ltx_models.pipelines import LTX2Pipeline

    backend, device = taken(args, say)
    return LTX2Pipeline.from_pretrained(
        args.checkpoint_path,
        pipeline=args.pipeline,
        backend=backend,
        dtype=args.dtype,
        device=device,
        quantize=args.quantization,
        offload=args.offload,
        quantize_text=args.gemma_quantization,
        offload_text=args.gemma_offload,
        memory_bytes=args.memory,
        text_encoder=args.gemma_root if args.gemma_root is not None or args.embeds is None else False,
        upsampler=args.spatial_upsampler_path,
        distilled_lora=args.distilled_lora,
        loras=[(path, float(strength)) for path, strength in args.lora],
        video_vae=args.video_vae_path,
        audio_vae=args.audio_vae_path,
        transformer=args.transformer_path,
        duration_head=args.duration_head_path,
        prompt_enhancer=args.prompt_enhancer_gemma_root,
        say=say,
        revision=args.revision,
    )


def call_arguments(args: argparse.Namespace, pipe: Any, progress: Progress) -> dict[str, Any]:
    """Translate the command line into a call; None leaves a default to the pipeline."""
    from ltx_models.pipelines import Image, Reference, Retake
    from ltx_models.pipelines.settings import defaults

    standard = defaults(pipe.recipe, pipe.version, pipe.config.layers)
    images = [Image(i[0], int(i[1]), float(i[2]), int(i[3]) if len(i) > 3 else None) for i in args.image]
    check_pairs(args)
    chosen = {
        name: guided(args, name, getattr(standard, name), other, pipe.config.layers)
        for name, other in (("video", "a2v"), ("audio", "v2a"))
    }
    retake = None
    if args.video_path is not None:
        retake = Retake(Path(args.video_path), args.start_time, args.end_time)
    streams = ("video",) if args.no_audio else ("audio",) if args.only_audio else None
    embeds = read_embeds(args.embeds) if args.embeds is not None else (None, None)

    def preview(phase: str, step: int, picture: Any) -> None:
        path = args.preview_dir / f"{phase.replace(' ', '_')}_{step:03d}.png"
        write_picture(path, picture)
        progress.event("preview", path=str(path))

    if args.preview_every is not None:
        args.preview_dir.mkdir(parents=True, exist_ok=True)
    return {
        "prompt": args.prompt,
        "negative_prompt": args.negative_prompt,
        "enhance_prompt": args.enhance_prompt,
        "images": images,
        "references": [Reference(Path(path), number("--video-conditioning", x)) for path, x in args.video_conditioning],
        "audio": args.audio_path,
        "audio_start": args.audio_start_time,
        "retake": retake,
        "height": args.height,
        "width": args.width,
        "num_frames": args.num_frames,
        "auto_duration": None if args.auto_duration is None else tuple(args.auto_duration),
        "frame_rate": args.frame_rate,
        "snap": args.snap,
        "fit": args.fit,
        "num_inference_steps": args.num_inference_steps,
        "guidance": chosen if any(chosen[name] != getattr(standard, name) for name in chosen) else None,
        "streams": streams,
        "generated_keyframes": args.num_generated_keyframes or 0,
        "seed": args.seed,
        "prompt_embeds": embeds[0],
        "negative_prompt_embeds": embeds[1],
        "output": None if args.frames_png is not None else args.output_path,
        "save_latents": args.save_latents,
        "keep": args.keep,
        "progress": progress,
        "preview": None if args.preview_every is None else preview,
        "preview_every": args.preview_every or 1,
    }


def guided(args: argparse.Namespace, name: str, standard: Any, other: str, layers: int) -> Any:
    """Give the guidance of a stream: what the flags say, over the defaults."""
    flags = {
        "cfg_scale": f"{name}_cfg_guidance_scale",
        "stg_scale": f"{name}_stg_guidance_scale",
        "stg_blocks": f"{name}_stg_blocks",
        "rescale_scale": f"{name}_rescale_scale",
        "modality_scale": f"{other}_guidance_scale",
        "skip_step": f"{name}_skip_step",
        "apg_eta": "apg_eta",
        "apg_norm_threshold": "apg_norm_threshold",
    }
    values = {key: value for key, flag in flags.items() if (value := getattr(args, flag)) is not None}
    for key, value in values.items():
        limits = {"stg_blocks": (0, layers - 1), "rescale_scale": (0, 1), "skip_step": (0, math.inf)}
        low, high = limits.get(key, (-math.inf, math.inf))
        for one in value if key == "stg_blocks" else [value]:
            if not (math.isfinite(one) and low <= one <= high):
                allowed = (
                    "a finite number"
                    if low == -math.inf
                    else f"{low:g} to {high:g}"
                    if high < math.inf
                    else "0 or more"
                )
                msg = f"--{flags[key].replace('_', '-')}: got {one:g}, allowed is {allowed}"
                raise ValueError(msg)
    values |= {"kind": "apg"} if args.apg else {}
    return replace(standard, **{k: tuple(v) if k == "stg_blocks" else v for k, v in values.items()})


def read_embeds(path: Path) -> tuple[Any, Any]:
    """Read contexts of video and audio from safetensors: video, audio, and negative_video, negative_audio."""
    from ltx_models.checkpoints import open_checkpoint

    with open_checkpoint(path, "numpy") as file:
        arrays = {key: file.tensor(key) for key in file.keys}
    if "video" not in arrays:
        msg = f"{path}: holds {', '.join(arrays) or 'nothing'}; expected the arrays video and audio, of shape (1, S, C)"
        raise ValueError(msg)
    negative = (arrays["negative_video"], arrays.get("negative_audio")) if "negative_video" in arrays else None
    return (arrays["video"], arrays.get("audio")), negative


def check_pairs(args: argparse.Namespace) -> None:
    """Refuse flags that say something about another one which is not there."""
    if args.video_path is not None and (args.start_time is None or args.end_time is None):
        msg = "retake: --video-path needs --start-time and --end-time, in seconds"
        raise ValueError(msg)
    needed = {
        "--start-time": (args.start_time, args.video_path, "--video-path"),
        "--end-time": (args.end_time, args.video_path, "--video-path"),
        "--audio-start-time": (args.audio_start_time or None, args.audio_path, "--audio-path"),
        "--apg-eta": (args.apg_eta, args.apg or None, "--apg"),
        "--apg-norm-threshold": (args.apg_norm_threshold, args.apg or None, "--apg"),
    }
    for flag, (value, other, name) in needed.items():
        if value is not None and other is None:
            msg = f"{flag}: got {value}, but it goes with {name}, which is not given; add that, or leave this out"
            raise ValueError(msg)


def number(flag: str, text: str) -> float:
    """Read a number of a flag that takes several values."""
    try:
        return float(text)
    except ValueError as error:
        msg = f"{flag}: got {text!r}, expected a number"
        raise ValueError(msg) from error


def refuse_filled(folder: Path) -> None:
    """Refuse to mix frames with what is in a folder already."""
    if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        msg = f"--frames-png: got {folder}, which is there and not empty; give a new folder"
        raise ValueError(msg)


def write_frames(folder: Path, frames: Any) -> None:
    """Write one PNG a frame, into a folder that gets its name once they are all there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(folder) as part:
        part.mkdir()
        for k, frame in enumerate(frames[0]):
            write_picture(part / f"{k:05d}.png", (frame * 255).round().astype("uint8"))
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
