"""What the page can be asked to do: take a wish, look at a run, cancel it, go on, remove it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from ltx_models.byte_sizes import format_bytes, parse_bytes
from ltx_models.cli.comparing.forecast import Expected
from ltx_models.cli.web.comparing import Comparing, asked_of, usual_tiling
from ltx_models.cli.web.desk import Desk, draft
from ltx_models.cli.web.folder import LATENTS, Folder
from ltx_models.cli.web.queue import Queue
from ltx_models.cli.web.runs import Run
from ltx_models.cli.web.uploads import check_clip, check_picture, check_sound, take_clip, take_picture, take_sound
from ltx_models.cli.web.views import outlook_view
from ltx_models.cli.web.wish import WRITES, Wish
from ltx_models.media import DiskError, MediaError

LEAST_FREE = 32 * 2**20  # bytes of disk without which no run is begun
MOST_WAITING = 50


class Studio:
    """
    Folder, queue and networks of a server.

    Parameters
    ----------
    folder : Folder
        Of all files.
    queue : Queue
        Of all runs.
    desk : Desk
        Of the networks.
    comparing : Comparing
        Of the decodes that are compared.
    most_upload : int
        Bytes of a file.
    """

    def __init__(self, folder: Folder, queue: Queue, desk: Desk, comparing: Comparing, most_upload: int) -> None:
        self.folder, self.queue, self.desk, self.comparing = folder, queue, desk, comparing
        self.most_upload = most_upload

    def look(self, wish: Wish) -> str:
        """Check a draft, and draw what it would take, as HTML."""
        self._check(wish)
        return outlook_view(self.desk.outlook(draft(wish)), parse_bytes(wish.memory) if wish.memory.strip() else None)

    def make(self, wish: Wish) -> str:
        """
        Put a wish into the queue.

        Parameters
        ----------
        wish : Wish
            With uploads as its files.

        Returns
        -------
        str
            Name of the run.

        Raises
        ------
        ValueError
            If something does not fit; the text says what would.
        MediaError
            If an upload cannot be read, or nothing can be written.
        """
        place = self._place()
        try:
            taken = self._take(wish, place)
            peaks = self.desk.outlook(taken).peaks
            title = " ".join(wish.prompt.split())
            own = [flag.replace(f"{place}/", "") for flag in self.desk.flags(taken)]
            asked = {"peaks": peaks}
            self.queue.submit(Run(place.name, "generate", title, (*own, *WRITES), asked=asked))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return place.name

    def compare(self, source: str, tiling: str, memory: str) -> str:
        """
        Put a comparison of the ways to decode a run's latents into the queue.

        Parameters
        ----------
        source : str
            Name of the run.
        tiling, memory : str
            Of the blended and of the exact decode, as the command line takes them.

        Returns
        -------
        str
            Name of the comparison.

        Raises
        ------
        ValueError
            If something does not fit; the text says what would.
        MediaError
            If there are no such latents, or nothing can be written.
        """
        found, run = self.forecast(source, tiling, memory), self.find(source)
        assert run is not None
        place = self._place()
        backend = next((flag.partition("=")[2] for flag in run.flags if flag.startswith("--backend=")), "")
        flags = tuple(self.comparing.flags(source, tiling, memory, backend))
        title = f"{run.title}: whole, exact, blended ({tiling})"
        self.queue.submit(Run(place.name, "seams", title, flags, asked=asked_of(run, found)))
        return place.name

    def forecast(self, source: str, tiling: str, memory: str) -> list[Expected]:
        """Forecast such a comparison."""
        return self.comparing.forecast(self.folder.served(source, LATENTS), tiling.strip(), memory)

    def usual_tiling(self, source: str) -> str:
        """Give a tiling that cuts the video of a run."""
        return usual_tiling(self.folder.served(source, LATENTS))

    def comparable(self) -> list[Run]:
        """Give the runs that left latents, the newest first."""
        made = [run for run in self.queue.all() if run.verb == "generate"]
        return [run for run in made if (self.folder.of(run.name) / LATENTS).is_file()]

    def _place(self) -> Path:
        """Make the folder of a run, where there is room for one."""
        self._refuse_crowd()
        free = shutil.disk_usage(self.folder.root).free
        if free < LEAST_FREE:
            msg = (
                f"{self.folder.root}: {format_bytes(free)} are free on its disk, a run needs at least "
                f"{format_bytes(LEAST_FREE)}; free some space"
            )
            raise DiskError(msg)
        return self.folder.new_run()

    def _refuse_crowd(self) -> None:
        waiting = self.queue.count()
        if waiting >= MOST_WAITING:
            msg = f"queue: {waiting} runs wait already; wait until some are done, or cancel some"
            raise ValueError(msg)

    def _take(self, wish: Wish, place: Path) -> Wish:
        """Check the uploads of a wish, and write them into the folder of its run."""
        given, pictures, sound, clip = place / "given", [], None, None
        if wish.pictures or wish.sound or wish.clip:
            given.mkdir()
        for number, picture in enumerate(wish.pictures):
            pictures.append(given / f"picture{number}.png")
            take_picture(self._uploaded(picture), pictures[-1], self.most_upload)
        if wish.sound is not None:
            sound = given / "sound"
            take_sound(self._uploaded(wish.sound), sound, self.most_upload)
        if wish.clip is not None:
            clip = given / "clip"
            take_clip(self._uploaded(wish.clip), clip, self.most_upload)
        return replace(wish, pictures=tuple(pictures), sound=sound, clip=clip)

    def _check(self, wish: Wish) -> None:
        """Check the uploads of a draft before anything opens them."""
        for picture in wish.pictures:
            check_picture(self._uploaded(picture), self.most_upload)
        if wish.sound is not None:
            check_sound(self._uploaded(wish.sound), self.most_upload)
        if wish.clip is not None:
            check_clip(self._uploaded(wish.clip), self.most_upload)

    def _uploaded(self, path: Path) -> Path:
        if not self.folder.is_upload(str(path)):
            msg = f"{path.name}: was not uploaded here; upload it again"
            raise MediaError(msg)
        return path

    def find(self, name: str) -> Run | None:
        """Give what is known of a run."""
        return self.queue.find(name) if name else None

    def go_on(self, name: str) -> None:
        """Put a run that ended before it was done into the queue again; it continues after what is kept."""
        run = self.find(name)
        if run is None or not run.over or run.state == "done":
            msg = "run: there is nothing to go on with"
            raise ValueError(msg)
        self._refuse_crowd()
        self.queue.submit(run)

    def remove(self, name: str) -> None:
        """Remove a run that is over, with all its files."""
        run = self.find(name)
        if run is not None and not run.over:
            msg = "run: it is at work or waits; cancel it first"
            raise ValueError(msg)
        self.folder.remove(name)
        self.queue.forget(name)
