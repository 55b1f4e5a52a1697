"""Muon for convolutions: momentum whose directions are made equally long, and Adam for what is no matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

ENDS = ("encoder.conv_in.", "decoder.conv_out.")  # next to pixels


class Muon(torch.optim.Optimizer):
    """
    Orthogonalised momentum for convolutions, Adam for biases.

    Parameters
    ----------
    parameters : iterable of tensor
        The weights.
    rate : float
        Highest learning rate of the convolutions.
    other_rate : float
        Highest learning rate of the rest.
    ends : tuple of str
        Beginnings of the names of weights that count to the rest, being next to inputs or outputs.

    Notes
    -----
    Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, Tensor]],
        rate: float,
        other_rate: float = 1e-3,
        ends: tuple[str, ...] = ENDS,
    ) -> None:
        hidden, others = [], []
        for name, weight in parameters:
            (hidden if weight.ndim > 1 and not name.startswith(ends) else others).append(weight)
        groups = [
            {"params": hidden, "highest": rate, "matrix": True},
            {"params": others, "highest": other_rate, "matrix": False},
        ]
        super().__init__(groups, {"lr": rate})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Make one step."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state |= {"first": torch.zeros_like(weight), "second": torch.zeros_like(weight), "count": 0}
                state["count"] += 1
                update = _direction(state, weight.grad) if group["matrix"] else _adam(state, weight.grad)
                weight.sub_(update.reshape(weight.shape), alpha=group["lr"])


def _direction(state: dict[str, Any], gradient: Tensor, momentum: float = 0.95) -> Tensor:
    state["first"].lerp_(gradient, 1 - momentum)
    matrix = gradient.lerp(state["first"], momentum).flatten(1)
    rows, columns = matrix.shape
    # so that the entries of every update are of one size, whatever the shape of the matrix
    return orthogonalised(matrix) * 0.2 * max(rows, columns) ** 0.5


def _adam(state: dict[str, Any], gradient: Tensor, decays: tuple[float, float] = (0.9, 0.99)) -> Tensor:
    for name, value, decay in (("first", gradient, decays[0]), ("second", gradient * gradient, decays[1])):
        state[name].lerp_(value, 1 - decay)
    first, second = (state[n] / (1 - d ** state["count"]) for n, d in zip(("first", "second"), decays, strict=True))
    update: Tensor = first / (second.sqrt() + 1e-8)
    return update


def orthogonalised(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Bring all singular values of a matrix near 1, by an odd polynomial that is applied again and again."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = (wide / (wide.norm() + 1e-12)).bfloat16()
    for _ in range(rounds):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    x = x.to(matrix.dtype)
    return x if wide is matrix else x.T
