"""``ltx-models serve``: a page in the browser, on this machine."""

import argparse
from pathlib import Path
from typing import Any

from ltx_models.cli.generate_options import add_files, add_memory
from ltx_models.cli.options import add_debug, n_bytes
from ltx_models.download import PIPELINES

ABOUT = """\
Open a page in the browser that makes videos from prompts, with a preview while it
works, and compares blended, exact and whole decodes. It listens to this machine
alone, and sends nothing anywhere. Needs the extra 'web'."""


def add(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "serve",
        help="a page in the browser",
        description=ABOUT,
        usage="%(prog)s [--checkpoint-path PATH] [flags]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("page")
    group.add_argument(
        "--folder", type=Path, default=Path("ltx-models-runs"), metavar="DIR",
        help="where all files of the page are; default: ltx-models-runs",
    )  # fmt: skip
    group.add_argument("--host", default="127.0.0.1", metavar="NAME", help="address to listen to; default: 127.0.0.1")
    group.add_argument("--port", type=_port, default=7860, metavar="N", help="default: 7860")
    group.add_argument(
        "--token",
        metavar="TEXT",
        help="what a browser must know; made anew where another address than the local one listens",
    )
    group.add_argument(
        "--max-upload", type=n_bytes, default=100 * 2**20, metavar="SIZE", help="of a picture or sound; default: 100MiB"
    )
    parser.add_argument(
        "--pipeline",
        choices=tuple(PIPELINES),
        metavar="NAME",
        help="that the form begins with; default: by the files given",
    )
    add_files(parser)
    add_memory(parser)
    add_debug(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Serve until told to stop."""
    from ltx_models.cli.web.app import serve

    serve(args)


def _port(text: str) -> int:
    """Read a number of a port."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**16):
        msg = f"expected a port from 1 to 65535, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)
