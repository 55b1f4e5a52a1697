"""The one folder that the page reads and writes: a folder for each run, and uploads until a run takes them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from pathlib import Path

from ltx_models.cli.web.runs import Run, read_run
from ltx_models.media import MediaError

NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
SERVED = re.compile(r"video\.mp4|latents\.safetensors|(previews|pictures|given)/[A-Za-z0-9_]{1,64}\.(png|jpg|webp)")
VIDEO, LATENTS, KEPT = "video.mp4", "latents.safetensors", "keep"


class Folder:
    """
    The folder of a server.

    Parameters
    ----------
    root : Path
        Made where it is missing.

    Raises
    ------
    MediaError
        If it cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.runs = self.root / "runs"
        self.uploads = self.root / "uploads"
        try:
            for folder in (self.runs, self.uploads):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"--folder: cannot write {root}: {error.strerror}; choose a folder that can be written"
            raise MediaError(msg) from error

    def new_run(self) -> Path:
        """Make the folder of a new run; names sort by time."""
        path = self.runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        try:
            path.mkdir()
        except OSError as error:
            msg = f"cannot write {path}: {error.strerror}; free some space, or start the server with another --folder"
            raise MediaError(msg) from error
        return path

    def of(self, name: str) -> Path:
        """
        Give the folder of a run.

        Parameters
        ----------
        name : str
            As the page or a browser says it.

        Returns
        -------
        Path
            Inside this folder.

        Raises
        ------
        MediaError
            If there is no such run.
        """
        path = self.runs / name
        if not NAME.fullmatch(name) or not path.is_dir() or path.is_symlink():
            msg = f"run: there is none of the name {name[:40]!r} in {self.runs}"
            raise MediaError(msg)
        return path

    def served(self, name: str, file: str) -> Path:
        """
        Give a file that a browser may read.

        Parameters
        ----------
        name : str
            Of the run.
        file : str
            Of its file: the video, its latents, a picture.

        Returns
        -------
        Path
            A regular file inside the folder of the run, whatever links lie there.

        Raises
        ------
        MediaError
            If it is another file, or is not there.
        """
        folder = self.of(name)
        path = folder / file
        if not SERVED.fullmatch(file) or os.path.realpath(path) != str(path) or not path.is_file():
            msg = f"file: {file[:80]!r} of {name} is none that may be read"
            raise MediaError(msg)
        return path

    def is_upload(self, path: str) -> bool:
        """Whether a file lies among the uploads, links followed."""
        real = Path(os.path.realpath(path))
        return real.is_relative_to(self.uploads) and real != self.uploads

    def all_runs(self) -> list[Run]:
        """Read what every run left, the newest first."""
        folders = sorted((path for path in self.runs.iterdir() if NAME.fullmatch(path.name)), reverse=True)
        return [run for run in map(read_run, folders) if run is not None]

    def remove(self, name: str) -> None:
        """Remove a run with all its files."""
        shutil.rmtree(self.of(name), ignore_errors=True)

    def forget_kept(self, name: str) -> None:
        """Remove what was kept in case a run would be killed."""
        shutil.rmtree(self.of(name) / KEPT, ignore_errors=True)
