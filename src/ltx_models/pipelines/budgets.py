"""What a decode may take, and what a run will take, before any weights are read."""

from __future__ import annotations

from collections.abc import Mapping

from ltx_models.byte_sizes import format_bytes
from ltx_models.pipelines.call import OutputOptions
from ltx_models.pipelines.components import Components
from ltx_models.pipelines.forecast import Decode, describe_forecast
from ltx_models.pipelines.grid import Size
from ltx_models.pipelines.memory import GIB, MemoryPlan
from ltx_models.pipelines.request import Request
from ltx_models.pipelines.resolve import networks_of

DECODE_BYTES = 8 * GIB


def decode_of(components: Components, size: Size) -> Decode:
    """Read what the decode of a clip depends on."""
    itemsize = 4 if components.dtype == "float32" else 2
    return Decode.read(components.files.of("video_decoder"), size, itemsize)


def decode_budget(components: Components, memory: MemoryPlan | None, options: OutputOptions, request: Request) -> int:
    """Say what the decode may take, and refuse one that does not fit: better now than after the denoising."""
    room = options.decode_bytes or (memory.decode_bytes if memory else DECODE_BYTES)
    if "video_decoder" not in networks_of(request, options):
        return room
    decode = decode_of(components, request.size)
    decode.check_frame(request.size)
    if options.decode_bytes is None:
        room = decode.budget(room) if memory else max(room, decode.least)
    decode.plan(room)
    return room


def check_previews(components: Components, request: Request) -> None:
    """Refuse previews that cannot be decoded: better now than after the first step."""
    small = request.size.half if request.recipe.two_stages else None
    decode_of(components, request.size).check_frame(request.size, small)


def said_of_peaks(peaks: Mapping[str, int], memory: MemoryPlan) -> list[str]:
    """Say what each step will take, and whether that is more than there is."""
    lines = [describe_forecast(peaks)]
    step = max(peaks, key=lambda name: peaks[name])
    if peaks[step] > memory.memory_bytes:
        most = format_bytes(memory.memory_bytes)
        lines.append(f"{step} may need more than the {most} given; a smaller picture or fewer frames need less")
    return lines
