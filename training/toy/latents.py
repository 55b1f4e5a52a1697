"""The clips that the transformer and the upsampler learn from, encoded once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from training.toy.grammar import caption
from training.toy.language import TOKENS
from training.toy.rotation import spread_of, turn
from training.toy.scenes import LARGE, RATE, SECONDS, SMALL, Scene, draw_scene, draw_sound, draw_video
from training.toy.sections import KEPT
from training.toy.sound import MEL_FRAMES

from ltx_models.audio_vae import log_mel
from ltx_models.text import load_text_encoder

SCENES, LARGE_SCENES, CAPTIONS = 1600, 900, 5
SAMPLE = 200  # scenes that tell how latents lie
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Latents:
    """
    Encoded clips, normalised.

    Attributes
    ----------
    small, large : Tensor
        Pictures (N, 128, f, h, w) of both stages; of the large ones there are fewer, the first.
    audio : Tensor
        Sound (N, 8, t, 16).
    statistics : dict of str to Tensor
        Mean and spread of each channel, ``vae`` and ``audio_vae``, shape (2, 128).
    states : list of list of Tensor
        Hidden states of several captions of each clip.
    """

    small: Tensor
    large: Tensor
    audio: Tensor
    statistics: dict[str, Tensor]
    states: list[list[Tensor]]

    def text(self, chosen: Any, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Give hidden states and mask of a caption of each of these clips."""
        states = [self.states[i][int(rng.integers(CAPTIONS))] for i in chosen]
        hidden = torch.zeros(states[0].shape[0], len(states), TOKENS, states[0].shape[2])
        mask = torch.zeros(len(states), TOKENS, dtype=torch.int32)
        for i, state in enumerate(states):
            hidden[:, i, TOKENS - state.shape[1] :] = state.float()
            mask[i, TOKENS - state.shape[1] :] = 1
        return hidden, mask


def turn_pictures(video: Any) -> None:
    """Turn the latents of pictures, and keep the first channels."""
    rng = np.random.default_rng(3)
    scenes = [draw_scene(rng) for _ in range(SAMPLE)]
    turn(video, _pictures(video, scenes, SMALL).transpose(0, 1).flatten(1).T, KEPT)


def turn_sound(audio: Any) -> None:
    """Turn the latents of sound."""
    rng = np.random.default_rng(3)
    scenes = [draw_scene(rng) for _ in range(SAMPLE)]
    turn(audio, _all(scenes, lambda s: audio.encoder(spectrogram(s))).transpose(0, 1).flatten(1).T)


def encode(folder: Path, video: Any, audio: Any, gemma: Path) -> Latents:
    """Encode the clips, or read what is encoded already."""
    rng = np.random.default_rng(1)
    scenes = [draw_scene(rng) for _ in range(SCENES)]
    states = _kept(folder / "captions.state", lambda: hidden_states(scenes, gemma))
    sound = _kept(folder / "sounds.state", lambda: _all(scenes, lambda s: audio.encoder(spectrogram(s))))
    small = _kept(folder / "small.state", lambda: _pictures(video, scenes, SMALL))
    large = _kept(folder / "large.state", lambda: _pictures(video, scenes[:LARGE_SCENES], LARGE))
    seen = torch.cat([x.transpose(0, 1).flatten(1) for x in (small, large)], dim=1)
    # the index of a channel of sound is 16 times its own and its band's
    heard = sound.permute(1, 3, 0, 2).flatten(2).flatten(0, 1)
    statistics = {"vae": _statistics(seen), "audio_vae": _statistics(heard)}
    mean, spread = statistics["vae"].reshape(2, 1, -1, 1, 1, 1)
    low, wide = statistics["audio_vae"].reshape(2, 1, 8, 1, 16)
    return Latents((small - mean) / spread, (large - mean) / spread, (sound - low) / wide, statistics, states)


@torch.no_grad()
def hidden_states(scenes: list[Scene], gemma: Path) -> list[list[Tensor]]:
    """Run the language model over several captions of each scene: (layers + 1, tokens, D)."""
    encoder, rng = load_text_encoder(gemma, backend="torch", dtype="bfloat16"), np.random.default_rng(2)
    found = []
    for scene in scenes:
        tokens = encoder.tokenize([caption(scene.wish, rng) for _ in range(CAPTIONS)])
        found.append([torch.stack(encoder.model.states(ids))[:, 0].clone() for ids in tokens.ids])
    return found


def spectrogram(scene: Scene) -> Tensor:
    """Draw the log-mel spectrogram (1, 2, T, 64) of a scene."""
    # more sound than is needed: the spectrogram mirrors the end
    return log_mel(torch.from_numpy(draw_sound(scene, SECONDS + 0.1))[None], RATE)[:, :, :MEL_FRAMES]


def _kept(path: Path, make: Callable[[], Any]) -> Any:
    if not path.exists():
        begun = time.process_time()
        made = make()
        torch.save(made, path)
        log.info("%s: %d encoded, %.1f min", path.stem, len(made), (time.process_time() - begun) / 60)
    return torch.load(path, weights_only=True)


def _pictures(video: Any, scenes: list[Scene], size: tuple[int, int]) -> Tensor:
    return _all(scenes, lambda scene: video.encoder(torch.from_numpy(draw_video(scene, size))[None]))


@torch.no_grad()
def _all(scenes: list[Scene], encode: Callable[[Scene], Tensor]) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return torch.cat([encode(scene).float() for scene in scenes])


def _statistics(cells: Tensor) -> Tensor:
    """Measure mean and spread of channels (C, N)."""
    return torch.stack([cells.mean(dim=1), spread_of(cells)])
