"""Arrays that are completed on the way so that less waits between strips, and batches cell by cell."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # needs torch
from torch.nn import functional as F  # noqa: E402

from tilekit._exact.boxes import full  # noqa: E402
from tilekit._exact.graph import Graph  # noqa: E402
from tilekit._exact.kernels import kernels_of  # noqa: E402
from tilekit._exact.program import program_of  # noqa: E402
from tilekit._exact.run import Call, run  # noqa: E402
from tilekit._exact.search import search  # noqa: E402
from tilekit._exact.trace import trace  # noqa: E402
from tilekit._exact.trials import Trials  # noqa: E402
from tilekit._exact.ways import Slide, slides  # noqa: E402


class Block(nn.Module):
    """A causal convolution of clips after a norm of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, channels)
        self.conv = nn.Conv3d(channels, channels, 3, padding=(0, 1, 1))

    def forward(self, x: Any) -> Any:
        frames = self.norm(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], -1)).transpose(1, 2)
        return x + self.conv(F.pad(F.silu(frames), (0, 0, 0, 0, 2, 0), mode="replicate"))


class OverTime(nn.Module):
    """Attention of each place over all frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)

    def forward(self, x: Any) -> Any:
        places = x.permute(0, 3, 4, 2, 1).flatten(0, 2)[:, None]
        made = F.scaled_dot_product_attention(*self.qkv(places).chunk(3, -1))
        return x + made[:, 0].unflatten(0, (x.shape[0], *x.shape[3:])).permute(0, 4, 3, 1, 2)


class Decoder(nn.Module):
    """Frames double on the way, and the first of them are dropped."""

    def __init__(self, attention: bool = False, drop: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv3d(3, 8, 1), *[OverTime(8)] * attention, *[Block(8) for _ in range(4)])
        self.last = nn.Sequential(*[Block(8) for _ in range(3)], nn.Conv3d(8, 3, 1))
        self.drop = drop

    def forward(self, x: Any) -> Any:
        x = self.first(x).repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
        return self.last(x)[:, :, self.drop :]


def halted(graph: Graph) -> list[Slide]:
    return [way for way in slides(graph) if way.rests]


def counted(trials: Trials, way: Slide, size: int) -> Any:
    return trials.counted(program_of(trials.graph, way.stages(way.frontiers.lasting, size)), way.axis)


@pytest.mark.parametrize("attention", [False, True])
def test_networks_in_two_parts_are_right_and_take_less(attention: bool) -> None:
    net, x = Decoder(attention).eval(), torch.randn(1, 3, 6, 5, 4)
    traced, kernels = trace(net, x), kernels_of(x)
    trials = Trials(traced.graph, kernels.scratch, (), stream=False, limits=None)
    over_time = [way for way in slides(traced.graph) if way.along == 2]
    peaks = {}
    for way in over_time:
        for size in (1, trials.largest // 3):
            choice = counted(trials, way, size)
            made = run(Call(choice.program, kernels, x, traced.constants, choice.axis), lambda done: None)
            assert (made - net(x)).abs().max() < 1e-5
            assert choice.work <= 1.0
            peaks[bool(way.rests), size] = choice.peak_bytes
    assert peaks[True, 1] < 0.95 * peaks[False, 1]


def test_attention_over_time_goes_along_places_when_frames_are_there() -> None:
    x = torch.randn(1, 3, 8, 6, 5)
    graph = trace(Decoder(attention=True).eval(), x).graph
    way = next(way for way in halted(graph) if way.along == 2)
    path = way.frontiers.within(way.frontiers.lasting.held // 2)
    assert path is not None
    cut = [
        {axis for axis, (rows, n) in enumerate(zip(box, graph.nodes[node].shape, strict=True)) if rows != (0, n)}
        for stage in way.stages(path, 1)
        for step in stage.steps[:1]
        for node, box in step.targets
        if len(graph.nodes[node].shape) == 5
    ]
    assert {2} in cut
    assert {3} in cut or {4} in cut


def test_frames_that_are_dropped_make_no_larger_step() -> None:
    x = torch.randn(1, 3, 6, 5, 4)
    peaks = {}
    for drop in (0, 3, 5):
        net = Decoder(drop=drop).eval()
        traced, kernels = trace(net, x), kernels_of(x)
        trials = Trials(traced.graph, kernels.scratch, (), stream=False, limits=None)
        choice = counted(trials, next(way for way in slides(traced.graph) if way.along == 2), 1)
        made = run(Call(choice.program, kernels, x, traced.constants, choice.axis), lambda done: None)
        assert (made - net(x)).abs().max() < 1e-5
        assert choice.work <= 1.0
        peaks[drop] = choice.peak_bytes
    assert max(peaks.values()) < 1.05 * peaks[0]


def test_a_batch_is_made_a_picture_at_a_time() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Conv2d(8, 3, 3, padding=1)).eval()
    x = torch.randn(5, 3, 9, 7)
    traced, kernels = trace(net, x), kernels_of(x)
    plain = Trials(traced.graph, kernels.scratch, (), stream=False, limits=None).plain_bytes
    result = traced.graph.nodes[traced.graph.output].nbytes
    choice = search(traced.graph, result + (plain - result) // 4, kernels.scratch)
    assert choice.work == 1.0
    assert {box[1:] for step in choice.stages[-1].steps for _, box in step.targets} == {full((3, 9, 7))}
    made = run(Call(choice.program, kernels, x, traced.constants, choice.axis), lambda done: None)
    assert (made - net(x)).abs().max() < 1e-5
