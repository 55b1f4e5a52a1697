"""Noise schedules: the sigmas, from 1 down to 0, at which a sampler asks the model."""

from __future__ import annotations

import math

import numpy as np

DISTILLED_SIGMAS = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)
STAGE_2_SIGMAS = (0.909375, 0.725, 0.421875, 0.0)

BASE_TOKENS = 1024
MAX_TOKENS = 4096
BETA_SHIFT = 2.37
BETA_TIMESTEPS = 10000


def ltx2_sigmas(
    steps: int,
    *,
    tokens: int = MAX_TOKENS,
    max_shift: float = 2.05,
    base_shift: float = 0.95,
    stretch: bool = True,
    terminal: float = 0.1,
) -> tuple[float, ...]:
    """
    Give the LTX-2 schedule, which stays longer at high noise the more tokens there are.

    Parameters
    ----------
    steps : int
        Number of steps.
    tokens : int
        Number of video tokens (latent frames x rows x columns). The guided two-stage pipelines leave it at 4096.
    max_shift, base_shift : float
        The shift at 4096 and at 1024 tokens.
    stretch : bool
        Whether the last sigma above 0 becomes `terminal`. A single step, whose sigma is 1, is left as it is.
    terminal : float
        Above 0 and below 1.

    Returns
    -------
    tuple of float, length steps + 1
        From 1 down to 0.

    Raises
    ------
    ValueError
        If an argument is out of range, or so many tokens were asked for that all sigmas but 0 round to 1.

    Notes
    -----
    Computed in float32 in the order of the reference, whose results for many tokens depend on it.
    Source: Lightricks/LTX-2, ``ltx_core/components/schedulers.py``, ``LTX2Scheduler``.

    Examples
    --------
    >>> [round(sigma, 3) for sigma in ltx2_sigmas(4)]
    [1.0, 0.867, 0.632, 0.1, 0.0]
    """
    _check_steps(steps)
    if tokens < 1:
        msg = f"tokens: got {tokens}, expected at least 1"
        raise ValueError(msg)
    if not 0 < terminal < 1:
        msg = f"terminal: got {terminal}, allowed is between 0 and 1"
        raise ValueError(msg)
    slope = (max_shift - base_shift) / (MAX_TOKENS - BASE_TOKENS)
    shift = np.float32(math.exp(tokens * slope + base_shift - slope * BASE_TOKENS))
    one = np.float32(1)
    sigmas = _linspace_down(steps)[:-1]
    sigmas = one / (shift + (one / sigmas - one)) * shift
    if stretch and steps > 1:
        rest = one - sigmas
        if rest[-1] <= 0:
            msg = f"tokens: with {tokens} every sigma rounds to 1; lower the shift, or pass stretch=False"
            raise ValueError(msg)
        sigmas = one - rest / (rest[-1] / np.float32(1 - terminal))
    return (*(float(sigma) for sigma in sigmas), 0.0)


def _linspace_down(steps: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Go from 1 to 0 in float32, each half counted from its own end."""
    step = np.float32(-1) / np.float32(steps)
    i = np.arange(steps + 1, dtype=np.float32)
    return np.where(i < (steps + 1) // 2, np.float32(1) + step * i, -step * (np.float32(steps) - i))


def linear_quadratic_sigmas(
    steps: int, *, threshold: float = 0.025, linear_steps: int | None = None
) -> tuple[float, ...]:
    """
    Go down linearly at first, then quadratically.

    Parameters
    ----------
    steps : int
        Number of steps.
    threshold : float
        How far the linear part goes down.
    linear_steps : int, optional
        Steps of the linear part; half of them by default.

    Returns
    -------
    tuple of float, length steps + 1
        From 1 down to 0.

    Raises
    ------
    ValueError
        If there are no steps, or more linear ones than steps.

    Examples
    --------
    >>> [round(sigma, 4) for sigma in linear_quadratic_sigmas(4)]
    [1.0, 0.9875, 0.975, 0.725, 0.0]
    """
    _check_steps(steps)
    if steps == 1:
        return (1.0, 0.0)
    linear = steps // 2 if linear_steps is None else linear_steps
    if not 1 <= linear <= steps:
        msg = f"linear_steps: got {linear}, allowed is 1 to {steps}"
        raise ValueError(msg)
    bent = steps - linear
    excess = linear - threshold * steps  # what the line misses at the end, times linear

    def done(i: int) -> float:
        curve = excess * ((i - linear) / bent) ** 2 if i > linear else 0.0
        return (threshold * i + curve) / linear

    return (*(1 - done(i) for i in range(steps)), 0.0)


def beta_sigmas(steps: int, *, alpha: float = 0.6, beta: float = 0.6) -> tuple[float, ...]:
    """
    Place steps at even quantiles of a beta distribution.

    Parameters
    ----------
    steps : int
        Number of steps.
    alpha, beta : float
        Shape of the distribution, above 0.

    Returns
    -------
    tuple of float, length at most steps + 1
        From about 1 down to 0; steps that fall on the same of 10000 timesteps are taken once.

    Raises
    ------
    ValueError
        If there are no steps or a shape is not above 0.

    Notes
    -----
    Source: arXiv:2407.12173.

    Examples
    --------
    >>> [round(sigma, 4) for sigma in beta_sigmas(2)]
    [1.0, 0.9145, 0.0]
    """
    _check_steps(steps)
    if alpha <= 0 or beta <= 0:
        msg = f"alpha and beta: got {alpha} and {beta}, expected both above 0"
        raise ValueError(msg)
    quantiles = 1 - np.linspace(0, 1, steps, endpoint=False)
    places = [round(_beta_quantile(float(q), alpha, beta) * (BETA_TIMESTEPS - 1)) for q in quantiles]
    shift = math.exp(BETA_SHIFT)
    times = [(place + 1) / BETA_TIMESTEPS for place in dict.fromkeys(places)]
    return (*(shift / (shift + (1 / t - 1)) for t in times), 0.0)


def _beta_quantile(q: float, a: float, b: float) -> float:
    """Invert the beta distribution function by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        excess = _beta_cdf(middle, a, b) - q
        if abs(excess) < 1e-14:  # the median falls on half a timestep: which way it rounds must not be left to chance
            return middle
        if excess < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Sum the continued fraction of the incomplete beta function, from the side where it converges fast."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_cdf(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    fraction = 1.0
    for i in range(200, 0, -1):  # backwards: no test of convergence is needed
        m = i // 2
        if i % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        fraction = 1 + term / fraction
    return front / fraction


def _check_steps(steps: int) -> None:
    if steps < 1:
        msg = f"steps: got {steps}, expected at least 1"
        raise ValueError(msg)


def check_sigmas(sigmas: object) -> tuple[float, ...]:
    """
    Refuse what is no schedule.

    Parameters
    ----------
    sigmas : sequence of float
        Numbers or an array in host memory.

    Returns
    -------
    tuple of float
        The same.

    Raises
    ------
    ValueError
        If there are fewer than two, or one is not finite, outside of [0, 1] or above the one before.

    Examples
    --------
    >>> check_sigmas([1, 0.5, 0])
    (1.0, 0.5, 0.0)
    """
    values = np.asarray(sigmas, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        msg = f"sigmas: got shape {values.shape}, expected at least two numbers in a row"
        raise ValueError(msg)
    if not np.isfinite(values).all():
        wrong = int(np.argmin(np.isfinite(values)))
        msg = f"sigmas: number {wrong} is {values[wrong]}, which is no noise level"
        raise ValueError(msg)
    if values.min() < 0 or values.max() > 1 or (np.diff(values) >= 0).any():
        msg = f"sigmas: got {values.tolist()}, expected to go down from at most 1 to at least 0"
        raise ValueError(msg)
    return tuple(float(value) for value in values)
