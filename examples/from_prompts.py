"""
Generate videos with sound of several prompts, and draw a sheet of their pictures and sound.

    python examples/from_prompts.py [--out demo] [--backend torch|mlx]

Without a checkpoint this is the toy that the package ships: it draws coloured shapes that move and sound, and nothing
else, and shows that the machinery works. Its clips are 256 x 192 pixels and last 1.4 seconds.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

from ltx_models import LTX2Pipeline
from ltx_models.media import read_audio, read_video

mpl.use("Agg")  # draws into files, without a display

PROMPTS = (
    "a red circle moving right, a high tone",
    "a blue square moving down, a low tone",
    "a yellow triangle moving left, middle beeps",
    "a white circle moving up, silence",
)
SHOWN = 5  # frames of each clip
WINDOW = 1200  # samples over which loudness is measured


def main() -> None:
    """Generate, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="the sheet; generate.png in DIR by default")
    parser.add_argument("--backend", choices=("torch", "mlx"), default="torch")
    parser.add_argument("--checkpoint", help="in place of the embedded toy")
    parser.add_argument("--seed", type=int, default=10)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    pipe = LTX2Pipeline.from_pretrained(options.checkpoint, backend=options.backend, dtype="float32", keep=True)
    videos = []
    for number, prompt in enumerate(PROMPTS, 1):
        video = options.out / f"generate{number}.mp4"
        pipe(prompt, seed=options.seed, output=video)
        print(f"{video}: {prompt}", flush=True)
        videos.append(video)
    picture = options.picture or options.out / "generate.png"
    draw_sheet(videos, picture)
    print(picture)


def draw_sheet(videos: list[Path], picture: Path) -> None:
    """Draw a row for each file: frames from first to last, the spectrogram, and how loud left and right are."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        len(videos), SHOWN + 2, figsize=(11, 1.4 * len(videos)), squeeze=False, layout="constrained",
        gridspec_kw={"width_ratios": [1.0] * SHOWN + [0.8] * 2},
    )  # fmt: skip
    for row, (video, prompt) in zip(axes, zip(videos, PROMPTS, strict=True), strict=True):
        frames = (read_video(video).video[0] + 1) / 2
        for axis, k in zip(row[:SHOWN], np.linspace(0, frames.shape[1] - 1, SHOWN).astype(int), strict=True):
            axis.imshow(frames[:, k].transpose(1, 2, 0).clip(0, 1))
            axis.set_axis_off()
        row[0].set_title(prompt, loc="left", fontsize=9)
        samples, rate = read_audio(video)
        row[-2].specgram(samples[0].mean(axis=0) + 1e-6, NFFT=1024, Fs=rate, noverlap=768, vmin=-130, vmax=-20)
        row[-2].set_ylim(0, 3000)
        row[-2].set_ylabel("Hz", fontsize=7)
        windows = samples[0, :, : samples.shape[2] // WINDOW * WINDOW].reshape(2, -1, WINDOW)
        for side, loudness in zip(("left", "right"), np.sqrt((windows**2).mean(axis=2)), strict=True):
            row[-1].plot(loudness, label=side, linewidth=1)
        row[-1].set_ylim(0, 0.4)
        row[-1].set_ylabel("loudness", fontsize=7)
        row[-1].legend(fontsize=6, loc="upper center", ncols=2, frameon=False)
        for axis in row[SHOWN:]:
            axis.set_xticks([])
            axis.tick_params(labelsize=6)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
