"""
Samplers: the order in which a model is asked and steps are taken.

A sampler is a small object with a method ``run``, a generator that yields after every step: whoever drives it can show
progress or a preview, or stop. Both streams are stepped together; clean tokens are put back after every prediction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from ltx_models.nn import Array, Backend, backend_of
from ltx_models.sampling import steps
from ltx_models.sampling.steps import wide

Latents = dict[str, Array]
LAST_SIGMA = 0.0011  # stands for 0 where the logarithm of sigma is stepped in
SUBSTEP_ETA = 0.5
REFINE_BELOW, REFINE_ABOVE, REFINEMENTS = 0.5, 0.03, 100


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model predicts: denoised latents of each stream, guided, and those with the negative prompt."""

    denoised: Latents
    uncond: Mapping[str, Array | None]


@dataclass(frozen=True, slots=True)
class SamplerStep:
    """
    Where a sampler stands after a step.

    Attributes
    ----------
    index, total : int
        The step, counted from 0, and how many there are.
    sigma, sigma_next : float
        Noise level before and after it.
    latents : dict of str to array, shape (B, T, C)
        Each stream's tokens after the step.
    denoised : dict of str to array, shape (B, T, C)
        What the model took the result to be: a preview.
    """

    index: int
    total: int
    sigma: float
    sigma_next: float
    latents: Latents
    denoised: Latents


@dataclass(frozen=True, slots=True)
class Blend:
    """
    Puts clean tokens back.

    Attributes
    ----------
    clean : array, shape (B, T, C)
        The given tokens.
    mask : array, shape (B, T, 1)
        1 where tokens are generated and 0 where they are given; float32.
    masked, has_clean : bool
        Whether any token is less than 1, and whether any is 0: known on the host.
    """

    clean: Array
    mask: Array
    masked: bool
    has_clean: bool

    def __call__(self, x: Array) -> Array:
        """Blend in float32 (float64 where `x` is), and give the dtype of `x`."""
        if not self.masked:
            return x
        nn = backend_of(x)
        mixed = wide(nn, x) * self.mask + wide(nn, self.clean) * (1 - self.mask)
        return nn.cast(mixed, x.dtype)


class Draw(Protocol):
    """A source of standard normal noise."""

    def __call__(self, name: str, like: Array) -> Array:
        """Draw for a stream, in the shape and on the device of `like`."""
        ...


Predict = Callable[[Latents, float], Prediction]


class Sampler(Protocol):
    """What `denoise` needs of a sampler."""

    def run(
        self, predict: Predict, latents: Latents, blends: Mapping[str, Blend], sigmas: Sequence[float], draw: Draw
    ) -> Iterator[SamplerStep]:
        """
        Yield after every step.

        Parameters
        ----------
        predict : callable
            From latents and a noise level to a `Prediction`.
        latents : dict of str to array
            Each stream's noisy tokens.
        blends : dict of str to Blend
            Clean tokens to be put back.
        sigmas : sequence of float
            The schedule.
        draw : callable
            Gives noise.

        Yields
        ------
        SamplerStep
            Where the sampler stands.
        """
        ...


@dataclass(frozen=True, slots=True)
class Euler:
    """
    Follow the velocity.

    Attributes
    ----------
    gamma : float or None
        With a number: gradient estimation, which extrapolates from the last two velocities (2 is usual).
    """

    gamma: float | None = None

    def run(
        self, predict: Predict, latents: Latents, blends: Mapping[str, Blend], sigmas: Sequence[float], draw: Draw
    ) -> Iterator[SamplerStep]:
        """Yield after every step; nothing is drawn. See `Sampler`."""
        before: Latents = {}
        for i, (sigma, after) in enumerate(pairwise(sigmas)):
            seen = {name: blends[name](x) for name, x in predict(latents, sigma).denoised.items()}
            aims = seen
            if self.gamma is not None and after > 0:
                aims, before = self._estimate(latents, seen, sigma, before)
            if self.gamma is not None and after == 0:
                latents = seen
            else:
                latents = {name: steps.euler_step(latents[name], aims[name], sigma, after) for name in latents}
            yield SamplerStep(i, len(sigmas) - 1, sigma, after, latents, seen)

    def _estimate(self, latents: Latents, seen: Latents, sigma: float, before: Latents) -> tuple[Latents, Latents]:
        now = {name: steps.velocity_of(latents[name], seen[name], sigma) for name in latents}
        if not before:
            return seen, now
        assert self.gamma is not None
        ahead = {name: (now[name] - before[name]) * self.gamma + before[name] for name in latents}
        return {name: steps.denoised_of(latents[name], ahead[name], sigma) for name in latents}, now


@dataclass(frozen=True, slots=True)
class Ancestral:
    """
    SamplerStep down and add noise again.

    Attributes
    ----------
    eta : float
        From 0 (Euler) to 1.
    cfg_pp : bool
        SamplerStep by the prediction with the negative prompt (CFG++), which guidance must therefore ask for.
    """

    eta: float = 1.0
    cfg_pp: bool = False

    def run(
        self, predict: Predict, latents: Latents, blends: Mapping[str, Blend], sigmas: Sequence[float], draw: Draw
    ) -> Iterator[SamplerStep]:
        """Yield after every step, drawing for video before audio, once a step. See `Sampler`."""
        for i, (sigma, after) in enumerate(pairwise(sigmas)):
            prediction = predict(latents, sigma)
            uncond = prediction.uncond
            seen = {name: blends[name](x) for name, x in prediction.denoised.items()}
            if after == 0:
                latents = seen
            else:
                latents = {
                    name: self._step(name, x, seen[name], uncond.get(name), (sigma, after), draw, blends[name])
                    for name, x in latents.items()
                }
            yield SamplerStep(i, len(sigmas) - 1, sigma, after, latents, seen)

    def _step(
        self,
        name: str,
        x: Array,
        seen: Array,
        uncond: Array | None,
        sigmas: tuple[float, float],
        draw: Draw,
        blend: Blend,
    ) -> Array:
        noise = draw(name, x) if self.eta > 0 else None
        if not self.cfg_pp:
            x = steps.ancestral_step(x, seen, *sigmas, noise, eta=self.eta)
        elif uncond is None:
            msg = (
                f"cfg_pp: no prediction of {name} with the negative prompt; use guidance with a cfg_scale other than 1"
            )
            raise ValueError(msg)
        else:
            x = steps.cfg_pp_step(x, seen, uncond, *sigmas, noise, eta=self.eta)
        return x if noise is None else blend(x)


@dataclass(frozen=True, slots=True)
class Res2s:
    """
    Two predictions a step, joined by an exponential Runge-Kutta method, with noise drawn anew after each.

    Attributes
    ----------
    eta : float
        Share of the noise that is drawn anew after a whole step; after a half step it is 0.5.
    refine : bool
        Whether small steps move their starting point to be consistent with the noise added at the half step.
    by_token : bool
        Whether noise follows each token's own noise level. A stream with a token at level 0 then gets no noise at all.
        Otherwise noise is that of the whole step, and clean tokens are put back afterwards.
    normalise : bool
        Whether drawn noise is brought to mean 0 and standard deviation 1, over everything and then over each sample.

    Notes
    -----
    Works in float64 where the device has it. The reference refines by repeating 100 times the same linear map,
    whose result is given here in closed form.
    """

    eta: float = 0.5
    refine: bool = True
    by_token: bool = False
    normalise: bool = True

    def run(
        self, predict: Predict, latents: Latents, blends: Mapping[str, Blend], sigmas: Sequence[float], draw: Draw
    ) -> Iterator[SamplerStep]:
        """Yield after every step, asking twice a step and once at the end; draws after each half. See `Sampler`."""
        ends = sigmas[-1] == 0
        levels = [*sigmas[:-1], LAST_SIGMA, 0.0] if ends else list(sigmas)
        total = len(sigmas) - 1
        for i in range(total):
            latents, seen = self._step(predict, latents, blends, (levels[i], levels[i + 1]), draw)
            if ends and i == total - 1:
                last = predict(latents, LAST_SIGMA).denoised
                latents = seen = {name: blends[name](x) for name, x in last.items()}
            yield SamplerStep(i, total, sigmas[i], sigmas[i + 1], latents, seen)

    def _step(
        self,
        predict: Predict,
        latents: Latents,
        blends: Mapping[str, Blend],
        sigmas: tuple[float, float],
        draw: Draw,
    ) -> tuple[Latents, Latents]:
        sigma, after = sigmas
        h = math.log(sigma / after)
        half = math.sqrt(sigma * after)
        a21, b1, b2 = steps.res2s_coefficients(h)
        high = {name: _widest(x) for name, x in latents.items()}
        first = {name: blends[name](x) for name, x in predict(latents, sigma).denoised.items()}
        aim = {name: _widest(x) for name, x in first.items()}
        middle = {}
        for name, x in high.items():
            led = x + (aim[name] - x) * (h * a21)
            middle[name] = self._renoise(name, x, led, (sigma, half), draw, blends[name], SUBSTEP_ETA)
        if self.refine and h < REFINE_BELOW and sigma > REFINE_ABOVE:
            high = {name: _refined(x, middle[name], aim[name], h * a21) for name, x in high.items()}
        asked = {name: backend_of(x).cast(x, latents[name].dtype) for name, x in middle.items()}
        second = {name: _widest(blends[name](x)) for name, x in predict(asked, half).denoised.items()}
        done = {}
        for name, x in high.items():
            led = x + ((aim[name] - x) * b1 + (second[name] - x) * b2) * h
            led = self._renoise(name, x, led, sigmas, draw, blends[name], self.eta)
            done[name] = backend_of(x).cast(led, latents[name].dtype)
        return done, first

    def _renoise(
        self, name: str, x: Array, led: Array, sigmas: tuple[float, float], draw: Draw, blend: Blend, eta: float
    ) -> Array:
        noise = _widest(draw(name, x))
        noise = _normalised(noise) if self.normalise else noise
        if not self.by_token:
            return blend(steps.renoise(x, led, *sigmas, noise, eta=eta))
        if blend.has_clean:
            return led
        mask = _widest(blend.mask)
        return led if eta == 0 else steps.renoise(x, led, mask * sigmas[0], mask * sigmas[1], noise, eta=eta)


def _widest(x: Array) -> Array:
    nn = backend_of(x)
    return nn.cast(x, nn.widest(x))


def _refined(start: Array, middle: Array, aim: Array, c: float) -> Array:
    """Repeat start <- middle - c * (aim - start): a geometric series around its fixed point."""
    fixed = (middle - aim * c) * (1 / (1 - c))
    return fixed + (start - fixed) * c**REFINEMENTS


def _normalised(noise: Array) -> Array:
    """Bring to mean 0 and standard deviation 1, over everything, then over each sample."""
    nn = backend_of(noise)
    for axes in (tuple(range(noise.ndim)), (-2, -1)):
        noise = noise - nn.xp.mean(noise, axis=axes, keepdims=True)
        noise = noise / _std(nn, noise, axes)
    return noise


def _std(nn: Backend, centred: Array, axes: tuple[int, ...]) -> Any:
    count = math.prod(centred.shape[axis] for axis in axes)
    return nn.xp.sqrt(nn.xp.sum(centred * centred, axis=axes, keepdims=True) / (count - 1))
