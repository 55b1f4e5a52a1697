"""The flags of ``ltx-models generate``: the names that the official tools use; what is not given is the pipeline's."""

import argparse
from pathlib import Path
from typing import Any

from ltx_models.cli import options
from ltx_models.cli.keep import add_keep
from ltx_models.cli.machine import add_machine
from ltx_models.cli.options import add_debug, positive
from ltx_models.download import PIPELINES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare all flags, in groups."""
    _add_what(parser)
    add_files(parser)
    _add_size(parser)
    _add_given(parser)
    _add_guidance(parser)
    _add_output(parser)
    add_memory(parser)
    add_debug(parser)


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-p", "--prompt", help="what the video should show and sound like")
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what it should not (guided pipelines)")
    parser.add_argument("--enhance-prompt", action="store_true", help="let the language model write the prompt out")
    parser.add_argument(
        "--embeds", type=Path, metavar="FILE", help="contexts made before, instead of a prompt: safetensors"
    )
    parser.add_argument(
        "--pipeline",
        choices=tuple(PIPELINES),
        metavar="NAME",
        help=f"{', '.join(PIPELINES)}; default: by the files given",
    )
    parser.add_argument("-s", "--seed", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument("--num-inference-steps", "--steps", type=positive, metavar="N", help="of a guided first stage")


def add_files(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("files")
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--checkpoint-path",
        "--distilled-checkpoint-path",
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="checkpoint in any layout: a file, a folder, or a repository as owner/name; default: the embedded toy, "
        "which draws coloured shapes that move and sound, and nothing else",
    )
    either.add_argument(
        "--transformer-path",
        type=Path,
        metavar="FILE",
        help="the transformer in a file of its own (2.5), in place of a checkpoint; its other parts by the flags below",
    )
    group.add_argument("--revision", metavar="REV", help="branch, tag or commit of that repository; default: its main")
    group.add_argument(
        "--gemma-root",
        "--text-encoder-path",
        type=Path,
        metavar="PATH",
        help="folder or repository of Gemma 3; of 2.5 the text encoder's file",
    )
    group.add_argument("--spatial-upsampler-path", type=Path, metavar="FILE", help="for two-stage pipelines")
    group.add_argument("--distilled-lora", type=Path, metavar="FILE", help="for dev-two-stage, -hq and keyframes")
    group.add_argument(
        "--lora",
        nargs="+",
        action=_Pair,
        default=[],
        metavar="ARG",
        help="FILE [STRENGTH]: a LoRA, strength 1 by default; may be given again",
    )
    group.add_argument("--video-vae-path", type=Path, metavar="FILE", help="where it is a file of its own")
    group.add_argument("--audio-vae-path", type=Path, metavar="FILE", help="where it is a file of its own")
    group.add_argument(
        "--duration-head-path",
        type=Path,
        metavar="FILE",
        help="what says how long the clip of a prompt should be (2.5)",
    )
    group.add_argument(
        "--prompt-enhancer-gemma-root",
        type=Path,
        metavar="DIR",
        help="folder or repository of an instruction-tuned Gemma for --enhance-prompt, which 2.5 needs",
    )


def _add_size(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("size")
    group.add_argument("-H", "--height", type=positive, metavar="N", help="pixels of the result")
    group.add_argument("-W", "--width", type=positive, metavar="N", help="pixels of the result")
    group.add_argument(
        "-n",
        "--num-frames",
        type=positive,
        metavar="N",
        help="1 + 8k; default: as --auto-duration where there is a duration head, else 121, of the toy 33",
    )
    group.add_argument(
        "--auto-duration",
        nargs=2,
        type=float,
        metavar=("MIN", "MAX"),
        help="as long as the prompt asks for, within so many seconds (2.5); default: 1 20",
    )
    group.add_argument("--frame-rate", "--fps", type=float, metavar="N", help="frames a second; default: 24")
    group.add_argument("--snap", action="store_true", help="move sizes to the nearest that fit, and say so")


def _add_given(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("given pictures, clips and sound")
    group.add_argument(
        "--image",
        nargs="+",
        action=_Shown,
        default=[],
        metavar="ARG",
        help="FILE FRAME STRENGTH [CRF]: show a picture at a frame; may be given again",
    )
    group.add_argument(
        "--fit", choices=("refuse", "crop"), default="refuse", help="pictures of another shape; default: refuse"
    )
    group.add_argument(
        "--video-conditioning",
        nargs=2,
        action="append",
        default=[],
        metavar=("FILE", "STRENGTH"),
        help="a clip that in-context LoRAs look at",
    )
    group.add_argument(
        "--num-generated-keyframes",
        type=positive,
        metavar="N",
        help="keyframes to generate beside the clip, spread evenly, which steady it (2.5)",
    )
    group.add_argument("--audio-path", type=Path, metavar="FILE", help="sound that leads the pictures")
    group.add_argument("--audio-start-time", type=float, default=0.0, metavar="S", help="default: 0")
    group.add_argument("--video-path", type=Path, metavar="FILE", help="retake: the clip")
    group.add_argument("--start-time", type=float, metavar="S", help="retake: from here")
    group.add_argument("--end-time", type=float, metavar="S", help="retake: to here")


def _add_guidance(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("guidance, by default as the checkpoint's version wants it")
    for name, other in (("video", "a2v"), ("audio", "v2a")):
        group.add_argument(f"--{name}-cfg-guidance-scale", type=float, metavar="X", help="towards the prompt; 1: none")
        group.add_argument(f"--{name}-stg-guidance-scale", type=float, metavar="X", help="spatio-temporal; 0: none")
        group.add_argument(f"--{name}-stg-blocks", type=int, nargs="*", metavar="N", help="blocks that it perturbs")
        group.add_argument(f"--{name}-rescale-scale", type=float, metavar="X", help="0 to 1")
        group.add_argument(f"--{name}-skip-step", type=int, metavar="N", help="steps skipped after each")
        group.add_argument(f"--{other}-guidance-scale", type=float, metavar="X", help="by the other stream; 1: none")
    group.add_argument("--apg", action="store_true", help="adaptive projected guidance")
    group.add_argument("--apg-eta", type=float, metavar="X", help="default: 1")
    group.add_argument("--apg-norm-threshold", type=float, metavar="X", help="default: 0, no limit")


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o", "--output-path", type=Path, default=Path("output.mp4"), metavar="FILE", help="default: output.mp4"
    )
    streams = group.add_mutually_exclusive_group()
    streams.add_argument("--no-audio", action="store_true", help="pictures alone")
    streams.add_argument("--only-audio", action="store_true", help="sound alone, into a .wav")
    group.add_argument("--frames-png", type=Path, metavar="DIR", help="write frames as PNG instead of a video")
    group.add_argument("--save-latents", type=Path, metavar="FILE", help="for 'ltx-models decode'")
    add_keep(group)
    group.add_argument("--preview-every", type=positive, metavar="N", help="write a picture every N steps")
    group.add_argument("--preview-dir", type=Path, default=Path("previews"), metavar="DIR", help="default: previews")


def add_memory(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--memory",
        type=options.n_bytes,
        metavar="SIZE",
        help="such as 16GiB: chooses quantisation, offload and decode budget",
    )
    group.add_argument("--quantization", choices=("fp8", "int8", "int4"), help="of the transformer")
    group.add_argument("--offload", action="store_true", help="read the transformer block by block")
    group.add_argument("--gemma-quantization", choices=("int8", "int4"), help="of the language model, on MLX")
    group.add_argument("--gemma-offload", action="store_true", help="read the language model layer by layer")
    add_machine(group)
    group.add_argument(
        "--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16", help="default: bfloat16"
    )


class _Pair(argparse.Action):
    """FILE [STRENGTH], which may be given again."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if len(values) > 2:
            parser.error(f"{option_string} takes FILE [STRENGTH], got {len(values)} values")
        _number(parser, option_string, values[1:], float)
        kept = [*getattr(namespace, self.dest), (Path(values[0]), float(values[1]) if len(values) > 1 else 1.0)]
        setattr(namespace, self.dest, kept)


class _Shown(argparse.Action):
    """FILE FRAME STRENGTH [CRF], which may be given again."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if len(values) not in {3, 4}:
            parser.error(f"{option_string} takes FILE FRAME STRENGTH [CRF], got {len(values)} values")
        _number(parser, option_string, values[1:2] + values[3:], int)
        _number(parser, option_string, values[2:3], float)
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), tuple(values)])


def _number(parser: Any, option: str | None, values: list[str], kind: type[int] | type[float]) -> None:
    for value in values:
        try:
            kind(value)
        except ValueError:
            parser.error(f"{option}: got {value!r}, expected a {'whole ' if kind is int else ''}number")
