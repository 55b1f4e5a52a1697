"""How each operation of torch becomes one of the kinds that the engine knows."""

import torch

from tilekit._exact.frontends._torch.called import Called, Rule
from tilekit._exact.frontends._torch.rules import places, products, sums, taken, views

__all__ = ["RULES", "rule_of"]

_CELLS = ("_to_copy", "where", "masked_fill", "floor_divide", "remainder", "fmod", "nan_to_num", "polar", "complex")
_MORE_CELLS = ("bitwise_and", "bitwise_or", "bitwise_not", "pow", "hardswish", "_prelu_kernel")

RULES: dict[str, Rule] = {
    **dict.fromkeys((*_CELLS, *_MORE_CELLS), Called.pointwise),
    **views.RULES,
    **products.RULES,
    **places.RULES,
    **sums.RULES,
    **taken.RULES,
}


def rule_of(name: str, tags: object) -> Rule:
    """Find the rule of an operation: by name, else cell by cell where torch says so, else it is not understood."""
    known = RULES.get(name)
    if known is not None:
        return known
    return Called.pointwise if torch.Tag.pointwise in tags else Called.whole  # type: ignore[operator]  # a list of tags
