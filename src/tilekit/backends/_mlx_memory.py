"""
Large arrays of MLX whose memory nobody has touched yet.

On a CPU ``mx.empty`` writes zeros, and touching fresh memory page by page costs more than all the blending (figures in
docs/benchmarks/engine.md). MLX reads files into memory that it only allocates; a file
whose reads change nothing leaves that memory as the system gives it, and then it can be asked for in huge pages.
"""

import ctypes
import io
import mmap
import sys
from collections.abc import Sequence
from math import prod
from typing import Any

import mlx.core as mx
import numpy as np

__all__ = ["untouched"]

LARGE = 1 << 25  # bytes from which the allocator always takes pages of its own


def untouched(shape: Sequence[int], dtype: Any) -> Any:
    """Give an evaluated array of this shape; its numbers do not matter."""
    size = prod(shape) * dtype.size
    if size < LARGE or sys.platform != "linux" or mx.default_device().type != mx.cpu:
        out = mx.zeros(tuple(shape), dtype=dtype)
    else:
        file: Any = _Blank(size)
        raw: Any = mx.load(file, format="npy")
        mx.eval(raw)
        _ask_for_huge_pages(np.asarray(raw))
        out = raw.view(dtype).reshape(tuple(shape))
    mx.eval(out)
    return out


def _ask_for_huge_pages(memory: Any) -> None:
    """Tell Linux; where it does not listen, the pages are small and nothing else changes."""
    first = -(-memory.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    size = memory.ctypes.data + memory.nbytes - first
    libc = ctypes.CDLL(None)
    libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)


class _Blank(io.RawIOBase):
    """A file of NumPy's format with `size` bytes, whose reads leave the memory of the reader as it is."""

    def __init__(self, size: int) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
        self._header = header.getvalue()
        self._size = len(self._header) + size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer)
        known = self._header[self._at : self._at + len(into)]
        into[: len(known)] = known
        read = min(len(into), self._size - self._at)
        self._at += read
        return read
