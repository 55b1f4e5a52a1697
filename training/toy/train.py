"""
Train the toy checkpoint that the package ships, from nothing but this folder, in one go.

    pip install '.[torch,text,cli]'
    OMP_NUM_THREADS=1 python -m training.toy.train --out toy

Seventy minutes of one processor core in all. It writes the folder toy and the log toy.log beside it; interrupted, it
goes on where it was: the state is written every minute.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import torch
from training.toy import latents, sound, transformer, upsampler, video
from training.toy.export import save_checkpoint, save_upsampler
from training.toy.language import write_language_model

# minutes of one core
MINUTES = {"audio": 5.0, "vocoder": 8.0, "video": 6.0, "decoder": 3.0, "upsampler": 1.5, "transformer": 42.0}
log = logging.getLogger(__name__)


def main() -> None:
    """Train part after part, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("toy"), metavar="DIR", help="where files and states go")
    parser.add_argument("--scale", type=float, default=1.0, help="of the time; 0 writes untrained files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    files: Path = options.out
    states = files.with_name(files.name + "-states")
    for folder in (files, states):
        folder.mkdir(parents=True, exist_ok=True)
    write_log(files.with_name(files.name + ".log"))
    log.info("torch %s, %d thread, %g of the time", torch.__version__, torch.get_num_threads(), options.scale)
    begun, spent = time.monotonic(), time.process_time()
    train(files, states, {name: options.scale * value for name, value in MINUTES.items()})
    passed, worked = (time.monotonic() - begun) / 60, (time.process_time() - spent) / 60
    size = sum(file.stat().st_size for file in files.rglob("*") if file.is_file())
    log.info("done: %.1f minutes, %.1f of them of the core; %.1f MB", passed, worked, size / 1e6)


def train(files: Path, states: Path, minutes: dict[str, float]) -> None:
    """Train all parts for so many minutes each, with their states in one folder, and write the files into the other."""
    write_language_model(files / "gemma")
    spectrograms = sound.train_autoencoder(states / "audio.state", minutes["audio"])
    vocoder = sound.train_vocoder(states / "vocoder.state", minutes["vocoder"], spectrograms)
    latents.turn_sound(spectrograms)
    pictures = video.train(states / "video.state", minutes["video"])
    latents.turn_pictures(pictures)
    video.train_decoder(states / "decoder.state", minutes["decoder"], pictures)
    clips = latents.encode(states, pictures, spectrograms, files / "gemma")
    larger = upsampler.train(states / "upsampler.state", minutes["upsampler"], clips)
    denoiser = transformer.train(states / "transformer.state", minutes["transformer"], clips)
    save_checkpoint(files / "toy-distilled.safetensors", pictures, spectrograms, vocoder, denoiser, clips.statistics)
    save_upsampler(files / "toy-spatial-upscaler-x2.safetensors", larger)


def write_log(path: Path) -> None:
    """Write what is reported to a file, after what is there, and to the terminal."""
    handlers = (logging.FileHandler(path, encoding="utf-8"), logging.StreamHandler(sys.stdout))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers)


if __name__ == "__main__":
    main()
