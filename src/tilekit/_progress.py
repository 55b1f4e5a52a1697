"""Report how many tiles, or calls, are done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "progress_of"]

Progress = bool | Callable[[int, int], object] | None


@contextmanager
def progress_of(progress: Progress, total: int, label: str, unit: str = "tile") -> Iterator[Callable[[int], object]]:
    """Give a function that takes the number of what is finished, for a bar (True), for a callable, or for nobody."""
    if callable(progress):
        callback = progress
        yield lambda done: callback(done, total)
    elif progress:
        from tqdm import tqdm

        with tqdm(total=total, desc=label, unit=unit) as bar:
            yield lambda done: bar.update(done - bar.n)
    else:
        yield lambda done: None
