"""Whether weights, or the input, are still those with which a stream began: otherwise its blocks would not fit."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from tilekit._exact.frontends._torch.captured import Path, dotted, resolve
from tilekit._exact.frontends._torch.offload import hooked

__all__ = ["watched"]


def _version(x: Tensor) -> int | None:
    """Count the writes to a tensor, where torch does."""
    return None if x.is_inference() else x._version


def watched(function: Any, paths: Iterable[Path], x: Tensor) -> Callable[[], str]:
    """
    Give what names the input or a weight that was written to or replaced since.

    Those that hooks bring from elsewhere are passed over, and so are buffers that are moved to another device.
    """
    given = _version(x)
    held = []
    for path in paths:
        if not hooked(function, path):
            weight: Tensor = resolve(function, path)
            held.append((path, weakref.ref(weight), weight.device, _version(weight)))

    def changed() -> str:
        if _version(x) != given:
            return "the input"
        for path, before, device, version in held:
            try:
                weight = resolve(function, path)
            except (LookupError, AttributeError, TypeError):
                return dotted(path)
            same = weight is before()
            if (same and _version(weight) != version) or (not same and weight.device == device):
                return dotted(path)
        return ""

    return changed
