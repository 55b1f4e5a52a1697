"""The start of the embedded autoencoders: the best linear one, as weights of the network."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")


def test_the_start_brings_film_back_that_new_weights_do_not() -> None:
    names = ("losses", "network", "start", "toy.sections", "toy.video")
    losses, network, start, sections, video = (import_module(f"training.{name}") for name in names)
    torch.manual_seed(0)
    model, windows = network.Autoencoder(sections.VAE), video.draw_windows(np.random.default_rng(0), 160)
    film = windows[:8].repeat(1, 1, 1, 2, 2)  # the decoder mirrors its borders, so it needs two cells of each
    with torch.no_grad():
        new = losses.psnr(model(film), film)
        start.begin(model, windows)
        begun = losses.psnr(model(film), film)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = losses.psnr(model(film).float(), film)
    assert new < 12
    assert begun > 22
    assert rounded > begun - 1
