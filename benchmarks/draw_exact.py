"""
Draw how `tilekit.exact` works: boxes pulled through convolutions, a plan over its steps, errors beside blended tiles.

    python benchmarks/draw_exact.py [FOLDER]

Needs the extras torch and plot, and diffusers for the plan of a published network. The errors are those of the small
video decoder of the package, of latents of noise.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.tilekit.exact._published import KL, function, made

import tilekit
from ltx_models import default_checkpoint, load_video_decoder

CELLS, LAYERS, CHUNK = 24, 4, 4
SHAPE = (1, 128, 9, 4, 6)
LATENTS, BUDGETS = (1, 4, 64, 64), (None, 0.36, 0.2)
MIB = 1 << 20


def pulled(step: int) -> list[tuple[int, int]]:
    """Give the cells of each layer, the input first, that exist once a step's box of the last layer is made."""
    stop = min(CELLS, (step + 1) * CHUNK)
    ends = [stop]
    for _ in range(LAYERS):
        ends.insert(0, min(CELLS, ends[0] + 1))  # a convolution of three cells reads one further
    return [(0, end) for end in ends]


def draw_boxes(plt: Any, path: Path) -> None:
    """Draw three steps: what is made, what is kept, what has gone."""
    figure, axes = plt.subplots(3, 1, figsize=(9, 5.4), layout="constrained")
    for step, axis in enumerate(axes, 1):
        now, before = pulled(step), pulled(step - 1)
        for layer in range(LAYERS + 1):
            kept = before[layer][1] if layer == LAYERS else max(0, before[layer + 1][1] - 1)
            for cell in range(CELLS):
                if cell >= now[layer][1]:
                    colour = "white"
                elif cell >= before[layer][1]:
                    colour = "#4477aa"
                else:
                    colour = "#ddcc77" if cell >= kept and layer < LAYERS else "#eeeeee"
                axis.add_patch(
                    plt.Rectangle((cell, layer), 0.92, 0.8, facecolor=colour, edgecolor="#bbbbbb", linewidth=0.5)
                )
        axis.set_xlim(0, CELLS)
        axis.set_ylim(-0.1, LAYERS + 1)
        axis.set_yticks(
            [layer + 0.4 for layer in range(LAYERS + 1)], ["input", *(f"layer {i}" for i in range(1, LAYERS)), "result"]
        )
        axis.set_xticks([])
        axis.set_title(f"step {step + 1} of {CELLS // CHUNK}", fontsize=9, loc="left")
        for side in axis.spines.values():
            side.set_visible(False)
    handles = [
        plt.Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="#bbbbbb", label=label)
        for colour, label in (
            ("#4477aa", "made in this step"),
            ("#ddcc77", "kept from the step before"),
            ("#eeeeee", "let go"),
            ("white", "not yet made"),
        )
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=80)


def draw_plans(plt: Any, path: Path) -> None:
    """Draw the memory of a published decoder over its multiply-adds, at three budgets; nothing is computed."""
    import torch

    decode = function(made("AutoencoderKL", KL, "float32"), "decode")
    latents = torch.empty(LATENTS)
    figure, axis = plt.subplots(figsize=(9, 3.6), layout="constrained")
    plain = tilekit.exact(decode).plan(latents).plain_bytes
    for budget, colour in zip(BUDGETS, ("#4477aa", "#228833", "#cc6677"), strict=True):
        plan = tilekit.exact(decode, memory_bytes=None if budget is None else int(budget * plain)).plan(latents)
        done, bytes_, at = [0.0], [], 0
        for row in plan.rows:  # each stage as wide as its share of the multiply-adds
            for peak in plan.step_peaks[at : at + row.steps]:
                done.append(done[-1] + row.work / row.steps)
                bytes_.append(peak / MIB)
            at += row.steps
        name = "no budget" if budget is None else f"{budget:.0%} of a plain call"
        axis.stairs(bytes_, done, color=colour, label=f"{name}: {max(bytes_):.0f} MiB, work {plan.work:.2f}")
        print(plan)
    axis.axhline(plain / MIB, color="black", linestyle=":", label=f"plain call: {plain / MIB:.0f} MiB")
    axis.set_xlabel("multiply-adds done, over those of a plain call")
    axis.set_ylabel("live arrays, MiB")
    axis.set_ylim(bottom=0)
    axis.set_xlim(left=0)
    axis.legend(fontsize=8, loc="center left")
    figure.savefig(path, dpi=80)


def draw_errors(plt: Any, path: Path, decoder: Any) -> None:
    """Draw how far blended tiles and the exact result are from the plain call, in one frame."""
    import torch

    torch.manual_seed(0)
    latents = torch.randn(SHAPE)
    plain = decoder(latents)
    tiling = tilekit.Tiling(height=(96, 32), width=(96, 32), frames=(32, 8))
    blended = tilekit.decode_tiled(decoder, latents, tiling, geometry=tilekit.LTX2_VIDEO)
    exact = tilekit.exact(decoder)(latents)
    frame = plain.shape[2] // 2
    maps = [(video - plain)[0, :, frame].abs().amax(0).numpy() for video in (blended, exact)]
    top = float(maps[0].max())
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, values, name in zip(axes, maps, ("blended tiles, 96/32 px, 32/8 frames", "tilekit.exact"), strict=True):
        image = axis.imshow(values, vmin=0, vmax=top, cmap="magma")
        axis.set_title(f"{name}: at most {values.max():.2g}", fontsize=10)
        axis.axis("off")
    figure.colorbar(image, ax=axes, label="difference from the plain call", shrink=0.9)
    figure.savefig(path, dpi=80)
    largest = float(plain.abs().max())
    print(f"{path.name}: blended at most {maps[0].max():.3g}, exact at most {maps[1].max():.3g} of {largest:.3g}")


def main(folder: Path) -> None:
    import matplotlib as mpl
    import torch

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    torch.set_grad_enabled(False)
    decoder = load_video_decoder(default_checkpoint(), backend="torch", dtype="float32")
    draw_boxes(plt, folder / "exact_boxes.png")
    draw_plans(plt, folder / "exact_plan.png")
    draw_errors(plt, folder / "exact_errors.png", decoder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
