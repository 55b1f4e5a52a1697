"""Strips over processes of torch.distributed, two, three and four of them; one of them dies."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch.distributed")
if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this torch has no gloo", allow_module_level=True)

from tests.ranks import told_by_ranks  # noqa: E402
from tests.tilekit.exact._gloo_ranks import CASES, MOST  # noqa: E402

from tilekit._exact.strips import _torch  # noqa: E402
from tilekit._exact.strips._torch import _Gloo  # noqa: E402

WORLD = 4
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank tells; the last one dies in the end."""
    folder = tmp_path_factory.mktemp("ranks")
    modules = ("torch.distributed", "torch._dynamo", "tilekit.testing")
    return told_by_ranks(WORLD, HERE / "_gloo_ranks.py", folder, *modules)


def test_all_ranks_together(ranks: list[dict[str, Any]]) -> None:
    """In one test, as each worker of the suite would start the ranks anew."""
    for name, _, _, size, grid in CASES:
        held = [rank[name] for rank in ranks if name in rank]
        assert len(held) == size
        for rank in held:
            assert rank["error"] <= 1e-6, name
            assert rank["plain"] <= 2e-6, name
            assert grid is not None or (rank["stream"] <= 1e-6 and rank["sent by stream"] == rank["sent"]), name
        fill(held)
    check_bytes(ranks)
    check_whole(ranks)
    check_limits(ranks)
    check_refusals(ranks)
    check_death(ranks)


def fill(held: list[dict[str, Any]]) -> None:
    """The places of all ranks fill the result, each cell once."""
    seen = torch.zeros(held[0]["shape"])
    for rank in held:
        seen[tuple(slice(*part) for part in rank["place"])] += 1
    assert (seen == 1).all()


def check_bytes(ranks: list[dict[str, Any]]) -> None:
    """Both sides of a border, for each convolution but the first, whose input all ranks have."""
    frames, rows, columns = 3, 5, 7
    # an upsampling follows the first convolution: its output goes, an eighth of what the second reads
    channels = {1: [8], 2: [8]}
    border = sum(frames * n * rows * n * len(row) * 8 * 4 for n, row in channels.items())
    assert sum(rank["clip"]["sent"] for rank in ranks if "clip" in rank) == 2 * border
    along = sum(frames * n * columns * n * len(row) * 8 * 4 for n, row in channels.items())
    corners = sum(4 * frames * n * len(row) * 8 * 4 for n, row in channels.items())
    assert sum(rank["grid"]["sent"] for rank in ranks) == 2 * (border + along) + corners


def check_whole(ranks: list[dict[str, Any]]) -> None:
    assert [rank["gathered"] for rank in ranks] == [{"whole": True, "stream": True}] * WORLD


def check_limits(ranks: list[dict[str, Any]]) -> None:
    """Every rank stays below what its device gets right, and the first gathers nothing that is larger."""
    assert max(rank["limited"]["free"] for rank in ranks) > MOST
    for rank in ranks:
        told = rank["limited"]
        *_, size = told["sizes"]  # of the part of this rank, where the limit is MOST
        assert size <= MOST
        assert told["asked"] == [f"an array of {min(MOST, 1 << (size - 1).bit_length())} elements"]
        for way in ("call", "stream"):
            assert told[way]["error"] <= 2e-6
            assert told[way]["elements"] <= MOST
            assert told[way]["played"] == []
        assert "the result that the first rank gathers would have 6720 elements" in told["gathered"]
        assert re.match(r"rank \d: block \[0:1, .*\] of the output is one number everywhere", told["flat"])


def check_refusals(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        told = rank["refused"]
        assert "rank 1, 2, 3 was called with another input than rank 0" in told["other"]
        assert "4 ranks, but the latents have 3 cells" in told["few"]
        assert "NaN" in told["nan"]


def check_death(ranks: list[dict[str, Any]]) -> None:
    assert "killed" not in ranks[-1]
    for rank in ranks[:-1]:
        assert "lost another rank" in rank["killed"]["text"]
        assert "start them again" in rank["killed"]["text"]
        assert rank["killed"]["seconds"] < 20


def test_no_rank_leaves_while_another_is_being_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was refused at once ended its connections, and another said that it had lost a rank."""
    store, left, early = torch.distributed.HashStore(), Event(), []
    connect = torch.distributed.ProcessGroupGloo

    def slow(store: Any, rank: int, *more: Any) -> Any:
        made = connect(store, rank, *more)
        if rank == 1:
            early.append(left.wait(0.2))
        return made

    def rank(number: int) -> None:
        _Gloo((0, 1), number)
        if number == 0:
            left.set()

    monkeypatch.setattr(torch.distributed, "ProcessGroupGloo", slow)
    monkeypatch.setattr(_torch, "_get_default_store", lambda: store)
    monkeypatch.setattr(_Gloo, "_made", Alike())
    with ThreadPoolExecutor(2) as both:
        list(both.map(rank, (0, 1)))
    assert early == [False]


class Alike(dict[tuple[int, ...], int]):
    """The numbers of groups where two ranks are threads, each of which makes its first."""

    def get(self, ranks: Any, default: Any = None) -> Any:
        return default
