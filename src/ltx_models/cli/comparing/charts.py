"""What a comparison measured, drawn with matplotlib: without a display, in the colours of one scheme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ltx_models.cli.comparing.seams import SeamMap
from ltx_models.cli.comparing.ways import Taken, Way
from ltx_models.media import MediaError
from tilekit import Plan

COLOURS: dict[Way, str] = {"whole": "#555555", "blended": "#c4622d", "exact": "#1f6fb4"}
MIB = 2**20


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """
    Make a figure with axes.

    Parameters
    ----------
    rows, columns : int
        Of axes.
    size : tuple of float
        Width and height in inches.

    Returns
    -------
    pair of (Figure, Axes or array of Axes)
        As ``Figure.subplots`` gives them.

    Raises
    ------
    MediaError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        msg = "pictures of seams need matplotlib; install it with: pip install 'tilekit-vae[plot]'"
        raise MediaError(msg) from error
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns)


def draw_memory(axis: Any, peaks: Mapping[int, Mapping[Way, int]]) -> None:
    """Draw the peak of live arrays, in bytes, over the length of the clip in frames."""
    lengths = sorted(peaks)
    for way in peaks[lengths[0]]:
        axis.plot(lengths, [peaks[n][way] / MIB for n in lengths], "o-", color=COLOURS[way], label=way)
    axis.set_ylim(bottom=0)
    _named(axis, "peak memory over the length of the clip", "frames", "MiB")


def draw_finished(axis: Any, taken: Mapping[Way, Taken]) -> None:
    """Draw how many frames are finished when."""
    for way, one in taken.items():
        moments = [0.0, *(seconds for seconds, _ in one.blocks)]
        axis.step(moments, [0, *(frames for _, frames in one.blocks)], where="post", color=COLOURS[way], label=way)
    _named(axis, "frames finished over time", "seconds", "frames")


def draw_seams(axis: Any, difference: SeamMap, plan: Plan) -> None:
    """Draw where a decode differs from the whole, and the overlaps of its tiles."""
    shown = max(float(np.quantile(difference.peaks, 0.999)), 1e-12)
    image = axis.imshow(difference.peaks, vmin=0, vmax=shown, cmap="magma")
    for seam in difference.seams(plan):
        if seam.axis == "frames":
            continue
        line = axis.axhspan if seam.axis == "height" else axis.axvspan
        line(seam.start, seam.stop, fill=False, edgecolor="white", linewidth=0.6, linestyle="--")
    axis.set_title(f"seam map: largest difference {difference.largest:.2g}, of a range of 2", fontsize=9, loc="left")
    axis.set_xticks([])
    axis.set_yticks([])
    scale = axis.inset_axes((0.72, 0.88, 0.25, 0.05))
    axis.figure.colorbar(image, cax=scale, orientation="horizontal", ticks=[0, shown], format="%.2g")
    scale.tick_params(labelsize=7, colors="white")


def _named(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8, frameon=False)
