"""Report how many tiles, or calls, are done."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tilekit._errors import PlanError

__all__ = ["Progress", "checked_progress", "progress_of", "watched"]

Progress = bool | Callable[[int, int], object] | None


DELAY = 1.0  # seconds of work before a bar that nobody asked for is shown


def watched() -> bool:
    """
    Say whether a person looks on: standard error is a terminal, or the code runs in a notebook.

    Returns
    -------
    bool
        What ``progress=None`` goes by.

    Examples
    --------
    >>> watched()  # a test is neither
    False
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ == "ZMQInteractiveShell":
        return True
    return sys.stderr is not None and sys.stderr.isatty()


def checked_progress(progress: Any) -> Progress:
    """Refuse what neither shows a bar nor can be told."""
    if progress is None or isinstance(progress, bool) or callable(progress):
        given: Progress = progress
        return given
    msg = f"progress: got {progress!r}, expected True for a bar, False for none, or a callable of (done, total)"
    raise PlanError(msg)


@contextmanager
def progress_of(progress: Progress, total: int, label: str, unit: str = "tile") -> Iterator[Callable[[int], object]]:
    """Give a function that takes the number of what is finished, for a bar, for a callable, or for nobody."""
    progress = checked_progress(progress)
    if callable(progress):
        callback = progress
        yield lambda done: callback(done, total)
    elif progress or (progress is None and watched()):
        from tqdm.auto import tqdm

        with tqdm(total=total, desc=label, unit=unit, delay=0 if progress else DELAY) as bar:
            yield lambda done: bar.update(done - bar.n)
    else:
        yield lambda done: None
