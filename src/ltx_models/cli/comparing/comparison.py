"""Several decodes of the same latents, measured, with their differences from the whole one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_models.cli.clips import SPACE, TIME
from ltx_models.cli.comparing.seams import SeamMap
from ltx_models.cli.comparing.ways import Decoding, Sink, Taken, Way
from ltx_models.cli.frames import FrameFile
from ltx_models.media import as_float32


@dataclass(frozen=True, slots=True)
class Compared:
    """
    One decode.

    Attributes
    ----------
    taken : Taken
        What it took.
    difference : SeamMap or None
        From the first decode; None of the first itself.
    """

    taken: Taken
    difference: SeamMap | None


def compare(decoding: Decoding, ways: Iterable[Way], sinks: Mapping[Way, Sink] | None = None) -> dict[Way, Compared]:
    """
    Decode in several ways, and compare all with the first, frame by frame in little memory.

    Parameters
    ----------
    decoding : Decoding
        Latents and decoder.
    ways : iterable of str
        Of `WAYS`; the first is what the others are compared with.
    sinks : mapping of str to callable, optional
        Take (block, first frame) of a way, as float32 on the host.

    Returns
    -------
    dict of str to Compared
        In the order of `ways`.
    """
    _, _, f, h, w = decoding.latents.shape
    frames, height, width = 1 + (f - 1) * TIME, h * SPACE, w * SPACE
    found: dict[Way, Compared] = {}
    decoding.warm_up()
    with tempfile.TemporaryDirectory() as scratch:
        first = FrameFile(Path(scratch) / "first", height, width)
        for way in ways:
            difference = SeamMap(frames, height, width) if found else None
            given = (sinks or {}).get(way)

            def sink(
                block: Any, start: int, difference: SeamMap | None = difference, given: Sink | None = given
            ) -> None:
                values = as_float32(block)
                if difference is None:
                    first.append(values)
                else:
                    for k in range(values.shape[2]):
                        difference.add(start + k, values[0, :, k], first.frame(start + k))
                if given is not None:
                    given(values, start)

            found[way] = Compared(decoding.run(way, sink), difference)
    return found
