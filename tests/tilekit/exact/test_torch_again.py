"""Following a function of torch twice: shapes are worked out once, and the second run computes nothing."""

import importlib
from typing import Any

import numpy as np
import pytest

from tilekit._exact import ghosts
from tilekit._exact.boxes import extent
from tilekit._exact.kernels._jobs import Job

torch = pytest.importorskip("torch")

FakeTensorMode = importlib.import_module("torch._subclasses.fake_tensor").FakeTensorMode
ROOMS = "tilekit._exact.frontends._torch"
following, repeat, aliases, remembered = (
    importlib.import_module(f"{ROOMS}.{name}") for name in ("follow", "repeat", "aliases", "remembered")
)
trace = importlib.import_module("tilekit._exact.frontends._torch.trace").trace


class Cached(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    """Frames one after the other, each with the last one of before, which is forgotten at the end; as Wan's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv3d(2, 2, (2, 3, 3), padding=(0, 1, 1))
        self.scale = torch.nn.Parameter(torch.ones(2, 1, 1, 1))
        self.kept: list[Any] = []

    def forward(self, x: Any) -> Any:
        """Give all frames."""
        self.kept = [None]
        made = []
        for frame in x.split(1, 2):
            before = frame if self.kept[0] is None else self.kept[0]
            self.kept[0] = frame.clone()
            y = self.conv(torch.cat([before, frame], 2))
            y = torch.nn.functional.normalize(y, dim=1) * self.scale
            made.append(y.mul_(2).transpose(3, 4))
        self.kept = [None]
        return torch.cat(made, 2)


class Grows(Cached):
    """The same with one more operation at each call."""

    calls = 0

    def forward(self, x: Any) -> Any:
        """Give all frames, and count."""
        self.calls += 1
        for _ in range(self.calls):
            x = x + 1
        return super().forward(x)


def counted(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[Any]:
    calls: list[Any] = []
    follow = following.follow

    def counting(*args: Any) -> Any:
        calls.append(args)
        return follow(*args)

    monkeypatch.setattr(module, "follow", counting)
    return calls


def test_the_second_run_computes_nothing_where_it_goes_like_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, repeat)
    traced = trace(Cached().eval(), torch.zeros(1, 2, 5, 4, 4))
    assert not calls
    assert traced.graph.nodes[traced.graph.output].shape == (1, 2, 5, 4, 4)


def test_numbers_that_are_made_anew_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, repeat)
    traced = trace(lambda x: x * torch.as_tensor(np.arange(3.0)), torch.zeros(2, 3))
    assert not calls
    assert traced.plain_bytes is not None


def test_what_goes_otherwise_is_followed_whole_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, repeat)
    with pytest.raises(ValueError, match=r"keeps state \(calls"):
        trace(Grows().eval(), torch.zeros(1, 2, 2, 4, 4))
    assert len(calls) == 1


def test_shapes_are_worked_out_once_for_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    dispatch = FakeTensorMode.dispatch

    def counting(self: Any, func: Any, *rest: Any) -> Any:
        if func.namespace == "aten":
            asked.append(func)
        return dispatch(self, func, *rest)

    monkeypatch.setattr(FakeTensorMode, "dispatch", counting)
    counts = []
    for frames in (4, 12):
        asked.clear()
        trace(Cached().eval(), torch.zeros(1, 2, frames, 4, 4))
        counts.append(len(asked))
    assert counts[0] > 10
    assert counts[1] - counts[0] <= 2 * 8


def test_what_is_remembered_is_what_torch_works_out() -> None:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    known = remembered.Remembered(fake)
    run = following.follow(Cached().eval(), torch.zeros(1, 2, 3, 4, 4))
    for entry in (*run.entries, *run.entries):
        want = entry.op(*entry.args, **entry.kwargs)
        got = known.run(entry.op, entry.args, entry.kwargs)
        if isinstance(want, torch.Tensor):
            for name in ("shape", "dtype", "device"):
                assert getattr(got, name) == getattr(want, name)
            assert (got.stride(), got.storage_offset()) == (want.stride(), want.storage_offset())
            if aliases.is_view(entry.op):
                assert got.untyped_storage()._cdata == entry.args[0].untyped_storage()._cdata


measured = importlib.import_module("tilekit._exact.kernels._torch_measured")
run = measured._run


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Forget what was measured, and note every run that measures."""
    ran: list[Any] = []

    def counting(*args: Any) -> Any:
        ran.append(args)
        return run(*args)

    monkeypatch.setattr(measured, "_run", counting)
    measured._known.clear()
    measured._nothing.clear()
    return ran


def test_operations_that_are_alike_are_measured_once(runs: list[Any]) -> None:
    graph = trace(Cached().eval(), torch.zeros(1, 2, 6, 4, 4)).graph
    sums = [node for node in graph.nodes if type(node.op).__name__ in {"Reduce", "Along"}]
    assert len(sums) == 6
    for node in sums:
        shapes = graph.shapes(node)
        whole = tuple((0, n) for n in node.shape)
        needs = node.op.need(whole, node.shape, shapes)
        lies = tuple(("float32", ghosts.contiguous(shape)) for shape in shapes)
        measured.measured(Job(node.op, node.shape, shapes, whole, needs, node.dtype, lies), torch.device("cpu"))
    assert len(runs) == 1


def test_sums_of_strips_of_any_size_are_measured_once(runs: list[Any]) -> None:
    graph = trace(lambda x: x.norm(dim=1, keepdim=True), torch.zeros(1, 3, 9, 8)).graph
    (node,) = [node for node in graph.nodes if type(node.op).__name__ == "Reduce"]
    (shape,) = graph.shapes(node)
    for rows in range(2, 9):
        box = tuple((0, n if axis != 2 else rows) for axis, n in enumerate(node.shape))
        (need,) = node.op.need(box, node.shape, (shape,))
        assert need is not None
        lies = ((node.dtype, ghosts.contiguous(extent(need))),)
        job = Job(node.op, node.shape, (shape,), box, (need,), node.dtype, lies)
        assert measured.measured(job, torch.device("cpu")) == run(job, torch.device("cpu")) == 0
    assert len(runs) == 1
    across = (("float32", (216, 1, 24, 3)),)  # what does not lie in order is measured
    measured.measured(Job(node.op, node.shape, (shape,), box, (need,), node.dtype, across), torch.device("cpu"))
    assert len(runs) == 2
