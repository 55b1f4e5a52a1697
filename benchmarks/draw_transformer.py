"""
Draw the data flow of one block of the LTX-2 transformer into docs/images/transformer_block.svg.

    python benchmarks/draw_transformer.py [FILE]
"""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

VIDEO, AUDIO, INK, PALE = "#1f5f99", "#b3541e", "#222222", "#f4f4f0"
COLUMNS = {"video": (3.6, VIDEO, "", "4096"), "audio": (9.8, AUDIO, "audio_", "2048")}


def box(ax, x, y, text, color, width=2.9, height=0.62, fill="white"):
    ax.add_patch(
        mpl.patches.FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0.02", fc=fill, ec=color, lw=1.2
        )
    )
    ax.text(x, y, text, ha="center", va="center", fontsize=7.2, color=INK, family="monospace")


def arrow(ax, start, end, color, style="-|>", dashed=False):
    ax.annotate(
        "",
        xy=end,
        xytext=start,
        arrowprops={"arrowstyle": style, "color": color, "lw": 1.2, "ls": "--" if dashed else "-"},
    )


def note(ax, x, y, text, color=INK, ha="center"):
    ax.text(x, y, text, ha=ha, va="center", fontsize=6.8, color=color)


def branch(ax, x, y, side, color, name, before, after):
    """A residual branch beside the trunk at `x`: norm and modulation, the layer, the gate, and back."""
    far = x + side * 1.95
    arrow(ax, (x, y + 0.75), (far - side * 1.45, y + 0.75), color)
    box(ax, far, y + 0.75, before, color, fill=PALE)
    arrow(ax, (far, y + 0.42), (far, y + 0.33), color)
    box(ax, far, y, name, color)
    arrow(ax, (far, y - 0.33), (far, y - 0.42), color)
    box(ax, far, y - 0.75, after, color, fill=PALE)
    arrow(ax, (far - side * 1.45, y - 0.75), (x + side * 0.16, y - 0.75), color)
    ax.text(x, y - 0.75, "+", ha="center", va="center", fontsize=10, color="white", weight="bold", zorder=5)
    ax.add_patch(mpl.patches.Circle((x, y - 0.75), 0.16, fc=color, ec=color, zorder=4))


def stream(ax, kind):
    x, color, prefix, width = COLUMNS[kind]
    side = -1 if kind == "video" else 1
    note(ax, x, 12.05, f"{kind} tokens (B, T, {width})", color)
    arrow(ax, (x, 11.85), (x, 0.9), color)
    note(ax, x, 0.65, "to the next block", color)
    far = x + side * 1.95
    branch(ax, x, 10.3, side, color, f"{prefix}attn1", "rms * (1 + r1) + r0", "* r2")
    note(ax, far, 11.55, "rotary: " + ("time, rows, columns" if kind == "video" else "time"))
    branch(ax, x, 7.85, side, color, f"{prefix}attn2", "rms [* (1 + r7) + r6]", "[* r8]")
    note(ax, far, 9.12, "keys, values: text [* (1 + p1) + p0]")
    branch(ax, x, 2.2, side, color, f"{prefix}ff", "rms * (1 + r4) + r3", "* r5")


def cross(ax):
    """Both directions start from the tokens as they are before either."""
    (xv, cv, _, _), (xa, ca, _, _) = COLUMNS["video"], COLUMNS["audio"]
    middle = (xv + xa) / 2
    for x, color, y, name, other in (
        (xv, cv, 5.55, "audio_to_video_attn", (xa, ca)),
        (xa, ca, 4.0, "video_to_audio_attn", (xv, cv)),
    ):
        box(ax, middle, y, name, color, width=2.5)
        side = 1 if x < middle else -1
        begin = x + side * 0.02
        arrow(ax, (begin, 6.25), (middle - side * 1.27, y + 0.12), color)
        arrow(ax, (other[0] - side * 0.02, 6.25), (middle + side * 1.27, y + 0.12), other[1], dashed=True)
        arrow(ax, (middle - side * 1.27, y - 0.2), (x + side * 0.16, y - 0.75), color)
        ax.add_patch(mpl.patches.Circle((x, y - 0.78), 0.16, fc=color, ec=color, zorder=4))
        ax.text(x, y - 0.78, "+", ha="center", va="center", fontsize=10, color="white", weight="bold", zorder=5)
    note(ax, middle, 7.05, "both see the tokens as they are here;")
    note(ax, middle, 6.75, "solid: queries, dashed: keys and values")
    note(ax, middle, 6.45, "rms * (1 + c0) + c1, and c2, c3 the other way")
    note(ax, middle, 4.95, "* gate c4 (other stream's level)")
    note(ax, middle, 3.4, "* gate c4 (other stream's level)")
    for x in (xv, xa):
        ax.plot([x - 0.12, x + 0.12], [6.25, 6.25], color=INK, lw=2)


def main():
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs/images/transformer_block.svg"
    plt.rcParams["svg.hashsalt"] = "transformer"  # the same file every time
    fig, ax = plt.subplots(figsize=(8.6, 8.6))
    for kind in COLUMNS:
        stream(ax, kind)
    cross(ax)
    for x, color, table in ((0.1, VIDEO, "scale_shift_table"), (13.3, AUDIO, "audio_scale_shift_table")):
        ha = "left" if x < 5 else "right"
        note(ax, x, 5.3, f"r0 ... r8: {table}", color, ha)
        note(ax, x, 5.0, "+ adaln(level of each token)", color, ha)
        note(ax, x, 4.6, "p0, p1: prompt table", color, ha)
        note(ax, x, 4.3, "+ prompt adaln(level of the step)", color, ha)
        note(ax, x, 3.9, "c0 ... c4: scale_shift_table_a2v_ca_*", color, ha)
        note(ax, x, 3.6, "[ ]: 2.3 only; gates of heads not drawn", INK, ha)
    ax.set_xlim(0, 13.4)
    ax.set_ylim(0.4, 12.3)
    ax.axis("off")
    fig.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
