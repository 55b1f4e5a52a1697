"""Ranks as threads of one process: what one sends lies in a queue until the other asks for it."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import Queue
from typing import Any

import numpy as np

from tilekit._exact.boxes import Box, Shape
from tilekit._exact.graph import Node
from tilekit._exact.kernels import Kernels
from tilekit._exact.program import program_of
from tilekit._exact.run import Arrays, Call
from tilekit._exact.steps import Stage
from tilekit._exact.strips.array_link import ArrayLink
from tilekit._exact.strips.halos import halos_of
from tilekit._exact.strips.partition import Partition
from tilekit._exact.strips.parts import StripProgram, strip_program
from tilekit._exact.strips.replay import StripReplay

WAIT = 20


class Together:
    """Queues between all pairs of ranks."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.queues: dict[tuple[int, int], Queue[Any]] = {(a, b): Queue() for a in range(size) for b in range(size)}


@dataclass
class Rank:
    """One rank: a transport that keeps what was sent."""

    rank: int
    together: Together
    library: str = "numpy"
    sent: list[tuple[int, Any]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.together.size

    def reaches(self, one: int, other: int) -> bool:
        raise NotImplementedError

    def swap(self, gives: Sequence[tuple[int, Any]], takes: Sequence[tuple[int, Shape, str]], like: Any) -> list[Any]:
        del like
        for rank, value in gives:
            self.sent.append((rank, np.array(value)))
            self.together.queues[self.rank, rank].put(self.sent[-1][1])
        came = [self.together.queues[rank, self.rank].get(timeout=WAIT) for rank, _, _ in takes]
        assert [value.shape for value in came] == [shape for _, shape, _ in takes]
        return came

    def everyone(self, mine: Any, givers: Sequence[int], shape: Shape, dtype: str, like: Any) -> list[Any]:
        others = [rank for rank in range(self.size) if rank != self.rank]
        gives = [(rank, mine) for rank in others] if mine is not None else []
        came = iter(self.swap(gives, [(rank, shape, dtype) for rank in givers if rank != self.rank], like))
        return [mine if rank == self.rank else next(came) for rank in givers]

    def collect(self, mine: Any, shapes: Sequence[Shape], dtype: str) -> list[Any] | None:
        raise NotImplementedError

    def digest(self, x: Any) -> int:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@dataclass
class Ran:
    """What came of a call on all ranks."""

    result: Any
    programs: list[StripProgram]
    sent: list[int]
    """Bytes of borders of each rank."""
    pieces: list[dict[int, list[Box]]]
    """The boxes that each rank received, by node."""


class Kept(ArrayLink):
    """Remembers what came."""

    def __init__(self, transport: Rank, kernels: Kernels, like: Any) -> None:
        super().__init__(transport, kernels, like)
        self.pieces: dict[int, list[Box]] = {}

    def swap(self, node: Node, gives: Any, takes: Any) -> list[Any]:
        self.pieces.setdefault(node.index, []).extend(box for _, box in takes)
        return super().swap(node, gives, takes)


def run_ranks(
    call: Callable[[Any], Call], partition: Partition, stages: Sequence[Stage], result: Any, write: Any
) -> Ran:
    """Run all ranks; ``call(program)`` gives the call of one, ``write(box, array)`` takes its boxes."""
    program = program_of(partition.graph, stages)
    halos = halos_of(partition, stages, program.folding.nodes)
    programs = [strip_program(program, halos, rank) for rank in range(partition.size)]
    together = Together(partition.size)

    def one(rank: int) -> Kept:
        held = call(programs[rank])
        link = Kept(Rank(rank, together), held.kernels, held.source)
        with ExitStack() as stack:
            for _ in StripReplay(programs[rank], Arrays(held, write, stack), link):
                pass
        return link

    with ThreadPoolExecutor(partition.size) as pool:
        links = list(pool.map(one, range(partition.size)))
    assert all(queue.empty() for queue in together.queues.values())
    return Ran(result, programs, [link.sent_bytes for link in links], [link.pieces for link in links])
