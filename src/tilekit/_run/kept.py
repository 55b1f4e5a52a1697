"""Finished blocks on disk, so that a run that was killed goes on where it was."""

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from tilekit._errors import DiskError, InputError
from tilekit._run.leftovers import alive, machine, mark
from tilekit.backends import Array, backend_of

__all__ = ["Kept"]

_FORMAT = "tilekit-kept-1"
_KEY = "key.json"
_BLOCK = re.compile(r"(\d{12})-(\d{12})-([0-9a-f]{16})\.npy")
_PART = re.compile(r"\.(\d+)-([0-9a-f]{8})-[0-9a-f]{6}\.part")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Kept:
    """
    Finished blocks of a streamed result in a folder: a run that was killed begins after them, and gives the same.

    Every block is written under a temporary name and renamed when it is complete, so that a process may be killed at
    any moment. Nothing is ever thrown away: remove the folder when its blocks are no longer needed.

    Parameters
    ----------
    folder : str or path-like
        Made where it is not there. It holds these blocks alone.
    key : mapping of str to JSON values
        What the blocks depend on: the plan, the dtype, digests of the input and of the network. A folder with blocks
        of another key is refused.
    axis : int
        The axis of the blocks along which they follow one another: 2 in (B, C, F, H, W).

    Raises
    ------
    InputError
        If the folder belongs to another key, holds files that are none of its own, or blocks that are torn, missing
        or twice there.
    DiskError
        If the folder cannot be made, read or written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from tilekit import OOBLECK_AUDIO, Tiling, stream_tiled
    >>> latents, tiling = np.ones((1, 64, 20)), Tiling(time=(8 * 2048, 2 * 2048))
    >>> def blocks(start):
    ...     decode = lambda z: z[:, :2].repeat(2048, axis=2)
    ...     return stream_tiled(decode, latents, tiling, geometry=OOBLECK_AUDIO, start=start)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kept = Kept(folder, {"input": "twenty ones", "tiling": str(tiling)})
    ...     first = [start // 2048 for start, _ in kept.resume(blocks)]
    ...     again = Kept(folder, {"input": "twenty ones", "tiling": str(tiling)})
    ...     first, again.start // 2048
    ([0, 6, 12], 20)
    """

    def __init__(self, folder: str | os.PathLike[str], key: Mapping[str, Any], *, axis: int = 2) -> None:
        self.folder = Path(folder)
        self.axis = axis
        self._key = json.loads(json.dumps(dict(key)))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            names = sorted(path.name for path in self.folder.iterdir())
        except OSError as error:
            msg = f"cannot keep blocks in {self.folder}: {error.strerror}; choose a folder that can be made and written"
            raise DiskError(error.errno, msg) from error
        self._remove_leftovers(names)
        foreign = [name for name in names if not (_BLOCK.fullmatch(name) or _PART.fullmatch(name) or name == _KEY)]
        if foreign:
            msg = f"{self.folder}: holds {foreign[0]!r}, which is no block of a run; give a folder of its own"
            raise InputError(msg)
        self._blocks = self._found(names)
        self._check_key(_KEY in names)

    @property
    def start(self) -> int:
        """The first cell that is not kept: where the run goes on."""
        return self._blocks[-1][1] if self._blocks else 0

    @property
    def n_bytes(self) -> int:
        """How many bytes the kept blocks take."""
        return sum((self.folder / name).stat().st_size for _, _, name in self._blocks)

    def blocks(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """
        Read the kept blocks, one at a time.

        Yields
        ------
        start : int
            The first cell of the block.
        block : ndarray
            As it was put; bfloat16 as float32.

        Raises
        ------
        InputError
            If a block is not what was written.
        """
        for start, _, name in list(self._blocks):
            path = self.folder / name
            block = _read(path)
            if not name.endswith(f"{_digest(block)}.npy"):
                _refuse_torn(path, "its numbers are not those that were written")
            yield start, block

    def put(self, start: int, block: Array) -> npt.NDArray[Any]:
        """
        Keep a finished block.

        Parameters
        ----------
        start : int
            Its first cell: `Kept.start`.
        block : array
            Of any library and on any device.

        Returns
        -------
        ndarray
            The block, as it will be read.

        Raises
        ------
        InputError
            If the block does not begin where the kept ones end.
        DiskError
            If the disk is full or fails; nothing of the block is left on it, and those before it are whole.
        """
        if start != self.start:
            msg = f"{self.folder}: got a block from {start} on, the kept ones end at {self.start}; blocks come in order"
            raise InputError(msg)
        numbers = backend_of(block).to_numpy(block)
        stop = start + numbers.shape[self.axis]
        name = f"{start:012}-{stop:012}-{_digest(numbers)}.npy"
        self._write(name, partial(_write_npy, numbers))
        self._blocks.append((start, stop, name))
        return np.asarray(numbers)

    def resume(self, stream: Callable[[int], Iterator[tuple[int, Array]]]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """
        Give the kept blocks, then those that are missing, each of which is kept before it is given.

        Parameters
        ----------
        stream : callable
            Gives the blocks from a start on, such as ``lambda start: stream_tiled(decode, latents, start=start)``.

        Yields
        ------
        start : int
            The first cell of the block.
        block : ndarray
            Every block once, in order: the same numbers whether they were kept or made now.
        """
        yield from self.blocks()
        for start, block in stream(self.start):
            yield start, self.put(start, block)

    def _found(self, names: list[str]) -> list[tuple[int, int, str]]:
        """List the blocks in order; refuse gaps, and files that are shorter than they say."""
        found = [(int(m[1]), int(m[2]), name) for name in names if (m := _BLOCK.fullmatch(name))]
        end = 0
        for start, stop, name in found:
            path = self.folder / name
            if start != end:
                _refuse_torn(path, f"the blocks before it end at {end}")
            shape = _read(path, mmap=True).shape
            if not -len(shape) <= self.axis < len(shape) or shape[self.axis] != stop - start:
                _refuse_torn(path, f"it has shape {shape}, not {stop - start} along axis {self.axis}")
            end = stop
        return found

    def _check_key(self, there: bool) -> None:
        """Write the key into a new folder, or compare it with that of the folder."""
        path = self.folder / _KEY
        if not there:
            if self._blocks:
                _refuse_torn(path, "it is missing, so nobody knows whose the blocks are")
            text = json.dumps({"format": _FORMAT, "key": self._key}, indent=1).encode()
            self._write(_KEY, lambda file: file.write(text))
            return
        try:
            value = json.loads(path.read_bytes())
            theirs = dict(value["key"]) if value["format"] == _FORMAT else None
        except (OSError, ValueError, KeyError, TypeError):
            theirs = None
        if theirs is None:
            _refuse_torn(path, "it is not what was written")
        differing = [name for name in (theirs | self._key) if theirs.get(name) != self._key.get(name)]
        if differing:
            rows = (f"{name} is {self._key.get(name)!r}, was {theirs.get(name)!r}" for name in differing)
            msg = f"{self.folder}: holds blocks of another run: {'; '.join(rows)}; give another folder, or remove this"
            raise InputError(msg)

    def _write(self, name: str, write: Callable[[Any], Any]) -> None:
        """Write a file that is there as a whole or not at all."""
        part = self.folder / f".{mark()}-{secrets.token_hex(3)}.part"
        try:
            with part.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / name)
        except OSError as error:
            raise self._disk_error(name, part, error) from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _disk_error(self, name: str, part: Path, error: OSError) -> DiskError:
        reason, free = error.strerror or str(error), "an unknown number of"
        with suppress(OSError):
            part.unlink(missing_ok=True)
            free = str(shutil.disk_usage(self.folder).free)
        advice = "free some space, or copy the folder to a larger disk" if error.errno in _FULL else "see to the disk"
        msg = (
            f"cannot keep {self.folder / name}: {reason} ({free} bytes are free); the blocks before it are whole: "
            f"{advice}, and run again"
        )
        return DiskError(error.errno, msg)

    def _remove_leftovers(self, names: list[str]) -> None:
        """Remove what killed processes of this machine were writing."""
        for name in names:
            found = _PART.fullmatch(name)
            if found and found[2] == machine() and not alive(int(found[1])):
                with suppress(OSError):
                    (self.folder / name).unlink(missing_ok=True)


def _write_npy(numbers: npt.NDArray[Any], file: Any) -> None:
    """Write a .npy; Python's own write tells why it fails, that of NumPy does not."""
    numbers = np.ascontiguousarray(numbers)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(numbers))
    file.write(numbers.data)


def _read(path: Path, *, mmap: bool = False) -> npt.NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        _refuse_torn(path, str(error))


def _refuse_torn(path: Path, why: str) -> NoReturn:
    msg = f"{path}: {why}; remove this block and those after it, and the run goes on before it"
    raise InputError(msg)


def _digest(block: npt.NDArray[Any]) -> str:
    digest = sha256(f"{block.dtype.str} {block.shape}".encode())
    digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()[:16]
