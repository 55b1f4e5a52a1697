"""What the form asks for, as flags of ``ltx-models generate``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_models.cli.generate_options import add_arguments
from ltx_models.cli.parsing import Parser
from ltx_models.cli.web.folder import KEPT, LATENTS, VIDEO

# The fields of the form that are numbers, their flags, and whether they are whole.
NUMBERS: Mapping[str, tuple[str, bool]] = {
    "width": ("--width", True),
    "height": ("--height", True),
    "frames": ("--num-frames", True),
    "fps": ("--frame-rate", False),
    "seed": ("--seed", True),
    "steps": ("--num-inference-steps", True),
    "video_guidance": ("--video-cfg-guidance-scale", False),
    "audio_guidance": ("--audio-cfg-guidance-scale", False),
    "start": ("--start-time", False),
    "end": ("--end-time", False),
}
OF_THE_CLIP = {"width", "height", "frames", "fps"}
"""What a retake takes from its clip."""
RETAKEN = ("start", "end")
MOST_TEXT = 10_000  # characters of a prompt
MOST_PICTURES = 8


@dataclass(frozen=True, slots=True)
class Wish:
    """
    The fields of the form.

    Attributes
    ----------
    prompt, negative_prompt : str
        Empty for none.
    pipeline : str
        Empty for the one that suits the checkpoint.
    backend : str
        The framework; empty for that of the server.
    numbers : mapping of str to float or None
        By the names of `NUMBERS`; None leaves the default.
    memory : str
        A budget, such as ``"16GiB"``; empty for none.
    pictures : sequence of Path
        To be shown.
    at : str
        The frames at which they are shown, with commas between them.
    strength : float
        Of the pictures, 0 to 1.
    crop : bool
        Cut pictures of another shape instead of refusing them.
    sound : Path or None
        That leads the pictures.
    clip : Path or None
        Of which the part between two times is made anew; its sizes replace those of `numbers`.
    snap : bool
        Move sizes to the nearest that fit.
    """

    prompt: str
    negative_prompt: str = ""
    pipeline: str = ""
    backend: str = ""
    numbers: Mapping[str, float | None] = ()  # type: ignore[assignment]  # an empty one
    memory: str = ""
    pictures: Sequence[Path] = ()
    at: str = "0"
    strength: float = 1.0
    crop: bool = False
    sound: Path | None = None
    clip: Path | None = None
    snap: bool = False

    def flags(self) -> list[str]:
        """
        Give what `generate` is to be told.

        Returns
        -------
        list of str
            Flags; nothing that a user wrote can be taken for another flag.

        Raises
        ------
        ValueError
            If a field holds what its flag cannot say.
        """
        for name, text in (("prompt", self.prompt), ("negative prompt", self.negative_prompt)):
            if len(text) > MOST_TEXT:
                msg = f"{name}: has {len(text)} characters, allowed are {MOST_TEXT}; say it in fewer"
                raise ValueError(msg)
        found = [f"--prompt={self.prompt}"]
        found += [f"--negative-prompt={self.negative_prompt}"] if self.negative_prompt.strip() else []
        found += [f"--pipeline={self.pipeline}"] if self.pipeline else []
        found += [f"--backend={self.backend}"] if self.backend else []
        found += ["--device=auto"] if self.backend == "mlx" else []  # that of the server is one of torch
        found += self._numbers()
        found += [f"--memory={self.memory.strip()}"] if self.memory.strip() else []
        for picture, frame in zip(self.pictures, self._frames(), strict=True):
            found += ["--image", str(picture), str(frame), f"{self.strength:g}"]
        found += ["--fit=crop"] if self.crop else []
        found += [f"--audio-path={self.sound}"] if self.sound else []
        found += [f"--video-path={self.clip}"] if self.clip else []
        return [*found, *(["--snap"] if self.snap and not self.clip else [])]

    def _numbers(self) -> list[str]:
        """Give the flags of the numbers, of which a retake has those of its clip."""
        numbers = {name: value for name, value in dict(self.numbers).items() if value is not None}
        given = [name for name in RETAKEN if name in numbers]
        if self.clip is None and given:
            msg = (
                f"{given[0]} of the part: got {numbers[given[0]]:g}, but there is no clip; upload one, or leave it out"
            )
            raise ValueError(msg)
        if self.clip is not None and len(given) < len(RETAKEN):
            msg = "start and end of the part: a clip needs both, in seconds; write them, or take the clip out"
            raise ValueError(msg)
        kept = [name for name in numbers if self.clip is None or name not in OF_THE_CLIP]
        return [
            f"{NUMBERS[name][0]}={_number(name.replace('_', ' '), numbers[name], NUMBERS[name][1])}" for name in kept
        ]

    def _frames(self) -> list[int]:
        """Give the frame of each picture."""
        if not self.pictures:
            return []
        if len(self.pictures) > MOST_PICTURES:
            msg = f"pictures: got {len(self.pictures)}, allowed are {MOST_PICTURES}; take some out"
            raise ValueError(msg)
        parts = [part.strip() for part in self.at.split(",") if part.strip()]
        if len(parts) != len(self.pictures) or not all(part.isdigit() and part.isascii() for part in parts):
            msg = (
                f"shown at frames: got {self.at!r} for {len(self.pictures)} pictures; write one whole number for each, "
                "with commas between them, such as 0 or 0, 16"
            )
            raise ValueError(msg)
        return [int(part) for part in parts]


# What a run writes, named from its own folder.
WRITES = (
    f"--output-path={VIDEO}", f"--save-latents={LATENTS}", f"--keep={KEPT}", "--preview-every=1",
    "--preview-dir=previews",
)  # fmt: skip


def number_of(name: str, value: float | str | None) -> float | None:
    """
    Read a field of numbers.

    Parameters
    ----------
    name : str
        Of `NUMBERS`.
    value : float, str or None
        As the page says it.

    Returns
    -------
    float or None
        None where it is empty.

    Raises
    ------
    ValueError
        If it is no number.

    Examples
    --------
    >>> number_of("start", " 0.5 "), number_of("start", "")
    (0.5, None)
    """
    text = "" if value is None else str(value).strip()
    try:
        return float(text) if text else None
    except ValueError as error:
        msg = f"{name.replace('_', ' ')}: got {text[:40]!r}, expected a number; leave it empty for the default"
        raise ValueError(msg) from error


def _number(name: str, value: float, whole: bool) -> str:
    if not math.isfinite(value) or (whole and value != int(value)):
        msg = f"{name}: got {value:g}, expected a {'whole ' if whole else ''}number"
        raise ValueError(msg)
    return str(int(value)) if whole else f"{value!r}"


def generate_parser() -> argparse.ArgumentParser:
    """Give the parser of ``ltx-models generate``, whose errors are ValueErrors."""
    parser = _Raising(prog="ltx-models generate")
    add_arguments(parser)
    return parser


class _Raising(Parser):
    """A parser whose errors are raised, for a page that goes on."""

    def error(self, message: str) -> Any:
        """Raise a ValueError with the message."""
        raise ValueError(message.removeprefix("argument ").lstrip("-"))


def as_flags(parser: argparse.ArgumentParser, args: argparse.Namespace, names: set[str]) -> list[str]:
    """
    Write values as the flags that they came from.

    Parameters
    ----------
    parser : ArgumentParser
        That declares the flags.
    args : Namespace
        What it read.
    names : set of str
        Of the values that are wanted.

    Returns
    -------
    list of str
        Flags of which the parser reads the same; files that are there by their whole path.

    Examples
    --------
    >>> parser = generate_parser()
    >>> as_flags(parser, parser.parse_args(["--offload", "--lora", "a.safetensors", "0.5"]), {"offload", "lora"})
    ['--lora', 'a.safetensors', '0.5', '--offload']
    """
    found: list[str] = []
    for action in parser._actions:
        value = getattr(args, action.dest, action.default)
        if action.dest not in names or value == action.default:
            continue
        flag = next(name for name in action.option_strings if name.startswith("--"))
        if action.nargs == 0:
            found.append(flag)
        elif action.nargs == "+":
            for one in value:
                found += [flag, *map(path_text, one)]
        else:
            found.append(f"{flag}={path_text(value)}")
    return found


def path_text(value: Any) -> str:
    """Write a value as a flag takes it; a file that is there by its whole path."""
    return str(value.absolute()) if isinstance(value, Path) and value.exists() else str(value)
