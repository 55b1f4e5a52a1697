"""Read a program of JAX: functions inside it are taken apart, loops of known length are unrolled."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from tilekit._errors import TraceError
from tilekit._exact.frontends._jax.builder import Builder
from tilekit._exact.frontends._jax.rounded import rounded
from tilekit._exact.frontends._jax.rules import Equation, lower
from tilekit._exact.graph import Node
from tilekit._exact.ops import Concat, Constant, Input, Slice

__all__ = ["KEPT", "KNOWN", "Program"]

KNOWN = 1 << 16
"""Cells up to which an array of NumPy is part of the function, as a table is; larger ones are weights."""
KEPT = (
    "the function keeps an array of one call for the next, so its result depends on the calls before it; keep such "
    "state outside of the call and hand its numbers in, or call the function plainly"
)
UNROLLED = 4096
"""Primitives up to which a loop is unrolled."""
_INSIDE = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_NAMES = """
checkpoint closed_call core_call core_closed_call custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr jit pjit
remat remat2
"""
_CALLS = frozenset(_NAMES.split())
_CALLBACKS = frozenset(("debug_callback", "debug_print", "io_callback", "pure_callback"))


class Program:
    """
    A graph of what a program does.

    Parameters
    ----------
    closed : jax.extend.core.ClosedJaxpr
        Of one input and one output.

    Attributes
    ----------
    weights : list of array
        What the program reads beside its input, by the keys of its constants.
    output : int
        The node of the result.
    """

    def __init__(self, closed: Any) -> None:
        self.builder = Builder()
        self.weights: list[Any] = []
        self._keys: dict[int, int] = {}
        (source,) = closed.jaxpr.invars
        index = self.builder.add(Input(), (), source.aval.shape, str(source.aval.dtype))
        (self.output,) = self._closed(closed, [index], "")

    def _closed(self, closed: Any, given: Sequence[int], where: str, *, compiled: bool = False) -> list[int]:
        constants = [self._constant(value) for value in closed.consts]
        return self._read(closed.jaxpr, constants, given, where, rounded(closed.jaxpr) if compiled else {})

    def _constant(self, value: Any) -> int:
        """Add an array that the function holds, once however often it is read."""
        if isinstance(value, jax.core.Tracer):
            raise TraceError(KEPT)
        if id(value) not in self._keys:
            b = self.builder
            if not isinstance(value, jax.Array) and np.size(value) <= KNOWN:
                self._keys[id(value)] = b.add_known(np.array(value))
            else:
                op = Constant(("weight", len(self.weights)))
                self._keys[id(value)] = b.add(
                    op, (), np.shape(value), str(value.dtype), f"constant {len(self.weights)}"
                )
            self.weights.append(value)  # kept, so that no other array gets its id
        return self._keys[id(value)]

    def _read(
        self,
        jaxpr: Any,
        constants: Sequence[int],
        given: Sequence[int],
        where: str,
        known: Mapping[Any, Any] = MappingProxyType({}),
    ) -> list[int]:
        places: dict[Any, int] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *given), strict=True))

        def place(atom: Any) -> int:
            if isinstance(atom, Literal):
                return self.builder.add_known(np.asarray(atom.val, atom.aval.dtype))
            return places[atom]

        for equation in jaxpr.eqns:
            if known and equation.outvars and equation.outvars[0] in known:
                places[equation.outvars[0]] = self.builder.add_known(known[equation.outvars[0]])
                continue
            made = self._equation(equation, [place(atom) for atom in equation.invars], where)
            places.update(zip(equation.outvars, made, strict=True))
        return [place(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, inputs: list[int], where: str) -> list[int]:
        name, parameters = equation.primitive.name, equation.params
        stack = str(equation.source_info.name_stack)
        where = f"{where}/{stack}".strip("/") if stack else where
        if name in _CALLBACKS:
            msg = (
                f"the function calls back to Python ({name}; jax.debug.print is one): it would be called for parts of "
                "arrays, and often; take it out, or call the function plainly"
            )
            raise TraceError(msg)
        if name in _CALLS:
            inside = next(parameters[key] for key in _INSIDE if key in parameters)
            if not hasattr(inside, "consts"):
                return self._read(inside, (), inputs, where)
            return self._closed(inside, inputs, where, compiled=name in {"jit", "pjit"})
        if name == "scan" and parameters["length"] * len(parameters["jaxpr"].jaxpr.eqns) <= UNROLLED:
            return self._unrolled(parameters, equation.outvars, inputs, where)
        before = len(self.builder.nodes)
        avals = [var.aval for var in equation.outvars]
        e = Equation(
            equation.primitive,
            parameters,
            tuple(tuple(aval.shape) for aval in avals),
            tuple(str(aval.dtype) for aval in avals),
        )
        made = lower(self.builder, e, inputs)
        self._named(before, name, inputs, where)
        self._check(e, made)
        return made

    def _named(self, before: int, name: str, inputs: Sequence[int], where: str) -> None:
        nodes = self.builder.nodes
        for index in range(before, len(nodes)):
            n = nodes[index]
            nodes[index] = Node(index, n.op, n.inputs, n.shape, n.dtype, n.name or f"{where}/{name}".strip("/"))

    def _check(self, e: Equation, made: Sequence[int]) -> None:
        for index, shape, dtype in zip(made, e.shapes, e.dtypes, strict=True):
            node = self.builder.nodes[index]
            if node.shape != shape or node.dtype != dtype:
                msg = f"{e.name}: read as {node.shape} of {node.dtype} where JAX makes {shape} of {dtype}"
                raise TraceError(msg)

    def _unrolled(self, parameters: Any, outvars: Sequence[Any], inputs: list[int], where: str) -> list[int]:
        """Read the body of a loop as often as it runs."""
        fixed, carried = parameters["num_consts"], parameters["num_carry"]
        constants, carry, rows = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]
        length, body = parameters["length"], parameters["jaxpr"]
        made: list[list[int]] = [[] for _ in outvars[carried:]]
        for i in reversed(range(length)) if parameters["reverse"] else range(length):
            results = self._closed(body, [*constants, *carry, *(self._row(index, i) for index in rows)], where)
            carry = results[:carried]
            for row, index in zip(made, results[carried:], strict=True):
                row.append(index)
        if parameters["reverse"]:
            made = [row[::-1] for row in made]
        return [*carry, *(self._stacked(row, var.aval) for row, var in zip(made, outvars[carried:], strict=True))]

    def _row(self, index: int, i: int) -> int:
        b = self.builder
        node = b.nodes[index]
        if node.shape[0] == 1:
            return b.reshape(index, node.shape[1:])
        one = b.add(
            Slice((i, *(0 for _ in node.shape[1:])), (1,) * len(node.shape)), (index,), (1, *node.shape[1:]), node.dtype
        )
        return b.reshape(one, node.shape[1:])

    def _stacked(self, rows: Sequence[int], aval: Any) -> int:
        b = self.builder
        split = [b.reshape(index, (1, *aval.shape[1:])) for index in rows]
        return split[0] if len(split) == 1 else b.add(Concat(0), split, aval.shape, str(aval.dtype))
