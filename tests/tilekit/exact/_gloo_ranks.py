"""
What one of four processes does for `test_strips_gloo`: ``python _gloo_ranks.py FOLDER``, RANK in the environment.

Groups of two, three and four of them make each case; what came is written to a file of JSON.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import tilekit
from tilekit import RankError, Strips
from tilekit.backends import canary
from tilekit.backends._faults_torch import TorchFaults
from tilekit.backends.limits import Limits, pretended
from tilekit.testing import limited

RANK, WORLD = int(os.environ.get("RANK", "0")), 4
MOST = 3000
"""Elements that the device of `limited_alike` gets right."""


class Attention(nn.Module):
    """Every cell looks at every other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Add what was looked at."""
        b, c, h, w = x.shape
        q, k, v = (y.reshape(b, 1, c, h * w).transpose(2, 3) for y in self.qkv(x).chunk(3, 1))
        seen: Tensor = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + seen.transpose(2, 3).reshape(b, c, h, w)


def image(groups: bool) -> nn.Module:
    """A decoder of images, with the parts of an AutoencoderKL."""
    norm: Callable[[int], nn.Module] = (lambda n: nn.GroupNorm(4, n)) if groups else (lambda n: nn.Identity())
    attention = [Attention(16)] if groups else []
    return nn.Sequential(
        nn.Conv2d(4, 16, 3, padding=1), norm(16), nn.SiLU(), *attention, nn.Conv2d(16, 16, 3, padding=1), norm(16),
        nn.Upsample(scale_factor=2), nn.Conv2d(16, 8, 3, padding=1), norm(8), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1),
    )  # fmt: skip


def clip() -> nn.Module:
    """A decoder of clips."""
    return nn.Sequential(
        nn.Conv3d(4, 8, 3, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv3d(8, 8, 3, padding=1), nn.SiLU(),
        nn.Conv3d(8, 3, 3, padding=1),
    )  # fmt: skip


def encoder() -> nn.Module:
    """An encoder of images."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 3, padding=1),
    )  # fmt: skip


CASES: list[tuple[str, Callable[[], nn.Module], tuple[int, ...], int, tuple[int, int] | None]] = [
    ("columns", lambda: image(False), (1, 4, 8, 10), 2, None),
    ("norms", lambda: image(True), (1, 4, 8, 9), 2, None),
    ("encoder", encoder, (1, 3, 16, 24), 2, (2, 1)),
    ("clip", clip, (1, 4, 3, 5, 7), 2, None),
    ("uneven", lambda: image(True), (1, 4, 8, 10), 3, None),
    ("rows", clip, (1, 4, 3, 7, 5), 3, (3, 1)),
    ("grid", clip, (1, 4, 3, 5, 7), 4, None),
    ("norms in a grid", lambda: image(True), (2, 4, 6, 10), 4, (2, 2)),
    ("encoder in a grid", encoder, (1, 3, 16, 24), 4, (2, 2)),
]


def case(make: Callable[[], nn.Module], shape: tuple[int, ...], strips: Strips) -> dict[str, Any]:
    """Make a result alone, together, and as a stream."""
    torch.manual_seed(1)
    function, x = make(), torch.randn(shape)
    want, exact = function(x), tilekit.exact(function)
    one = exact(x)
    strip = exact(x, strips=strips)
    told: dict[str, Any] = {"shape": list(strip.shape), "place": [[part.start, part.stop] for part in strip.place]}
    told |= {"error": (strip.array - one[strip.place]).abs().max().item(), "sent": strips.sent_bytes}
    told["plain"] = (strip.array - want[strip.place]).abs().max().item()
    if strips.grid is None:
        blocks = list(exact.stream(x, strips=strips))
        told["stream"] = max((part.array - one[part.place]).abs().max().item() for _, part in blocks)
        told["starts"], told["sent by stream"] = [start for start, _ in blocks], strips.sent_bytes
    return told


def gathered(group: Any) -> dict[str, Any]:
    """Bring everything to the first rank."""
    torch.manual_seed(1)
    strips = Strips(group, gather=True)
    function, x = clip(), torch.randn(1, 4, 3, 5, 7)
    want, exact = function(x), tilekit.exact(function, memory_bytes=1 << 20)
    whole = exact(x, strips=strips)
    blocks = list(exact.stream(x, strips=strips))
    if RANK:
        return {"whole": whole is None, "stream": not blocks}
    joined = torch.cat([block for _, block in blocks], 2)
    return {"whole": torch.allclose(whole, want, atol=1e-6), "stream": torch.allclose(joined, want, atol=1e-6)}


def limited_alike(group: Any) -> dict[str, Any]:
    """Make a result where every rank has a device that gets large arrays wrong; then one that is gathered."""
    torch.manual_seed(1)
    function, x = clip(), torch.randn(1, 4, 7, 5, 8)
    want, exact = function(x), tilekit.exact(function, memory_bytes=1 << 40)
    for _ in range(2):  # the canary asks the first time
        with limited(Limits(elements=1 << 40)) as free:
            exact(x, strips=Strips(group))
    told: dict[str, Any] = {"free": free.elements, **asked_near(exact, x, group)}
    for stream in (False, True):
        with limited(Limits(elements=MOST)) as faults:
            strips = Strips(group)
            held = [part for _, part in exact.stream(x, strips=strips)] if stream else [exact(x, strips=strips)]
        error = max((part.array - want[part.place]).abs().max().item() for part in held)
        told["stream" if stream else "call"] = {"error": error, "elements": faults.elements, "played": faults.played}
    with limited(Limits(elements=MOST)):
        try:
            exact(x, strips=Strips(group, gather=True))
        except tilekit.PlanError as error:
            told["gathered"] = str(error)
    with pretended(Limits(elements=1 << 40)), TorchFaults(Limits(convolution=100)):  # of which no plan knows
        try:
            exact(x, strips=Strips(group))
        except tilekit.DeviceError as error:
            told["flat"] = str(error)
    return told


def asked_near(exact: Any, x: Tensor, group: Any) -> dict[str, Any]:
    """Tell what the device of this rank was asked for, where cases may be small and take as much work as the run."""
    names: list[str] = []
    kept = canary._run, canary.SHARE, canary.LEAST

    def heard(sought: Any, device: Any) -> Any:
        names.append(sought.name)
        return kept[0](sought, device)

    canary._run, canary.SHARE, canary.LEAST = heard, 1, 2
    with limited(Limits(elements=MOST)):
        exact(x, strips=Strips(group))
    canary._run, canary.SHARE, canary.LEAST = kept
    sizes = [held.sizes[RANK].elements for held in exact._divided.values() if held.sizes[RANK].elements]
    return {"asked": [name for name in names if name.startswith("an array of")], "sizes": sizes}


def refused(group: Any) -> dict[str, str]:
    """Give another input, NaN, and too few latents for the ranks."""
    function = tilekit.exact(image(False))
    told = {}
    inputs = {"other": torch.full((1, 4, 8, 8), float(RANK)), "few": torch.zeros(1, 4, 8, 3)}
    inputs["nan"] = torch.full((1, 4, 8, 8), float("nan"))
    for name, x in inputs.items():
        try:
            function(x, strips=Strips(group))
        except ValueError as error:
            told[name] = str(error)
    return told


def killed() -> dict[str, Any]:
    """End the last rank in the middle of a stream, without a word."""
    begun = time.monotonic()
    try:
        for start, _ in tilekit.exact(clip()).stream(torch.randn(1, 4, 9, 5, 8), strips=Strips()):
            begun = time.monotonic()
            if start and RANK == WORLD - 1:
                os.kill(os.getpid(), signal.SIGKILL)
    except RankError as error:
        return {"text": str(error), "seconds": time.monotonic() - begun}
    return {}


def main(folder: Path) -> None:
    """Make all cases."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    store = torch._C._distributed_c10d.FileStore(str(folder / "store"), WORLD)
    dist.init_process_group("gloo", store=store, rank=RANK, world_size=WORLD, timeout=timedelta(seconds=60))
    groups = {size: dist.group.WORLD if size == WORLD else dist.new_group(range(size)) for size in (2, 3, 4)}
    told: dict[str, Any] = {}
    for size, group in groups.items():
        rows = [row for row in CASES if row[3] == size]
        if size > RANK:
            held = {grid: Strips(group, grid) for grid in dict.fromkeys(row[4] for row in rows)}
            for name, make, shape, _, grid in rows:
                torch.manual_seed(0)
                told[name] = case(make, shape, held[grid])
    told["gathered"] = gathered(groups[4])
    told["limited"] = limited_alike(groups[4])
    told["refused"] = refused(groups[4])
    path = folder / f"{RANK}.json"
    path.write_text(json.dumps(told))
    dist.barrier()
    told["killed"] = killed()
    path.write_text(json.dumps(told))
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
