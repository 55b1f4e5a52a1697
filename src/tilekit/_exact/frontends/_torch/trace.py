"""Follow a function of torch once, on tensors without memory, and give its graph."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from tilekit._exact.frontends import Traced
from tilekit._exact.frontends._torch.aliases import CannotFollow
from tilekit._exact.frontends._torch.build import Sources, build
from tilekit._exact.frontends._torch.captured import Path, dotted
from tilekit._exact.frontends._torch.checks import check_run
from tilekit._exact.frontends._torch.fingerprint import Fingerprint
from tilekit._exact.frontends._torch.follow import Run, follow
from tilekit._exact.frontends._torch.gate import GATE
from tilekit._exact.frontends._torch.itself import itself
from tilekit._exact.frontends._torch.refusals import check_input, explain, refuse
from tilekit._exact.frontends._torch.repeat import check_state
from tilekit._exact.frontends._torch.watch import watched
from tilekit._exact.frontends._torch.weights import Literal, Reader
from tilekit._exact.garbage import uncollected
from tilekit._exact.graph import Graph

__all__ = ["trace"]

_LOOKING = threading.RLock()
"""Hooks bring weights for one thread at a time."""


def trace(function: Callable[..., Any], x: Tensor) -> Traced:
    """
    Give the graph of a function for inputs like one.

    Parameters
    ----------
    function : callable
        A module, a method or any function of one tensor that gives one tensor. It runs once, on tensors without memory;
        what it writes to its modules meanwhile is put back.
    x : tensor
        Its shape, dtype and device count, not its values.

    Returns
    -------
    Traced
        The graph and its weights, which are looked up whenever they are read.

    Raises
    ------
    TraceError
        If the function is no function of its input alone, or cannot be followed; it says why and what to do.

    Examples
    --------
    >>> import torch
    >>> traced = trace(torch.nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 16, 16))
    >>> [type(node.op).__name__ for node in traced.graph.nodes]
    ['Input', 'Constant', 'Constant', 'Conv']
    """
    check_input(function, x)
    # in inference mode torch does not take its composite calls apart, and dropout would look like a draw
    with GATE.alone(), uncollected(), torch.inference_mode(mode=False):
        run = follow(function, x)
        check_run(function, run)
        sources = _sources(function, run)
        check_state(function, run, x)
        graph = _graph(function, run, sources)
        read = Reader(function, sources.literals, x.device)
        fingerprint = _fingerprint(run, sources, x.device)
        notes, peak, plain = _notes(run), run.peak, itself(function, run, graph)
        run.forget()

    def holds() -> bool:
        read.forget()
        return fingerprint.current(read)

    keys = [node.op.key for node in graph.constants if not _is_literal(node.op.key)]  # type: ignore[attr-defined]  # of constants
    watch = _looking(lambda x: _looking(watched(function, keys, x)))
    look, current = _looking(read), _looking(holds)
    return Traced(graph, look, current, notes, own=_is_literal, itself=plain, plain_bytes=peak, watch=watch)


def _is_literal(key: Any) -> bool:
    return isinstance(key, Literal)


def _looking(look: Callable[..., Any]) -> Callable[..., Any]:
    """Look at modules only while no other thread's trace holds stand-ins in them."""

    def looked(*key: Any) -> Any:
        with GATE.together(), _LOOKING:
            return look(*key)

    return looked


def _notes(run: Run) -> tuple[str, ...]:
    if any(x is run.input for x in run.recorder.aliases.written):
        return ("the function writes to its input; the one that is handed in is left as it is",)
    return ()


def _sources(function: Callable[..., Any], run: Run) -> Sources:
    """Say where each tensor comes from that no operation made."""
    paths, used = run.paths(), run.used()
    _check_seen(function, run, paths)
    for entry in run.alive():
        for x in entry.reads:
            if type(x) is not Tensor or id(x) in paths or x.device.type == "meta" or not x.numel():
                continue
            shared = run.captured.by_memory.get(x.untyped_storage().data_ptr())
            if shared is not None:
                raise refuse(
                    function,
                    f"it reads a view of {dotted(shared)} that cannot be found again when that changes",
                    "take the view inside of the function from the tensor itself, or make it a buffer of a module",
                )
    return Sources(run.input, {key: path for key, path in paths.items() if key in used})


def _graph(function: Callable[..., Any], run: Run, sources: Sources) -> Graph:
    try:
        graph = build(run.entries, run.output, sources, run.known)
    except CannotFollow as error:
        raise explain(function, error) from error
    if run.output.layout != torch.strided:
        raise refuse(function, f"it gives a tensor that is not dense ({run.output.layout})", "make it dense inside")
    for node in graph.nodes:
        if 0 in node.shape:
            raise refuse(
                function,
                f"{node.name or 'it'} makes an array of shape {node.shape}, which has no cells",
                "leave such arrays out, or call the function plainly",
            )
    return graph


def _check_seen(function: Callable[..., Any], run: Run, paths: dict[int, Path]) -> None:
    """Refuse tensors of the run that no recorded operation made: other threads are not followed."""
    known = {id(x) for entry in run.entries for x in entry.outputs} | paths.keys() | {id(run.input)}
    read = [x for entry in run.alive() for x in entry.reads]
    if any(isinstance(x, FakeTensor) and id(x) not in known for x in (run.output, *read)):
        raise refuse(
            function,
            "it makes arrays where it cannot be followed (in another thread?)",
            "let one thread make them, or call the function plainly",
        )


def _fingerprint(run: Run, sources: Sources, device: torch.device) -> Fingerprint:
    """Note the modules that ran, what the weights hang on, and the numbers that were looked at."""
    called = [run.captured.modules[m] for m in run.recorder.called if m in run.captured.modules]
    held = [path[:-1] for path in sources.paths.values()]
    written: dict[int, set[Any]] = {}
    for change in run.changes:
        written.setdefault(id(change.holder), set()).add(change.key)
    frozen = {key: frozenset(names) for key, names in written.items()}
    fingerprint = Fingerprint(run.captured, [(), *called, *held], frozen, device)
    fingerprint.known = run.known.used
    return fingerprint
