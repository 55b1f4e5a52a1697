"""Numbers without the input that are rounded inside `jax.jit`: as XLA makes them, which divides otherwise."""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

__all__ = ["rounded"]

_MOST = 1 << 16
"""Cells of an array that is made while the function is read."""
_ROUNDS = frozenset(("ceil", "floor", "round"))
_known: WeakKeyDictionary[Any, dict[Any, np.ndarray]] = WeakKeyDictionary()
"""By the program itself: one of the same text may hold other arrays."""


def rounded(jaxpr: Any) -> dict[Any, np.ndarray]:
    """
    Give the arrays of a compiled function that are rounded, and depend on none of its inputs.

    A place such as ``(i + 0.5) * 10 / 25`` is a whole number for some `i`: whether it is rounded down or up is up to
    the compiler, which multiplies by 0.4 where the program divides by 2.5. Such places say which cells are read.
    """
    found = _known.get(jaxpr)
    if found is None:
        found = _known[jaxpr] = _found(jaxpr)
    return found


def _found(jaxpr: Any) -> dict[Any, np.ndarray]:
    known: set[Any] = set()
    chosen: list[int] = []
    for i, e in enumerate(jaxpr.eqns):
        if e.effects or not all(isinstance(atom, Literal) or atom in known for atom in e.invars):
            continue
        known.update(e.outvars)
        if _rounds(e) and e.outvars[0].aval.size <= _MOST and not all(isinstance(atom, Literal) for atom in e.invars):
            chosen.append(i)
    if not chosen:
        return {}
    made = _made(jaxpr, chosen)
    return {jaxpr.eqns[i].outvars[0]: value for i, value in zip(chosen, made, strict=True)}


def _rounds(equation: Any) -> bool:
    name, given = equation.primitive.name, equation.invars[0].aval if equation.invars else None
    if given is None or not jnp.issubdtype(given.dtype, jnp.floating):
        return False
    return name in _ROUNDS or (
        name == "convert_element_type" and jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.integer)
    )


def _made(jaxpr: Any, chosen: Sequence[int]) -> Sequence[np.ndarray]:
    """Compile and run what leads to some results."""
    equations = jaxpr.eqns
    needed = {atom for i in chosen for atom in equations[i].invars if not isinstance(atom, Literal)}
    taken = set(chosen)
    for i in range(len(equations) - 1, -1, -1):
        if i in taken or not needed.isdisjoint(equations[i].outvars):
            taken.add(i)
            needed.update(atom for atom in equations[i].invars if not isinstance(atom, Literal))

    debug = jaxpr.debug_info._replace(arg_names=None, result_paths=None)
    part = jaxpr.replace(
        constvars=[],
        invars=[],
        outvars=[equations[i].outvars[0] for i in chosen],
        eqns=[equations[i] for i in sorted(taken)],
        debug_info=debug,
    )
    return [np.asarray(value) for value in jax.jit(jaxpr_as_fun(ClosedJaxpr(part, ())))()]
