"""Compiling a transformer block by block, with each framework's own compiler."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from ltx_models.nn import Array


def compile_blocks(model: Any, **options: Any) -> Any:
    """
    Compile each block of a transformer: small graphs, of which one serves all blocks of the same shapes.

    Parameters
    ----------
    model : Transformer
        On torch or MLX; changed in place. Do this after quantising it and after adding live LoRA layers.
    **options : object
        Of `torch.compile`; MLX takes none.

    Returns
    -------
    Transformer
        The same model.

    Raises
    ------
    ValueError
        If options are given on MLX.
    """
    nn = model.nn
    if nn.name == "mlx" and options:
        msg = f"compile_blocks: got {', '.join(options)}, but MLX takes no options"
        raise ValueError(msg)
    for block in model.transformer_blocks:
        if nn.name == "mlx":
            block.forward = _Compiled(block)
        else:
            block.compile(**options)
    return model


class _Compiled:
    """A block's `forward` under `mx.compile`, which takes arrays only: the rest of the arguments selects a graph."""

    def __init__(self, block: Any) -> None:
        self._block = [block]  # in a list, so that nothing takes it for a child module
        self._forward = block.forward
        self._graphs: dict[Any, Any] = {}

    def __call__(self, *streams: Any) -> Any:
        arrays: list[Array] = []
        form = _take(streams, arrays, self._block[0].nn)
        if form not in self._graphs:
            import mlx.core as mx

            def run(*traced: Array) -> Any:
                return self._forward(*_give(form, iter(traced)))

            self._graphs[form] = mx.compile(run, inputs=self._block[0].state)
        return self._graphs[form](*arrays)


def _take(x: Any, arrays: list[Array], nn: Any) -> Any:
    """Take the arrays out of nested dataclasses and tuples; what is left is hashable."""
    if nn.is_array(x):
        arrays.append(x)
        return nn.is_array
    if isinstance(x, tuple):
        return (tuple, *(_take(item, arrays, nn) for item in x))
    if is_dataclass(x) and not isinstance(x, type):
        return (type(x), *(_take(getattr(x, field.name), arrays, nn) for field in fields(x)))
    return x


def _give(form: Any, arrays: Any) -> Any:
    """Put the arrays back."""
    if callable(form) and not isinstance(form, type):
        return next(arrays)
    if not isinstance(form, tuple):
        return form
    kind, *items = form
    members = [_give(item, arrays) for item in items]
    return tuple(members) if kind is tuple else kind(*members)
