"""Tell how many tiles are done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "progress_of"]

Progress = bool | Callable[[int, int], object] | None


@contextmanager
def progress_of(progress: Progress, total: int, what: str) -> Iterator[Callable[[int], object]]:
    """
    Give a function that is told the number of finished tiles.

    Parameters
    ----------
    progress : bool, callable or None
        True for a bar, a callable for (done, total), else nothing.
    total : int
        Number of tiles.
    what : str
        Label of the bar.

    Yields
    ------
    callable
        Takes the number of finished tiles.
    """
    if callable(progress):
        told = progress
        yield lambda done: told(done, total)
    elif progress:
        from tqdm import tqdm

        with tqdm(total=total, desc=what, unit="tile") as bar:
            yield lambda done: bar.update(done - bar.n)
    else:
        yield lambda done: None
