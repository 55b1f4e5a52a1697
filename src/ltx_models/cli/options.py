"""Arguments that several verbs share, and what their text means."""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_models.byte_sizes import parse_bytes
from ltx_models.cli.machine import add_machine, taken
from tilekit import Tiling, TilingConfig

PRESETS = ("default", "aggressive", "conservative", "auto", "none")
TILING_HELP = (
    "default (512/64 pixels, 64/24 frames), aggressive, conservative, auto, none, or SIZE/OVERLAP for height and "
    "width, SIZE/OVERLAP,SIZE/OVERLAP for space and frames, three for height, width and frames; '-' leaves one whole"
)


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Declare what every verb has."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--json", action="store_true", help="print lines of JSON instead of text")


def add_model(parser: argparse.ArgumentParser, *, pictures: bool = True, sound: bool = False) -> None:
    """Declare which network, of pictures or sound, and how it runs."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="safetensors file, folder or repository; default: the small one of this package",
    )
    for name, wanted in (("video", pictures), ("audio", sound)):
        if wanted:
            group.add_argument(
                f"--{name}-vae-path",
                type=Path,
                metavar="FILE",
                help=f"the {name} autoencoder in a file of its own (2.5)",
            )
    group.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="default: float32"
    )
    add_machine(group)


def devices(args: argparse.Namespace) -> tuple[str | None, ...]:
    """
    Give the devices that were asked for, with commas between them, or the one that suits this machine.

    Examples
    --------
    >>> devices(argparse.Namespace(device="cuda:0,cuda:1"))
    ('cuda:0', 'cuda:1')
    """
    if args.device in ("auto", None):
        return (taken(args)[1],)
    names = tuple(name.strip() for name in args.device.split(","))
    if not all(names):
        msg = f"--device: got {args.device!r}, expected a device, or several with commas between them"
        raise ValueError(msg)
    return names


def add_tiling(parser: argparse.ArgumentParser, default: str | None = "default") -> None:
    """Declare how work is cut into tiles."""
    group = parser.add_argument_group("tiles")
    group.add_argument("--tiling", metavar="TILING", type=_tiling_name, default=default, help=TILING_HELP)
    group.add_argument(
        "--tile-batch-size", type=positive, default=1, metavar="N", help="most tiles of one call; default: 1"
    )


def add_exact(parser: argparse.ArgumentParser) -> None:
    """Declare the exact decode."""
    parser.add_argument(
        "--exact",
        action=argparse.BooleanOptionalAction,
        help="give what the whole network gives, without seams; the default unless --tiling is given",
    )
    parser.add_argument(
        "--memory", type=n_bytes, metavar="SIZE", help="budget of exact work, such as 2GiB or 500MB; default: small"
    )


def exact(args: argparse.Namespace) -> bool:
    """Say whether to work without seams: when asked, or when nothing else was."""
    return args.tiling is None if args.exact is None else bool(args.exact)


def positive(text: str) -> int:
    """Read a number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        msg = f"expected a whole number of at least 1, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return value


def n_bytes(text: str) -> int:
    """
    Read a number of bytes, as `ltx_models.byte_sizes.parse_bytes` does.

    Examples
    --------
    >>> n_bytes("1.5GiB")
    1610612736
    """
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT; give (height, width)."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if not match:
        msg = f"expected WIDTHxHEIGHT in pixels, such as 1280x704, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(match[2]), int(match[1])


def tiling(text: str | None, shape: tuple[int, int, int]) -> Tiling | TilingConfig | None:
    """
    Give the tiling that a text stands for.

    Parameters
    ----------
    text : str or None
        As `TILING_HELP` says.
    shape : tuple of int
        (frames, height, width) of the video, for ``auto``.

    Returns
    -------
    Tiling, TilingConfig or None
        None leaves everything whole.

    Examples
    --------
    >>> tiling("512/64,64/24", (121, 704, 1280))
    Tiling(height=(512, 64), width=(512, 64), frames=(64, 24))
    """
    if text is None or text == "none":
        return None
    if text == "auto":
        frames, height, width = shape
        return TilingConfig.auto(height, width, frames)
    if text in PRESETS:
        preset: TilingConfig = getattr(TilingConfig, text)()
        return preset
    axes: dict[str, Any] = dict(_axes(text))
    return Tiling(**axes)


@dataclass(frozen=True, slots=True)
class NamedTiling:
    """
    What `tiling` gives for clips of any shape; it can be pickled, and is written as it was given.

    Attributes
    ----------
    text : str
        As `TILING_HELP` says.
    """

    text: str

    def __str__(self) -> str:
        """Give the text."""
        return self.text

    def __call__(self, shape: tuple[int, int, int]) -> Tiling | TilingConfig | None:
        """Give the tiling for (frames, height, width)."""
        return tiling(self.text, shape)


def _tiling_name(text: str) -> str:
    """Check the text of a tiling, so that a mistake is an error of the arguments."""
    if text not in PRESETS:
        _axes(text)
    return text


def _axes(text: str) -> dict[str, tuple[int, int]]:
    """Read sizes and overlaps of named axes, in pixels and frames."""
    parts = text.split(",")
    names = {1: ("space",), 2: ("space", "frames"), 3: ("height", "width", "frames")}.get(len(parts), ())
    matches = [re.fullmatch(r"(\d+)/(\d+)|-", part.strip()) for part in parts]
    if not names or not all(matches):
        msg = f"expected {', '.join(PRESETS)} or SIZE/OVERLAP,..., such as 512/64,64/24, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    axes: dict[str, tuple[int, int]] = {}
    for name, match in zip(names, matches, strict=True):
        if match is not None and match[1] is not None:
            value = int(match[1]), int(match[2])
            axes |= dict.fromkeys(("height", "width") if name == "space" else (name,), value)
    return axes
