"""Training for so many minutes of one core, in as many sittings as it takes."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training.optimizer import Muon

SAVE_SECONDS = 60
WARM_UP_STEPS = 50
EMA = 0.995
log = logging.getLogger(__name__)

Loss = Callable[[np.random.Generator, float], torch.Tensor]


class Training:
    """
    A model, its moving average, its optimiser, and how far they are.

    Parameters
    ----------
    model : torch.nn.Module
        What is to be trained.
    state : Path
        Where unfinished training is kept.
    minutes : float
        Of the time of one core, in all sittings together.
    rate : float
        Highest learning rate of matrices and convolutions.
    other_rate : float
        Highest learning rate of the rest.
    ends : tuple of str
        Beginnings of the names of weights next to inputs and outputs, which count to the rest.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        state: Path,
        minutes: float,
        *,
        rate: float,
        other_rate: float = 1e-3,
        ends: tuple[str, ...] = (),
    ) -> None:
        self.model = model
        self.average = deepcopy(model).eval().requires_grad_(False)
        self.state, self.budget = state, 60 * minutes
        self.optimizer = Muon(model.named_parameters(), rate, other_rate, ends=ends)
        self.rng = np.random.default_rng(0)
        self.step, self.seconds = 0, 0.0
        if state.exists():
            self._restore()

    @property
    def done(self) -> float:
        """What part of the time is over."""
        return min(1.0, self.seconds / self.budget) if self.budget else 1.0

    def run(self, loss: Loss) -> Any:
        """
        Train until the time is over.

        Parameters
        ----------
        loss : callable
            Takes a random generator and what part of the time is over; gives the loss of a batch of its own.

        Returns
        -------
        torch.nn.Module
            The moving average, for inference.
        """
        losses: list[float] = []
        saved, begun = self.seconds, time.process_time()
        while self.done < 1:
            losses.append(self._advance(loss))
            now = time.process_time()
            self.seconds, begun = self.seconds + now - begun, now
            if self.seconds - saved >= SAVE_SECONDS or self.done == 1:
                minutes, average = self.seconds / 60, float(np.mean(losses))
                log.info("%s: %.1f min, step %d, loss %.4f", self.state.stem, minutes, self.step, average)
                self._save()
                saved, losses = self.seconds, []
        return self.average

    def _advance(self, loss: Loss) -> float:
        rate = min(1.0, (self.step + 1) / WARM_UP_STEPS) * (0.5 + 0.5 * math.cos(math.pi * self.done))
        for group in self.optimizer.param_groups:
            group["lr"] = group["highest"] * rate
        found = loss(self.rng, self.done)
        self.optimizer.zero_grad()
        found.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        keep = min(EMA, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)
        return float(found.detach())

    def _save(self) -> None:
        parts = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimizer")}
        counts = {"step": self.step, "seconds": self.seconds, "rng": self.rng.bit_generator.state}
        beside = self.state.with_suffix(".part")
        torch.save(parts | counts, beside)
        os.replace(beside, self.state)

    def _restore(self) -> None:
        kept = torch.load(self.state, weights_only=True)
        for name in ("model", "average", "optimizer"):
            getattr(self, name).load_state_dict(kept[name])
        self.step, self.seconds = kept["step"], kept["seconds"]
        self.rng.bit_generator.state = kept["rng"]
