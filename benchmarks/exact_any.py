"""Exact decode and encode of the classes of diffusers beside the plain call and their own tiling: error, memory, time.

Small networks with seeded random weights, float32, torch on the CPU: they say how exact is exact and what is kept, not
what trained weights give. Each line is one class: ``python benchmarks/exact_any.py "Wan 2.1" --ways decode``.
Forecasts at the widths of published models are made by ``benchmarks/real_widths.py``.
"""

import argparse
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.tilekit.exact._autoencoders import ZOO, Entry, tensor
from tests.tilekit.exact._live import Live

from tilekit import PlanError
from tilekit.adapters import disable_exact_tiling, enable_exact_tiling
from tilekit.adapters._classes import quirks_of, settings

MIB = 2**20


def grown(shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """Give the shape with larger pictures, or longer sound."""
    kept = len(shape) - (1 if len(shape) < 4 else 2)
    return (*shape[:kept], *(factor * n for n in shape[kept:]))


def measured(run: Callable[[], Any]) -> tuple[Any, int, float]:
    """Give the result, the peak of live bytes, and the processor time of a second call."""
    with Live() as live:
        result = tensor(run())
    begin = time.process_time()
    run()
    return result, live.peak, time.process_time() - begin


def plain_call(vae: Any, way: str, x: Any, kwargs: dict[str, Any]) -> Any:
    """Call it with nothing cut."""
    quirks = quirks_of(vae)
    own = getattr(quirks, way)
    with settings(vae, quirks):
        return own(vae, x) if own is not None else getattr(vae, way)(x, **kwargs)


class TooLongError(Exception):
    """A row took more than its time."""


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Stop what takes more processor time; signals of this kind are of POSIX."""

    def stop(*_: Any) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def halve_tiles(vae: Any, picture: tuple[int, ...], ratio: int) -> None:
    """Set the tiles of a class to half of a picture, with strides of three quarters of that."""
    sizes = {}
    for axis, n in (("height", picture[-2]), ("width", picture[-1])):
        sizes[axis] = max(2, n // 2 // ratio) * ratio
    sizes["size"] = min(sizes.values())
    for axis, tile in sizes.items():
        stride = max(1, tile * 3 // 4 // ratio) * ratio
        for name, value in (("sample_min", tile), ("latent_min", tile // ratio)):
            if hasattr(vae, f"tile_{name}_{axis}"):
                setattr(vae, f"tile_{name}_{axis}", value)
        for name, value in (("sample_stride", stride), ("latent_stride", stride // ratio)):
            if hasattr(vae, f"tile_{name}_{axis}"):
                setattr(vae, f"tile_{name}_{axis}", value)


def own_tiling(vae: Any, way: str, x: Any, kwargs: dict[str, Any], want: Any) -> str:
    """Say how far the tiling of the class is off, and what it takes, with tiles of half of the picture."""
    if not hasattr(vae, "enable_tiling") or x.ndim < 4:
        return "none"
    try:
        vae.enable_tiling()
        big, small = (want, x) if way == "decode" else (x, want)
        halve_tiles(vae, tuple(big.shape), max(1, big.shape[-1] // small.shape[-1]))
        made, peak, seconds = measured(lambda: getattr(vae, way)(x, **kwargs))
        if made.shape != want.shape:
            return f"another shape: {tuple(made.shape)}"
        return f"{error(made, want):.1e} {peak / MIB:.1f} {seconds:.2f}"
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError, ZeroDivisionError) as failed:
        return f"fails: {str(failed)[:40]}"
    finally:
        vae.use_tiling = False


def error(got: Any, want: Any) -> float:
    """Give the largest difference over the largest value."""
    return float((got - want).abs().max() / want.abs().max())


def least(refused: PlanError, plain: int) -> str:
    """Say what the plan that needs least takes."""
    found = re.search(r"takes (\d+)", str(refused))
    return "refused" if found is None else f"refused: takes {int(found[1]) / plain:.0%} at least"


def exactly(vae: Any, way: str, x: Any, kwargs: dict[str, Any], want: Any, plain: int, most: int) -> str:
    """Decode or encode exactly in half of the memory that the plain call was counted to take."""
    enable_exact_tiling(vae, plain // 2)
    begin = time.process_time()
    try:
        with limit(most):
            getattr(vae, way)(x, **kwargs)  # follows, plans, and compares a small input
            first = time.process_time() - begin
            got, peak, again = measured(lambda: getattr(vae, way)(x, **kwargs))
    except PlanError as refused:
        return least(refused, plain)
    except TooLongError:
        return f"more than {most} s"
    finally:
        disable_exact_tiling(vae)
    return f"{error(got, want):.1e} {peak / MIB:.1f} ({peak / plain:.0%}) {again:.2f} +{first - again:.1f}"


def row(entry: Entry, way: str, factor: int, most: int) -> str:
    """Measure one class, one way."""
    vae, kwargs = entry.make(), getattr(entry, way)
    shape = grown(entry.latents if way == "decode" else entry.pictures, factor)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    want, plain, seconds = measured(lambda: plain_call(vae, way, x, kwargs))
    cells = [f"{plain / MIB:.1f} {seconds:.2f}", exactly(vae, way, x, kwargs, want, plain, most)]
    cells.append(own_tiling(vae, way, x, kwargs, want))
    return f"{tuple(shape)} -> {tuple(want.shape)} | " + " | ".join(cells)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classes", nargs="*", help=", ".join(ZOO))
    parser.add_argument("--ways", nargs="+", choices=["decode", "encode"], default=["decode", "encode"])
    parser.add_argument("--grow", type=int, default=1, help="pictures larger by this factor along both axes")
    parser.add_argument("--limit", type=int, default=60, help="processor seconds for a plan and its calls")
    args = parser.parse_args()
    if unknown := set(args.classes) - set(ZOO):
        parser.error(f"no such class: {', '.join(sorted(unknown))}; there are {', '.join(ZOO)}")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    begin = time.process_time()
    asked = args.classes or ZOO
    print("| class | way | shapes | plain: MiB, s | exact, half the memory: error, MiB, s, +plan s | own tiling |")
    print("|---|---|---|---|---|---|")
    for name in asked:
        for way in args.ways:
            print(f"| {name} | {way} | {row(ZOO[name], way, args.grow, args.limit)} |", flush=True)
    print(f"\n{time.process_time() - begin:.0f} processor seconds")


if __name__ == "__main__":
    main()
