"""Of which dtypes oneDNN can be asked by name, where torch would take a slower kernel."""

from functools import cache

import torch

__all__ = ["onednn_dtypes"]


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
