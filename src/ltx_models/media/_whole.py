"""Whether a file ends where it says: FFmpeg reads what there is, and calls that all."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ltx_models.media._files import MediaError

_UNKNOWN = 0x7FFFF000  # what programs write into a RIFF's length when they do not know it, or more
_EBML_HEADER, _SEGMENT = 0x1A45DFA3, 0x18538067
_FLV_SIZE = b"\x00\x08filesize\x00"  # the name of a number, its length before it and its type behind it
_TS_PACKETS = {188: 0, 192: 4, 204: 0}  # bytes, and those before the first mark: plain, timed, corrected


def refuse_cut(path: str | os.PathLike[str], format_name: str) -> None:
    """
    Refuse a file that is shorter than its own structure says.

    Parameters
    ----------
    path : str or path-like
        The file.
    format_name : str
        As FFmpeg names its format.

    Raises
    ------
    MediaError
        If its end is missing.

    Notes
    -----
    A transport stream, or fragments of mp4 without an index, cut exactly between two packets or fragments look whole;
    so does every file that was written without its length being known, as live recordings are.
    Sources: ISO/IEC 14496-12, 4.2 (boxes), 8.8 and 8.16.3 (fragments, their index); RFC 8794, 4 to 6 (EBML); GIF89a,
    17 to 27; RIFF as AVI and WAVE use it; Adobe Flash Video File Format Specification 10.1, annex E (tags; the number
    ``filesize`` of the first of them).
    """
    check = next((check for name, check in _CHECKS.items() if name in format_name.split(",")), None)
    if check is None:
        return
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        whole = check(file, size)
    if not whole:
        msg = f"{path}: is cut off or damaged: its parts are longer than the file, which has {size} bytes"
        raise MediaError(msg)


def _boxes(file: BinaryIO, size: int) -> bool:
    """mp4 and mov: a row of boxes, each of which says its length; the frames of a fragment stand behind its header."""
    at, before, fragments = 0, b"", False
    while at < size:
        file.seek(at)
        head = file.read(16)
        kind = head[4:8]
        if at and not (len(kind) == 4 and kind.isascii() and kind.replace(b" ", b"").isalnum()):
            # what somebody put behind the last box; the first bytes of a length are zeros too
            return before != b"moof" and (len(head) >= 8 or (not fragments and not any(head)))
        length = int.from_bytes(head[:4], "big")
        if length == 0:  # the last box, up to the end
            return True
        length = int.from_bytes(head[8:16], "big") if length == 1 else length
        if length < 8 or (kind == b"sidx" and at + length + _indexed(file, at, length) > size):
            return False
        at += length
        before, fragments = kind, fragments or kind == b"moof"
    return at == size and before != b"moof"


def _indexed(file: BinaryIO, at: int, length: int) -> int:
    """Bytes that a segment index ('sidx') says there are behind it."""
    file.seek(at + 8)
    index = file.read(min(length - 8, 32 + 12 * 0xFFFF))
    start = 16 if index[:1] == b"\0" else 20  # version 1 has times and offsets of 64 bits
    entries = range(2 * start - 8, len(index) - 11, 12)
    sizes = (int.from_bytes(index[at : at + 4], "big") & 0x7FFFFFFF for at in entries)
    return int.from_bytes(index[start : 2 * start - 12], "big") + sum(sizes)


def _ebml(file: BinaryIO, size: int) -> bool:
    """Matroska and WebM: a header, and a segment that says its length where that was known."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(12)
        ident_bytes = 9 - head[0].bit_length()
        if ident_bytes > 4 or len(head) <= ident_bytes:
            return False
        length_bytes = 9 - head[ident_bytes].bit_length()
        body = head[ident_bytes : ident_bytes + length_bytes]
        if length_bytes > 8 or len(body) < length_bytes:
            return False
        length = int.from_bytes(body, "big") - (1 << 7 * length_bytes)
        ident = int.from_bytes(head[:ident_bytes], "big")
        if length == (1 << 7 * length_bytes) - 1 or ident not in {_EBML_HEADER, _SEGMENT}:
            return True  # nobody knew, or something that follows
        at += ident_bytes + length_bytes + length
    return at == size


def _riff(file: BinaryIO, size: int) -> bool:
    """AVI and WAVE: RIFF chunks, of even length."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length == 0 or length >= _UNKNOWN:
            return True
        if at + 8 + length > size:
            return False
        at += 8 + length + length % 2
    return True


def _flv(file: BinaryIO, size: int) -> bool:
    """FLV: a row of tags, of which the first may say how long the file is: a cut between two tags is known by that."""
    at = int.from_bytes(file.read(9)[5:], "big") + 4
    file.seek(at)
    tag = file.read(11)
    values = file.read(int.from_bytes(tag[1:4], "big")).partition(_FLV_SIZE)[2]
    if len(values) >= 8 and struct.unpack(">d", values[:8])[0] > size:
        return False
    while at < size:
        file.seek(at)
        at += 15 + int.from_bytes(file.read(11)[1:4], "big")
    return at == size


def _gif(file: BinaryIO, size: int) -> bool:
    """GIF: blocks, up to a trailer."""
    head = file.read(13)
    if len(head) < 13:
        return False
    _skip_colours(file, head[10])
    while kind := file.read(1):
        if kind == b"\x3b":
            return True
        if kind == b"\x21":
            file.read(1)
        elif kind == b"\x2c":
            _skip_colours(file, (file.read(9) or b"\0")[-1])
            file.read(1)
        else:
            return False
        while count := file.read(1)[:1]:
            if count == b"\0":
                break
            file.seek(count[0], os.SEEK_CUR)
    return False


def _skip_colours(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << (flags & 7) + 1, os.SEEK_CUR)


def _packets(file: BinaryIO, size: int) -> bool:
    """Transport streams: packets of one length, each with a byte by which it is known."""
    head = file.read(2 * max(_TS_PACKETS))
    fitting = [n for n, before in _TS_PACKETS.items() if head[before::n][:2] == b"GG"]
    return not fitting or any(size % length == 0 for length in fitting)


_CHECKS: dict[str, Callable[[BinaryIO, int], bool]] = {
    "mov": _boxes,
    "matroska": _ebml,
    "avi": _riff,
    "wav": _riff,
    "flv": _flv,
    "gif": _gif,
    "mpegts": _packets,
}
