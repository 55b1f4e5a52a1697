"""
Train the toy checkpoint that the package ships, from nothing but this folder.

    pip install '.[torch,text,cli]'
    OMP_NUM_THREADS=1 python -m training.toy.train --out toy

About an hour of one processor core in all. Interrupted, it goes on where it was: the state is written every minute.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from training.toy import latents, sound, transformer, upsampler, video
from training.toy.export import save_checkpoint, save_upsampler
from training.toy.language import write_language_model

# minutes of one core
MINUTES = {"audio": 4.0, "vocoder": 7.0, "video": 6.0, "decoder": 2.5, "upsampler": 1.5, "transformer": 28.0}


def main() -> None:
    """Train part after part, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("toy"), metavar="DIR", help="where files and states go")
    parser.add_argument("--scale", type=float, default=1.0, help="of the time; 0 writes untrained files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    files: Path = options.out
    out = files.with_name(files.name + "-states")
    for folder in (files, out):
        folder.mkdir(parents=True, exist_ok=True)
    minutes = {name: options.scale * value for name, value in MINUTES.items()}
    write_language_model(files / "gemma")
    spectrograms = sound.train_autoencoder(out / "audio.state", minutes["audio"])
    vocoder = sound.train_vocoder(out / "vocoder.state", minutes["vocoder"], spectrograms)
    latents.turn_sound(spectrograms)
    pictures = video.train(out / "video.state", minutes["video"])
    latents.turn_pictures(pictures)
    video.train_decoder(out / "decoder.state", minutes["decoder"], pictures)
    clips = latents.encode(out, pictures, spectrograms, files / "gemma")
    larger = upsampler.train(out / "upsampler.state", minutes["upsampler"], clips)
    denoiser = transformer.train(out / "transformer.state", minutes["transformer"], clips)
    save_checkpoint(files / "toy-distilled.safetensors", pictures, spectrograms, vocoder, denoiser, clips.statistics)
    save_upsampler(files / "toy-spatial-upscaler-x2.safetensors", larger)


if __name__ == "__main__":
    main()
