"""Comparisons of whole, blended and exact decodes: what is counted, where seams are found, and the verb that tells."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra 'video'")

import ltx_models
from ltx_models.cli import main
from ltx_models.cli.comparing.comparison import compare
from ltx_models.cli.comparing.live import live_peak
from ltx_models.cli.comparing.seams import SeamMap
from ltx_models.cli.comparing.ways import WAYS, Decoding
from ltx_models.nn import BackendName
from ltx_models.nn import backend as get_backend
from tilekit import LTX2_VIDEO, Tiling, plan

MIB = 2**20


@pytest.fixture(params=["torch", "mlx"])
def backend(request: pytest.FixtureRequest) -> BackendName:
    name: BackendName = request.param
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[name])
    return name


@pytest.fixture
def decoding(backend: BackendName) -> Decoding:
    decoder: Any = ltx_models.load_video_decoder(ltx_models.default_checkpoint(), backend=backend, dtype="float32")
    noise = np.random.default_rng(3).normal(size=(1, 128, 3, 2, 3)).astype(np.float32)
    return Decoding(decoder, decoder.nn.asarray(noise), Tiling(width=(64, 32), frames=(16, 8)), memory_bytes=2 * MIB)


def test_the_live_peak_is_of_what_is_alive_together() -> None:
    torch: Any = pytest.importorskip("torch")
    with live_peak(get_backend("torch")) as peak:
        for _ in range(5):  # one after another
            torch.zeros(MIB // 4)
        kept = [torch.zeros(MIB // 4) for _ in range(3)]
        views = [one[:5].view(5, 1) for one in kept]  # share their memory
    assert peak.n_bytes == 3 * MIB
    assert len(views) == 3


def test_the_live_peak_counts_memory_of_numpy_and_not_what_was_there() -> None:
    torch: Any = pytest.importorskip("torch")
    weights = torch.ones(MIB)
    with live_peak(get_backend("torch"), [weights]) as peak:
        canvas = torch.from_numpy(np.zeros(MIB // 4, np.float32)).view(4, -1)
        canvas[0] += weights[0]
    assert MIB <= peak.n_bytes <= 1.01 * MIB


def test_the_live_peak_of_mlx_is_of_what_is_alive_together() -> None:
    mx: Any = pytest.importorskip("mlx.core")
    with live_peak(get_backend("mlx")) as peak:
        for _ in range(5):
            mx.eval(mx.zeros(MIB // 4))
        kept = [mx.zeros(MIB // 4) + k for k in range(3)]
        mx.eval(kept)
    assert 3 * MIB <= peak.n_bytes <= 4.5 * MIB  # zeros of the sums may be alive beside them


def test_exact_is_whole_and_blended_is_not(decoding: Decoding) -> None:
    seen: dict[str, list[int]] = {way: [] for way in WAYS}
    sinks: Any = {way: lambda block, start, way=way: seen[way].append(start + block.shape[2]) for way in WAYS}
    found = compare(decoding, WAYS, sinks)
    assert list(found) == list(WAYS)
    assert found["whole"].difference is None
    whole, blended, exact = (found[way] for way in WAYS)
    assert blended.difference is not None
    assert exact.difference is not None
    assert exact.difference.largest < 1e-4
    assert blended.difference.largest > 1e-3
    assert exact.taken.work == whole.taken.work == 1 < blended.taken.work
    for way in WAYS:
        assert seen[way][-1] == 17
        assert [frames for _, frames in found[way].taken.blocks] == seen[way]
        assert 0 < found[way].taken.blocks[0][0] <= found[way].taken.seconds
        assert found[way].taken.live_bytes > 17 * 64 * 96 * 3 * 4 / 4  # at least a part of the frames
    assert len(seen["exact"]) > 1 == len(seen["whole"])


def test_seams_are_found_where_tiles_meet() -> None:
    """A difference in one overlap alone: its seam has all of the score, of the other axes' none stands out."""
    made = plan((1, 128, 4, 2, 4), Tiling(width=(64, 32)), geometry=LTX2_VIDEO)
    (axis,) = [k for k, axis in enumerate(made.geometry.axes) if axis.name == "width"]
    first, second = [segment for segment in made.segments[axis] if len(segment.tiles) > 1][:2]
    found = SeamMap(25, 64, 128)
    frame = np.zeros((3, 64, 128))
    frame[:, :, first.start : first.stop] = 0.5
    frame[:, :, 0] = 0.1
    for k in range(25):
        found.add(k, frame, np.zeros_like(frame))
    seams = found.seams(made)
    assert [(seam.axis, seam.start, seam.stop) for seam in seams] == [
        ("width", first.start, first.stop), ("width", second.start, second.stop)
    ]  # fmt: skip
    inside = 0.25
    outside = 0.01 / (128 - sum(seam.stop - seam.start for seam in seams))
    assert seams[0].score == pytest.approx(inside / outside)
    assert seams[0].largest == 0.5
    assert seams[1].score == 0
    assert found.largest == 0.5


def test_bench_tells_each_length_and_refuses_what_does_not_fit(
    capsys: pytest.CaptureFixture[str], backend: BackendName
) -> None:
    flags = ["--size", "96x64", "--backend", backend, "--tiling", "64/32"]
    assert main(["bench", "--frames", "9,17", *flags, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["frames"] for row in rows] == [9, 17]
    for row in rows:
        assert row["ways"]["exact"]["largest_difference"] < 1e-4
        assert row["ways"]["blended"]["largest_difference"] > 1e-3
        assert "largest_difference" not in row["ways"]["whole"]
    assert main(["bench", "--frames", "9", *flags, "--ways", "exact,blended"]) == 0
    out = capsys.readouterr().out
    assert "largest difference from exact" in out
    assert "whole" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert main(["bench", "--frames", "10", *flags]) == 2
    assert "96x64 with 10 frames is off the grid" in capsys.readouterr().err
    for wrong in ("blend", "exact,exact", ""):
        with pytest.raises(SystemExit):
            main(["bench", "--ways", wrong])
        assert "expected some of whole, blended, exact" in capsys.readouterr().err


def test_the_demo_leaves_pictures_and_a_page_that_needs_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page holds everything itself, and tells the figures that the script measured."""
    import re
    import runpy
    import sys

    for needed in ("torch", "matplotlib", "skvideo"):
        pytest.importorskip(needed)
    examples = Path(__file__).parents[2] / "examples"
    monkeypatch.syspath_prepend(examples)
    small = ["--frames", "9", "--lengths", "9", "--size", "128x96", "--tiling", "64/32"]
    for script in (["side_by_side.py", *small], ["demo_page.py"]):
        monkeypatch.setattr(sys, "argv", [script[0], "--out", str(tmp_path), *script[1:]])
        runpy.run_path(str(examples / script[0]), run_name="__main__")
    facts = json.loads((tmp_path / "side_by_side.json").read_text())
    assert facts["ways"]["exact"]["largest_difference"] < 1e-4 < facts["ways"]["blended"]["largest_difference"]
    assert {seam["axis"] for seam in facts["seams"]} == {"height", "width"}
    assert (tmp_path / "side_by_side.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "index.html").read_text()
    sources = re.findall(r"""(?:src|poster|href)=["']([^#].{4})""", page)  # charts refer to parts of themselves
    assert sources
    assert set(sources) == {"data:"}
    assert "$" not in re.sub(r"base64,[^\"]*", "", page).partition("<script>")[0]
    assert f"{facts['ways']['blended']['largest_difference']:.2g}" in page
    assert page.count("<svg") == 3
