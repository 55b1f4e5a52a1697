"""
Make a wav file of a spectrogram of any length, in memory that does not grow with it.

    python examples/sound_stream.py [--checkpoint ltx-2.3.safetensors] [--seconds 60] [-o sound.wav]

Without a checkpoint the vocoder is a tiny one with random weights, so what comes out is noise: the point is how.
The spectrogram is made as it is needed, as one that is read from a file or comes from a decoder would be.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ltx_models import load_vocoder
from ltx_models.cli.meter import Meter
from ltx_models.nn import backend
from ltx_models.sound_files import wav_writer
from ltx_models.vocoder import GeneratorConfig, Vocoder

FRAMES = 100  # mel frames a second


def tiny_vocoder(name: str) -> Any:
    """Make a narrow HiFi-GAN with random weights."""
    nn = backend(name)
    config = GeneratorConfig(
        width=64, rates=(6, 5, 2, 2, 2), sizes=(16, 15, 8, 4, 4), branch_sizes=(3, 7), dilations=((1, 3), (1, 3))
    )
    vocoder = nn.build(lambda: Vocoder(nn, config))
    draw = np.random.default_rng(0)
    weights = {
        key: nn.asarray((draw.standard_normal(shape) / np.prod(shape[1:], initial=1.0) ** 0.5).astype(np.float32))
        for key, shape in nn.shapes(vocoder).items()
    }
    return nn.load(vocoder, weights)


def spectrogram(nn: Any, seconds: int) -> Iterator[Any]:
    """Draw a second at a time: a band that glides up and down over a quiet floor."""
    bands = np.arange(64)
    for second in range(seconds):
        time = (second * FRAMES + np.arange(FRAMES)) / FRAMES
        centre = 30 + 20 * np.sin(time)[:, None]
        mel = -8 + 7 * np.exp(-(((bands - centre) / 4) ** 2))
        yield nn.asarray(np.stack([mel, mel])[None].astype(np.float32))


def main() -> None:
    """Write the file, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--backend", choices=("torch", "mlx"), default="torch")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("-o", "--output", type=Path, default=Path("sound.wav"))
    args = parser.parse_args()
    if args.checkpoint is None:
        vocoder = tiny_vocoder(args.backend)
    else:
        vocoder = load_vocoder(args.checkpoint, backend=args.backend, dtype="float32")
    with Meter() as meter, wav_writer(args.output, vocoder.sample_rate) as file:
        for _, samples in vocoder.stream(spectrogram(vocoder.nn, args.seconds), frames_per_chunk=FRAMES):
            file.write(samples)
    length = file.samples / vocoder.sample_rate
    print(f"{args.output}: {length:.0f} s in {meter.seconds:.1f} s, peak {meter.peak_bytes / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
