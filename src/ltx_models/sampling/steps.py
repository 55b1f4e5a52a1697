"""
Single steps of samplers: from a noisy sample and what it was denoised to, to a sample with less noise.

Arrays are of either framework and any shape; sigmas are numbers of the host. All arithmetic is in float32 (float64 for
samples of float64), and results have the sample's dtype.
"""

from __future__ import annotations

import math
from typing import Any

from ltx_models.nn import Array, Backend, backend_of

SMALLEST = 1.1920929e-07  # float32's; stands for 1 - sigma where sigma is 1


def wide(nn: Backend, x: Array) -> Array:
    """Convert to float32, but leave float64."""
    return x if "float64" in str(x.dtype) else nn.cast(x, nn.float32)


def velocity_of(sample: Array, denoised: Array, sigma: float) -> Array:
    """
    Compute the velocity that leads from noise to data.

    Parameters
    ----------
    sample, denoised : array
        Noisy sample, and what it was denoised to.
    sigma : float
        Noise level, above 0.

    Returns
    -------
    array
        (sample - denoised) / sigma.

    Raises
    ------
    ValueError
        If sigma is not above 0.

    Examples
    --------
    >>> import torch
    >>> velocity_of(torch.tensor([1.0]), torch.tensor([0.0]), 0.5)
    tensor([2.])
    """
    _check_sigma(sigma)
    nn = backend_of(sample)
    return nn.cast((wide(nn, sample) - wide(nn, denoised)) / sigma, sample.dtype)


def denoised_of(sample: Array, velocity: Array, sigma: Any) -> Array:
    """
    Compute what a sample is denoised to, given its velocity.

    Parameters
    ----------
    sample, velocity : array, shape (B, T, C)
        Noisy sample and the model's output.
    sigma : float or array, shape (B, T, 1)
        Noise level, of each token where they differ; a token without noise is returned as it is.

    Returns
    -------
    array, shape (B, T, C)
        sample - sigma * velocity, in the dtype of `sample`.

    Examples
    --------
    >>> import torch
    >>> denoised_of(torch.tensor([1.0]), torch.tensor([2.0]), 0.5)
    tensor([0.])
    """
    nn = backend_of(sample)
    return nn.cast(wide(nn, sample) - wide(nn, velocity) * sigma, sample.dtype)


def euler_step(sample: Array, denoised: Array, sigma: float, sigma_next: float) -> Array:
    """
    Follow the velocity.

    Parameters
    ----------
    sample, denoised : array
        Noisy sample, and what it was denoised to.
    sigma, sigma_next : float
        Noise level now, above 0, and after the step.

    Returns
    -------
    array
        The sample at `sigma_next`.

    Raises
    ------
    ValueError
        If sigma is not above 0.

    Examples
    --------
    >>> import torch
    >>> euler_step(torch.tensor([1.0]), torch.tensor([0.0]), 1.0, 0.25)
    tensor([0.2500])
    """
    velocity = velocity_of(sample, denoised, sigma)  # rounded to the sample's dtype, as the reference does
    nn = backend_of(sample)
    return nn.cast(wide(nn, sample) + wide(nn, velocity) * (sigma_next - sigma), sample.dtype)


def ancestral_step(
    sample: Array, denoised: Array, sigma: float, sigma_next: float, noise: Array | None = None, *, eta: float = 1.0
) -> Array:
    """
    Step further down than asked for, then add noise up to `sigma_next`.

    Parameters
    ----------
    sample, denoised : array
        Noisy sample, and what it was denoised to.
    sigma, sigma_next : float
        Noise level now, above 0, and after the step.
    noise : array, optional
        Standard normal; needed unless `eta` or `sigma_next` is 0.
    eta : float
        From 0 (an Euler step) to 1.

    Returns
    -------
    array
        The sample at `sigma_next`.

    Raises
    ------
    ValueError
        If sigma is not above 0 or noise is missing.

    Notes
    -----
    Signal and noise are 1 - sigma and sigma, as in rectified flow.

    Examples
    --------
    >>> import torch
    >>> ancestral_step(torch.tensor([1.0]), torch.tensor([0.0]), 1.0, 0.25, eta=0.0)
    tensor([0.2500])
    """
    _check_sigma(sigma)
    nn = backend_of(sample)
    if sigma_next == 0:
        return nn.cast(denoised, sample.dtype)
    down = sigma_next * (1 + (sigma_next / sigma - 1) * eta)
    x = wide(nn, sample) * (down / sigma) + wide(nn, denoised) * (1 - down / sigma)
    if eta > 0:
        signal = (1 - sigma_next) / (1 - down)
        added = math.sqrt(max(sigma_next**2 - (down * signal) ** 2, 0.0))
        x = x * signal + wide(nn, _needed(noise, eta)) * added
    return nn.cast(x, sample.dtype)


def cfg_pp_step(
    sample: Array,
    denoised: Array,
    uncond: Array,
    sigma: float,
    sigma_next: float,
    noise: Array | None = None,
    *,
    eta: float = 1.0,
) -> Array:
    """
    Step to what the guided model denoises to, adding back the noise that the unguided model sees (CFG++).

    Parameters
    ----------
    sample, denoised, uncond : array
        Noisy sample, and what it was denoised to with guidance and without the prompt.
    sigma, sigma_next : float
        Noise level now, above 0, and after the step.
    noise : array, optional
        Standard normal; needed unless `eta` is 0.
    eta : float
        How much of the noise is drawn anew, from 0 to 1.

    Returns
    -------
    array
        The sample at `sigma_next`.

    Raises
    ------
    ValueError
        If sigma is not above 0 or noise is missing.

    Notes
    -----
    Source: arXiv:2406.08070.

    Examples
    --------
    >>> import torch
    >>> cfg_pp_step(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([0.0]), 0.5, 0.25, eta=0.0)
    tensor([0.5000])
    """
    _check_sigma(sigma)
    nn = backend_of(sample)
    signal, signal_next = max(1 - sigma, SMALLEST), max(1 - sigma_next, SMALLEST)
    ratio, ratio_next = sigma / signal, sigma_next / signal_next
    variance = ratio_next**2 * max(ratio**2 - ratio_next**2, 0.0) / ratio**2
    up = min(eta * math.sqrt(variance), ratio_next)
    down = math.sqrt(max(ratio_next**2 - up**2, 0.0))
    direction = (wide(nn, sample) - wide(nn, uncond) * signal) / sigma
    x = wide(nn, denoised) * signal_next + direction * (signal_next * down)
    if up > 0:
        x = x + wide(nn, _needed(noise, eta)) * (signal_next * up)
    return nn.cast(x, sample.dtype)


def renoise(sample: Array, target: Array, sigma: Any, sigma_next: Any, noise: Array, *, eta: float = 0.5) -> Array:
    """
    Replace part of the noise in the result of a deterministic step: what res_2s does after each of its two.

    Parameters
    ----------
    sample, target : array
        Where the step began and where it led.
    sigma, sigma_next : float or array
        Noise levels before and after the step; arrays (B, T, 1) where tokens differ, all above 0.
    noise : array
        Standard normal.
    eta : float
        Share of the noise that is drawn anew.

    Returns
    -------
    array
        In the dtype of `target`.

    Examples
    --------
    >>> import torch
    >>> renoise(torch.tensor([1.0]), torch.tensor([0.5]), 1.0, 0.5, torch.tensor([9.0]), eta=0.0)
    tensor([0.5000])
    """
    nn = backend_of(sample)
    if isinstance(sigma_next, float | int) and sigma_next * eta == 0:
        return target
    share = min(eta, 0.9999)
    kept = math.sqrt(1 - share**2)
    ratio = (1 - sigma_next) + sigma_next * kept
    direction = (wide(nn, sample) - wide(nn, target)) / (sigma - sigma_next)
    clean = wide(nn, sample) - direction * sigma
    x = clean * ratio + direction * (sigma_next * kept) + wide(nn, noise) * (sigma_next * share)
    return nn.cast(x, target.dtype)


def phi(order: int, z: float) -> float:
    """
    Evaluate the function phi of exponential integrators.

    Parameters
    ----------
    order : int
        From 1.
    z : float
        Its argument.

    Returns
    -------
    float
        (e^z - 1 - z - ... - z^(order-1) / (order-1)!) / z^order; 1 / order! at 0.

    Examples
    --------
    >>> phi(1, 0.0), round(phi(2, -1.0), 6)
    (1.0, 0.367879)
    """
    if abs(z) < 1e-10:
        return 1 / math.factorial(order)
    return (math.exp(z) - sum(z**k / math.factorial(k) for k in range(order))) / z**order


def res2s_coefficients(h: float, c2: float = 0.5) -> tuple[float, float, float]:
    """
    Give the coefficients of the two-stage exponential Runge-Kutta method res_2s.

    Parameters
    ----------
    h : float
        Step in log sigma.
    c2 : float
        Where the second stage stands, as a share of the step.

    Returns
    -------
    tuple of float
        a21, b1, b2.

    Examples
    --------
    >>> res2s_coefficients(0.0)
    (0.5, 0.0, 1.0)
    """
    b2 = phi(2, -h) / c2
    return c2 * phi(1, -h * c2), phi(1, -h) - b2, b2


def _check_sigma(sigma: float) -> None:
    if not sigma > 0:
        msg = f"sigma: got {sigma}, expected above 0; a sample without noise needs no step"
        raise ValueError(msg)


def _needed(noise: Array | None, eta: float) -> Array:
    if noise is None:
        msg = f"noise: got None with eta={eta}; pass standard normal noise, or eta=0"
        raise ValueError(msg)
    return noise
