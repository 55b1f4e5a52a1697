"""
Draw the example workflows for ComfyUI from their JSON, a picture beside each.

    python benchmarks/draw_workflows.py [FOLDER]

Needs the extra plot. Nodes stand in columns by how many nodes lie before them; those of tilekit are coloured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "integrations" / "comfyui" / "workflows"
OURS = ("VAEDecodeExact", "VAEEncodeExact", "VAEDecodeExactToVideo", "VAETilingPlan", "VAESeamMap")
WIDTH, GAP, LINE, APART = 4.6, 1.0, 0.34, 0.45
LONGEST = 26
Nodes = dict[str, dict[str, Any]]


def is_link(value: Any) -> bool:
    """Say whether an input is the output of another node."""
    return isinstance(value, list) and len(value) == 2


def columns_of(nodes: Nodes) -> dict[str, int]:
    """Give each node its column: one further than the furthest of the nodes that it takes from."""
    found: dict[str, int] = {}

    def column(key: str) -> int:
        if key not in found:
            before = [column(value[0]) for value in nodes[key]["inputs"].values() if is_link(value)]
            found[key] = 1 + max(before, default=-1)
        return found[key]

    for key in nodes:
        column(key)
    return found


def places_of(nodes: Nodes) -> dict[str, tuple[float, float]]:
    """Give the upper left corner of each node."""
    below: dict[int, float] = {}
    places = {}
    for key, column in columns_of(nodes).items():
        top = below.get(column, 0.0)
        places[key] = (column * (WIDTH + GAP), -top)
        below[column] = top + (1 + len(nodes[key]["inputs"])) * LINE + APART
    return places


def text_of(name: str, value: Any) -> str:
    """Give the row of an input: its name, and its value where it is no link."""
    if is_link(value):
        return name
    shown = str(value)
    return f"{name}: {shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + '…'}"


def draw_node(axis: Any, key: str, node: dict[str, Any], corner: tuple[float, float]) -> None:
    """Draw a box with a title, and a row for each input."""
    from matplotlib.patches import FancyBboxPatch, Rectangle

    left, top = corner
    height = (1 + len(node["inputs"])) * LINE
    ours = node["class_type"] in OURS
    box = FancyBboxPatch((left, top - height), WIDTH, height, boxstyle="round,pad=0.06", fc="#f7f7f4", ec="#888")
    axis.add_patch(box)
    axis.add_patch(Rectangle((left, top - LINE), WIDTH, LINE, fc="#1f6f5c" if ours else "#555", ec="none"))
    axis.text(left + 0.12, top - LINE / 2, f"{key}  {node['class_type']}", va="center", color="white", fontsize=7.5)
    for row, (name, value) in enumerate(node["inputs"].items(), 1):
        middle = top - (row + 0.5) * LINE
        axis.text(left + 0.16, middle, text_of(name, value), va="center", fontsize=6.5, color="#222")
        if is_link(value):
            axis.plot(left, middle, "o", ms=3.5, color="#c0702a", zorder=4)


def draw_link(axis: Any, start: tuple[float, float], stop: tuple[float, float]) -> None:
    """Draw a curve from an output to an input, behind the boxes."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    bend = max(0.6, 0.4 * (stop[0] - start[0]))
    points = [start, (start[0] + bend, start[1]), (stop[0] - bend, stop[1]), stop]
    codes = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
    axis.add_patch(PathPatch(Curve(points, codes), fc="none", ec="#c0702a", lw=1.1, zorder=0, alpha=0.75))


def draw(nodes: Nodes, target: Path) -> None:
    """Draw a workflow into a file."""
    from matplotlib.figure import Figure

    places = places_of(nodes)
    right = max(x for x, _ in places.values()) + WIDTH
    bottom = min(y - (1 + len(nodes[key]["inputs"])) * LINE for key, (_, y) in places.items())
    figure = Figure(figsize=(0.55 * (right + 0.6), 0.55 * (0.6 - bottom)), layout="constrained")
    axis = figure.add_subplot()
    for key, node in nodes.items():
        left, top = places[key]
        draw_node(axis, key, node, (left, top))
        for row, value in enumerate(node["inputs"].values(), 1):
            if is_link(value):
                x, y = places[value[0]]
                start = (x + WIDTH + 0.06, y - LINE / 2 - 0.06 * value[1])
                draw_link(axis, start, (left, top - (row + 0.5) * LINE))
    axis.set(xlim=(-0.3, right + 0.3), ylim=(bottom - 0.3, 0.3), aspect="equal")
    axis.axis("off")
    figure.savefig(target, dpi=130, metadata={"Software": None})


def main() -> None:
    """Draw each workflow of the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="for the pictures; beside the JSON")
    asked = parser.parse_args()
    for path in sorted(FOLDER.glob("*.json")):
        draw(json.loads(path.read_text()), asked.folder / f"{path.stem}.png")
        print(asked.folder / f"{path.stem}.png")


if __name__ == "__main__":
    main()
