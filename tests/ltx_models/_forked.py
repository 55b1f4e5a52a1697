"""A command line in a process that is forked with everything imported: what it says goes into a file."""

import os
import sys
from pathlib import Path


def spoken(arguments: list[str], environment: dict[str, str], folder: Path, said: Path) -> None:
    """Run a command in a folder, as a process of its own would with these variables."""
    from ltx_models.cli import main

    os.environ.update(environment)
    os.chdir(folder)
    for stream, path in ((1, os.devnull), (2, str(said))):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    raise SystemExit(main(arguments))
