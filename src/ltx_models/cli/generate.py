"""``ltx-models generate``: a prompt becomes a video with sound."""

import argparse
import json
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

from ltx_models.cli import report
from ltx_models.cli.generate_options import add_arguments
from ltx_models.cli.meter import Meter
from ltx_models.cli.options import backend_name
from ltx_models.media import refuse_unwritable, write_picture
from ltx_models.media._files import unfinished


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "generate",
        help="make a video with sound of a prompt",
        description="Make a video with sound of a prompt. Defaults follow the checkpoint's version.",
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Generate, and say what was done."""
    from ltx_models.pipelines import LTX2Pipeline, read_memory
    from ltx_models.pipelines.keeping import kept_on_failure

    if args.frames_png is None:
        refuse_unwritable(args.output_path)
    else:
        refuse_filled(args.frames_png)
    if args.prompt is None and args.embeds is None:
        msg = "prompt: give --prompt, or --embeds with contexts made before"
        raise ValueError(msg)
    told = Progress(args.json)
    pipe = LTX2Pipeline.from_pretrained(
        args.checkpoint_path,
        pipeline=args.pipeline,
        backend=backend_name(args.backend),
        dtype=args.dtype,
        device=args.device,
        quantize=args.quantization,
        offload=args.offload,
        memory_bytes=None if args.memory is None else read_memory(args.memory),
        text_encoder=False if args.embeds is not None else args.gemma_root,
        upsampler=args.spatial_upsampler_path,
        distilled_lora=args.distilled_lora,
        loras=[(path, float(strength)) for path, strength in args.lora],
        video_vae=args.video_vae_path,
        audio_vae=args.audio_vae_path,
        say=told.note,
    )
    told.note(f"pipeline {pipe.recipe.name}, {'.'.join(map(str, pipe.version)) or 'no'} version in the checkpoint")
    if pipe.memory is not None:
        told.note(str(pipe.memory))
    with Meter() as meter:
        try:
            out = pipe(**call_arguments(args, pipe, told))
        finally:
            told.close()
    for note in out.notes:
        told.note(note)
    if args.frames_png is not None:
        with kept_on_failure(out.latents, out.fps, None, args.frames_png):
            write_frames(args.frames_png, out.frames)
    written = str(out.path or args.frames_png)
    facts = {"event": "done", "output": written, "seconds": meter.seconds, "peak_bytes": meter.peak_bytes}
    if args.json:
        print(json.dumps(facts | {"seed": args.seed}))
        return
    print(f"{written}: seed {args.seed}, {meter.seconds:.1f} s, peak {report.size_of(meter.peak_bytes)}")


def call_arguments(args: argparse.Namespace, pipe: Any, told: "Progress") -> dict[str, Any]:
    """Translate the command line into a call; None leaves a default to the pipeline."""
    from ltx_models.pipelines import Image, Reference, Retake
    from ltx_models.pipelines.settings import defaults

    standard = defaults(pipe.recipe, pipe.version, pipe.config.layers)
    images = [Image(i[0], int(i[1]), float(i[2]), int(i[3]) if len(i) > 3 else None) for i in args.image]
    retake = None
    if args.video_path is not None:
        if args.start_time is None or args.end_time is None:
            msg = "retake: --video-path needs --start-time and --end-time, in seconds"
            raise ValueError(msg)
        retake = Retake(Path(args.video_path), args.start_time, args.end_time)
    streams = ("video",) if args.no_audio else ("audio",) if args.only_audio else None
    embeds = read_embeds(args.embeds) if args.embeds is not None else (None, None)

    def preview(phase: str, step: int, picture: Any) -> None:
        path = args.preview_dir / f"{phase.replace(' ', '_')}_{step:03d}.png"
        write_picture(path, picture)
        told.event("preview", path=str(path))

    if args.preview_every is not None:
        args.preview_dir.mkdir(parents=True, exist_ok=True)
    return {
        "prompt": args.prompt,
        "negative_prompt": args.negative_prompt,
        "enhance_prompt": args.enhance_prompt,
        "images": images,
        "references": [Reference(Path(path), float(strength)) for path, strength in args.video_conditioning],
        "audio": args.audio_path,
        "audio_start": args.audio_start_time,
        "retake": retake,
        "height": args.height,
        "width": args.width,
        "num_frames": args.num_frames,
        "frame_rate": args.frame_rate,
        "snap": args.snap,
        "fit": args.fit,
        "num_inference_steps": args.num_inference_steps,
        "guidance": {
            name: guided(args, name, getattr(standard, name), other)
            for name, other in (("video", "a2v"), ("audio", "v2a"))
        },
        "streams": streams,
        "seed": args.seed,
        "prompt_embeds": embeds[0],
        "negative_prompt_embeds": embeds[1],
        "output": None if args.frames_png is not None else args.output_path,
        "save_latents": args.save_latents,
        "progress": told,
        "preview": None if args.preview_every is None else preview,
        "preview_every": args.preview_every or 1,
    }


def guided(args: argparse.Namespace, name: str, standard: Any, other: str) -> Any:
    """Give the guidance of a stream: what the flags say, over the defaults."""
    from dataclasses import replace

    given = {
        "cfg_scale": getattr(args, f"{name}_cfg_guidance_scale"),
        "stg_scale": getattr(args, f"{name}_stg_guidance_scale"),
        "stg_blocks": getattr(args, f"{name}_stg_blocks"),
        "rescale_scale": getattr(args, f"{name}_rescale_scale"),
        "modality_scale": getattr(args, f"{other}_guidance_scale"),
        "skip_step": getattr(args, f"{name}_skip_step"),
        "kind": "apg" if args.apg else None,
        "apg_eta": args.apg_eta,
        "apg_norm_threshold": args.apg_norm_threshold,
    }
    told = {key: value for key, value in given.items() if value is not None}
    return replace(standard, **{k: tuple(v) if k == "stg_blocks" else v for k, v in told.items()})


def read_embeds(path: Path) -> tuple[Any, Any]:
    """Read contexts of video and audio from safetensors: video, audio, and negative_video, negative_audio."""
    from ltx_models.checkpoints import open_checkpoint

    with open_checkpoint(path, "numpy") as file:
        found = {key: file.tensor(key) for key in file.keys}
    if "video" not in found:
        msg = f"{path}: holds {', '.join(found) or 'nothing'}; expected the arrays video and audio, of shape (1, S, C)"
        raise ValueError(msg)
    negative = (found["negative_video"], found.get("negative_audio")) if "negative_video" in found else None
    return (found["video"], found.get("audio")), negative


def refuse_filled(folder: Path) -> None:
    """Refuse to mix frames with what is in a folder already."""
    if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        msg = f"--frames-png: got {folder}, which is there and not empty; give a new folder"
        raise ValueError(msg)


def write_frames(folder: Path, frames: Any) -> None:
    """Write one PNG a frame, into a folder that bears its name once they are all there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(folder) as part:
        part.mkdir()
        for k, frame in enumerate(frames[0]):
            write_picture(part / f"{k:05d}.png", (frame * 255).round().astype("uint8"))
        if folder.exists():
            folder.rmdir()
        part.rename(folder)


class Progress:
    """
    Tells how far a run is: lines of JSON, or a bar with the time left and the peak of memory.

    Parameters
    ----------
    as_json : bool
        Whether to print lines of JSON on standard output.
    """

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._bar: Any = None
        self._phase = ""
        self._begun = time.monotonic()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take (phase, done, total)."""
        if phase != self._phase:
            self.close()
            self._phase, self._begun = phase, time.monotonic()
        if self._json:
            spent = time.monotonic() - self._begun
            left = spent / done * (total - done) if done else None
            self.event("progress", phase=phase, done=done, total=total, seconds_left=left, peak_bytes=_peak())
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=phase, disable=None, leave=False, ncols=78)
        self._bar.total = total
        self._bar.set_postfix_str(report.size_of(_peak()), refresh=False)
        self._bar.update(done - self._bar.n)

    def note(self, text: str) -> None:
        """Say something in words."""
        if self._json:
            self.event("note", text=text)
        else:
            print(text, file=sys.stderr)

    def event(self, name: str, **facts: Any) -> None:
        """Print a line of JSON, where that is wanted."""
        if self._json:
            print(json.dumps({"event": name} | facts), flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _peak() -> int:
    """Give the most memory so far: of the accelerator where there is one, else of the process."""
    from ltx_models.pipelines.memory import device_peak

    found = max(device_peak("torch"), device_peak("mlx"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(found, most if sys.platform == "darwin" else math.floor(most * 1024))
