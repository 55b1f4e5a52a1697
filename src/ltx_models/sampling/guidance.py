"""Guidance: combining what the model predicts with and without the prompt, perturbed, and without the other stream."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from ltx_models.nn import Array, Backend, backend_of
from ltx_models.sampling.steps import wide


@dataclass(frozen=True, slots=True)
class Guidance:
    """
    How one stream is guided.

    Attributes
    ----------
    cfg_scale : float
        Towards the prompt, away from the negative one; 1 for none.
    stg_scale : float
        Away from what the model predicts with self attention left out in `stg_blocks`; 0 for none.
    stg_blocks : tuple of int
        Blocks perturbed for `stg_scale`.
    modality_scale : float
        Away from what the model predicts without the other stream; 1 for none.
    rescale_scale : float
        How far the result's standard deviation is brought back to the unguided one's, from 0 to 1.
    skip_step : int
        After each evaluated step this many are skipped: the stream's last prediction is used again.
    kind : {"cfg", "star", "apg"}
        How the prompt guides: plainly; with the negative prediction projected first (CFG*); or with the part along the
        prediction weighted by `apg_eta` and limited in norm (adaptive projected guidance).
    apg_eta, apg_norm_threshold : float
        Of ``"apg"``; a threshold of 0 limits nothing.
    """

    cfg_scale: float = 1.0
    stg_scale: float = 0.0
    stg_blocks: tuple[int, ...] = ()
    modality_scale: float = 1.0
    rescale_scale: float = 0.0
    skip_step: int = 0
    kind: Literal["cfg", "star", "apg"] = "cfg"
    apg_eta: float = 1.0
    apg_norm_threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in {"cfg", "star", "apg"}:
            msg = f"guidance: kind is {self.kind!r}, allowed are 'cfg', 'star' and 'apg'"
            raise ValueError(msg)
        numbers = (self.cfg_scale, self.stg_scale, self.modality_scale, self.rescale_scale)
        if not all(map(math.isfinite, numbers)) or self.skip_step < 0:
            msg = f"guidance: {self} has a scale that is not finite, or a negative skip_step"
            raise ValueError(msg)
        if self.perturbs and not self.stg_blocks:
            msg = f"guidance: stg_scale is {self.stg_scale} but stg_blocks is empty; name the blocks to perturb"
            raise ValueError(msg)

    @property
    def negates(self) -> bool:
        """Whether a prediction with the negative prompt is needed."""
        return not math.isclose(self.cfg_scale, 1.0)

    @property
    def perturbs(self) -> bool:
        """Whether a perturbed prediction is needed."""
        return not math.isclose(self.stg_scale, 0.0)

    @property
    def isolates(self) -> bool:
        """Whether a prediction without the other stream is needed."""
        return not math.isclose(self.modality_scale, 1.0)

    def skips(self, step: int) -> bool:
        """Say whether a step, counted from 0, uses the last prediction again."""
        return step % (self.skip_step + 1) != 0

    def apply(self, cond: Array, uncond: Any = None, perturbed: Any = None, modality: Any = None) -> Array:
        """
        Combine predictions of denoised samples.

        Parameters
        ----------
        cond, uncond, perturbed, modality : array, shape (B, T, C)
            With everything; with the negative prompt; perturbed; without the other stream. What no scale asks for may
            be None.

        Returns
        -------
        array, shape (B, T, C)
            The guided prediction.
        """
        if self.kind != "cfg" and self.negates:
            uncond = _array(uncond, "uncond", "cfg_scale", self.cfg_scale)
            delta = (
                star_delta(cond, uncond, self.cfg_scale)
                if self.kind == "star"
                else apg_delta(cond, uncond, self.cfg_scale, eta=self.apg_eta, norm_threshold=self.apg_norm_threshold)
            )
            uncond = cond - delta / (self.cfg_scale - 1)  # so that plain guidance gives this delta
        return guide(
            cond,
            uncond=uncond,
            perturbed=perturbed,
            modality=modality,
            cfg_scale=self.cfg_scale,
            stg_scale=self.stg_scale,
            modality_scale=self.modality_scale,
            rescale_scale=self.rescale_scale,
        )


def guide(
    cond: Array,
    *,
    uncond: Any = None,
    perturbed: Any = None,
    modality: Any = None,
    cfg_scale: float = 1.0,
    stg_scale: float = 0.0,
    modality_scale: float = 1.0,
    rescale_scale: float = 0.0,
) -> Array:
    """
    Move a prediction away from worse ones.

    Parameters
    ----------
    cond : array
        The prediction with everything.
    uncond, perturbed, modality : array or float, optional
        Predictions with the negative prompt, perturbed, and without the other stream; not looked at where their scale
        is neutral (1, 0 and 1).
    cfg_scale, stg_scale, modality_scale : float
        How far; see `Guidance`.
    rescale_scale : float
        How far the standard deviation of the result, over the whole array, is brought back to that of `cond`.

    Returns
    -------
    array
        In the dtype of `cond`, computed in float32.

    Raises
    ------
    ValueError
        If a scale asks for a prediction that is not there.

    Examples
    --------
    >>> import torch
    >>> guide(torch.tensor([1.0]), uncond=torch.tensor([0.5]), cfg_scale=3.0)
    tensor([2.])
    """
    nn = backend_of(cond)
    base = pred = wide(nn, cond)
    for worse, name, scale, neutral in (
        (uncond, "uncond", cfg_scale, 1.0),
        (perturbed, "perturbed", stg_scale, 0.0),
        (modality, "modality", modality_scale, 1.0),
    ):
        if not math.isclose(scale, neutral):
            pred = pred + (base - wide(nn, _array(worse, name, f"{name}'s scale", scale))) * (scale - neutral)
    if rescale_scale != 0:
        pred = pred * (rescale_scale * _std(nn, base) / _std(nn, pred) + (1 - rescale_scale))
    return nn.cast(pred, cond.dtype)


def star_delta(cond: Array, uncond: Array, scale: float) -> Array:
    """
    Give the guidance of CFG*: the negative prediction is first scaled to be as close to `cond` as it can.

    Parameters
    ----------
    cond, uncond : array, shape (B, T, C)
        Predictions with the prompt and with the negative one.
    scale : float
        1 for none.

    Returns
    -------
    array, shape (B, T, C)
        To be added to `cond`.

    Examples
    --------
    >>> import torch
    >>> star_delta(torch.ones(1, 1, 2), 4 * torch.ones(1, 1, 2), 3.0).abs().max() < 1e-6
    tensor(True)
    """
    return (cond - uncond * _projection(cond, uncond)) * (scale - 1)


def apg_delta(cond: Array, uncond: Array, scale: float, *, eta: float = 1.0, norm_threshold: float = 0.0) -> Array:
    """
    Give adaptive projected guidance: the part along `cond` weighted, the whole limited in norm.

    Parameters
    ----------
    cond, uncond : array, shape (B, T, C)
        Predictions with the prompt and with the negative one.
    scale : float
        1 for none.
    eta : float
        Weight of the part along `cond`.
    norm_threshold : float
        Most that the norm of ``cond - uncond`` of a sample may be; 0 for no limit.

    Returns
    -------
    array, shape (B, T, C)
        To be added to `cond`.

    Notes
    -----
    Source: arXiv:2410.02416.

    Examples
    --------
    >>> import torch
    >>> apg_delta(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]]), 2.0, eta=0.0)
    tensor([[[ 0., -1.]]])
    """
    nn = backend_of(cond)
    delta = cond - uncond
    if norm_threshold > 0:
        norm = nn.xp.sqrt(_total(nn, delta * delta))
        delta = delta * nn.xp.minimum(nn.xp.ones_like(norm), norm_threshold / norm)
    along = cond * _projection(delta, cond)
    return (delta + along * (eta - 1)) * (scale - 1)


def _projection(x: Array, onto: Array) -> Array:
    nn = backend_of(x)
    return _total(nn, x * onto) / (_total(nn, onto * onto) + 1e-8)


def _total(nn: Backend, x: Array) -> Array:
    """Sum each sample, shape (B, 1, ...)."""
    return nn.xp.sum(x, axis=tuple(range(1, x.ndim)), keepdims=True)


def _std(nn: Backend, x: Array) -> Array:
    centred = x - nn.xp.mean(x)
    return nn.xp.sqrt(nn.xp.sum(centred * centred) / (math.prod(x.shape) - 1))


def _array(x: Any, name: str, scale: str, value: float) -> Any:
    if x is None:
        msg = f"{name}: got None, but {scale} is {value}, which needs this prediction"
        raise ValueError(msg)
    return x
