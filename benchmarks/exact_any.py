"""Exact decode and encode of the classes of diffusers beside untiled and their own tiling: error, memory, time.

Small networks with seeded random weights, float32, torch on the CPU: they say how exact is exact and what is kept, not
what trained weights give. Each line is one class: ``python benchmarks/exact_any.py "Wan 2.1" --ways decode``.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.tilekit.exact._autoencoders import ZOO, Entry
from tests.tilekit.exact._live import Live

from tilekit import PlanError
from tilekit.adapters import disable_exact_tiling, enable_exact_tiling
from tilekit.adapters._classes import quirks_of, settings

MIB = 2**20


def tensor(made: Any) -> Any:
    """Give the tensor in what a class returns."""
    made = made[0] if type(made) is tuple else made
    names = ("sample", "latents", "latent", "latent_dist")
    made = next((getattr(made, name) for name in names if hasattr(made, name)), made)
    if isinstance(made, torch.Tensor):
        return made
    return made.parameters if hasattr(made, "logvar") else made.mode() if hasattr(made, "mode") else made.mean


def grown(shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """Give the shape with larger pictures, or longer sound."""
    kept = len(shape) - (1 if len(shape) == 3 else 2)
    return (*shape[:kept], *(factor * n for n in shape[kept:]))


def measured(run: Callable[[], Any]) -> tuple[Any, int, float]:
    """Give the result, the peak of live bytes, and the processor time of a second call."""
    with Live() as live:
        result = tensor(run())
    begin = time.process_time()
    run()
    return result, live.peak, time.process_time() - begin


def untiled(vae: Any, way: str, x: Any, kwargs: dict[str, Any]) -> Any:
    """Call it with nothing cut."""
    quirks = quirks_of(vae)
    own = getattr(quirks, way)
    with settings(vae, quirks):
        return own(vae, x) if own is not None else getattr(vae, way)(x, **kwargs)


def own_tiling(vae: Any, way: str, x: Any, kwargs: dict[str, Any], want: Any) -> str:
    """Say how far the tiling of the class is off, and what it takes, with tiles of half of the picture."""
    if not hasattr(vae, "enable_tiling"):
        return "none"
    try:
        vae.enable_tiling()
        made, peak, seconds = measured(lambda: getattr(vae, way)(x, **kwargs))
        if made.shape != want.shape:
            return f"another shape: {tuple(made.shape)}"
        return f"{error(made, want):.1e} {peak / MIB:.1f} {seconds:.2f}"
    except (RuntimeError, ValueError, AttributeError, NotImplementedError) as failed:
        return f"fails: {str(failed)[:40]}"
    finally:
        vae.use_tiling = False


def error(got: Any, want: Any) -> float:
    """Give the largest difference over the largest value."""
    return float((got - want).abs().max() / want.abs().max())


def row(entry: Entry, way: str, factor: int) -> str:
    """Measure one class, one way."""
    vae, kwargs = entry.make(), entry.decode if way == "decode" else {}
    shape = grown(entry.latents if way == "decode" else entry.pictures, factor)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    want, plain, seconds = measured(lambda: untiled(vae, way, x, kwargs))
    cells = [f"{plain / MIB:.1f} {seconds:.2f}"]
    for budget in (None, plain // 2):
        enable_exact_tiling(vae, budget)
        begin = time.process_time()
        try:
            getattr(vae, way)(x, **kwargs)  # plans
        except PlanError:
            cells.append("no plan")
            continue
        first = time.process_time() - begin
        got, peak, again = measured(lambda: getattr(vae, way)(x, **kwargs))
        cells.append(f"{error(got, want):.1e} {peak / MIB:.1f} ({peak / plain:.0%}) {again:.2f} +{first - again:.1f}")
        del got
    disable_exact_tiling(vae)
    cells.append(own_tiling(vae, way, x, kwargs, want))
    return f"{tuple(shape)} -> {tuple(want.shape)} | " + " | ".join(cells)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classes", nargs="*", help=", ".join(ZOO))
    parser.add_argument("--ways", nargs="+", choices=["decode", "encode"], default=["decode", "encode"])
    parser.add_argument("--grow", type=int, default=1, help="pictures larger by this factor along both axes")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    print("| class | way | shapes | untiled: MiB, s | exact: error, MiB, s, +plan s | half the memory | own tiling |")
    print("|---|---|---|---|---|---|---|")
    for name in args.classes or ZOO:
        for way in args.ways:
            print(f"| {name} | {way} | {row(ZOO[name], way, args.grow)} |", flush=True)


if __name__ == "__main__":
    main()
