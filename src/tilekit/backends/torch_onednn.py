"""Convolutions of oneDNN asked by name, where torch would take a slower kernel."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

__all__ = ["onednn_convolution", "onednn_dtypes"]


@cache
def onednn_dtypes() -> frozenset[torch.dtype]:
    """
    Say for which dtypes this machine's torch has convolutions of oneDNN.

    Returns
    -------
    frozenset of torch.dtype
        Empty where torch was built without it.

    Examples
    --------
    >>> onednn_dtypes() <= {torch.float32, torch.bfloat16, torch.float16}
    True
    """
    if not torch.backends.mkldnn.is_available():
        return frozenset()
    checks = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    return frozenset({torch.float32, *(dtype for dtype, check in checks.items() if getattr(torch.ops.mkldnn, check)())})


def onednn_convolution(  # noqa: PLR0913, PLR0917  torch's own order
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """
    Convolve by oneDNN.

    It reads a bias as if its numbers lay one after the other, and gives what happens to lie there if they do not.

    Parameters
    ----------
    x, weight : tensor
        (batch, channels, [frames,] rows, columns), in any layout, of a dtype that `onednn_dtypes` names.
    bias : tensor or None
        (channels,), in any layout.
    padding, stride, dilation : sequence of int
        One for each axis after the channels.
    groups : int
        Of channels.

    Returns
    -------
    tensor
        What ``torch.nn.functional.conv2d`` or ``conv3d`` gives, but for rounding.

    Examples
    --------
    >>> made = onednn_convolution(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3), None, (1, 1), (1, 1), (1, 1), 1)
    >>> made[0, 0].tolist()
    [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    bias = None if bias is None else bias.contiguous()
    made: Tensor = torch.ops.aten.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)
    return made
