"""
Each row of the table of what devices get wrong is played, and is found by the canary or made impossible by the plan.

A row's numbers are too large to be played, so its kind of fault is played at small ones. A new row, or a new kind of
limit, for which nothing is played fails here.
"""

from dataclasses import fields, replace
from math import inf
from typing import Any

import numpy as np
import pytest

import tilekit as tk
from tilekit import DeviceError, PlanError
from tilekit.backends import canary
from tilekit.backends.limits import KNOWN, Known, Limits, known_of, place_of, pretended, warn_of
from tilekit.testing import Library, limited


def title(row: Known) -> str:
    return f"{row.framework} {row.device} {row.since}-{row.before} {row.what[:40]}".replace(" ", "_")


def kinds(row: Known) -> list[str]:
    """What a row limits or asks for."""
    found = [field.name for field in fields(Limits) if getattr(row.limits, field.name) not in (inf, False)]
    return [*found, "advice"] if row.advice else found


ROWS = [pytest.param(row, kind, id=f"{title(row)}-{kind}") for row in KNOWN for kind in kinds(row)]
SMALL = {"elements": 60_000, "convolution": 30_000, "unfolded": 120_000, "padded_frame": 200, "work": 3_000_000}
"""Numbers at which faults are played, near what the networks here make."""


def faults_of(row: Known, limits: Limits) -> Any:
    module = pytest.importorskip(f"tilekit.backends._faults_{row.framework}")
    return getattr(module, f"{row.framework.title()}Faults")(limits)


def like_of(row: Known) -> Any:
    library = Library(row.framework)
    if library.missing:
        pytest.skip(library.missing)
    return library.array(np.zeros(1, np.float32))


def at(version: str) -> str:
    """A version that a row is about."""
    return version or "99.0"


def inside(row: Known) -> str:
    """A version within the range of a row."""
    if not row.before:
        return at(row.since)
    *lead, last = (int(part) for part in row.before.split("."))
    return row.since or ".".join(map(str, [*lead, last - 1]))


@pytest.mark.parametrize(("row", "kind"), ROWS)
def test_a_row_is_known_in_its_versions_alone(row: Known, kind: str) -> None:
    place = place_of(like_of(row))._replace(device=row.device, version=inside(row), libraries=())
    assert row in known_of(place)
    if row.before:
        assert row not in known_of(place._replace(version=row.before))
    assert row not in known_of(place._replace(device="cpu"))
    assert row.source
    assert row.date


@pytest.mark.parametrize(("row", "kind"), ROWS)
def test_a_row_is_found_by_the_canary_or_made_impossible(
    row: Known, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of both, and that it is so, is in the function of the kind of limit; there must be one."""
    monkeypatch.setattr(canary, "TRUSTED", set())
    PLAYED[kind](row, monkeypatch)


def limit(kind: str, number: float) -> Limits:
    return replace(Limits(), **{kind: number})  # type: ignore[arg-type]  # a name of a number


def played_size(row: Known, kind: str) -> None:
    """An unknown fault is found near the sizes of the plan; a known one is planned around."""
    like, number = like_of(row), SMALL[kind]
    fault = replace(limit(kind, number), unfolds=row.limits.unfolds)
    with pretended(limit(kind, 2 * number)), faults_of(row, fault):
        canary.check(like)
        with pytest.raises(DeviceError, match=r"gets an? (array of|convolution) .* wrong"):
            canary.check(like, canary.Sizes(work=1 << 40)._replace(**{kind: 2 * number - 1}))
    network, x = clip(row)
    wanted = Library(row.framework).numpy(network(x))
    with faults_of(row, fault) as faults:
        network(x)
    assert faults.played  # the plain call meets the fault
    with limited(fault, row.framework) as faults:
        got = Library(row.framework).numpy(tk.exact(network, memory_bytes=1 << 40)(x))
    assert not faults.played
    assert 0 < getattr(faults, kind) <= number
    assert np.allclose(got, wanted, atol=1e-4)
    with limited(limit(kind, 2), row.framework), pytest.raises((PlanError, DeviceError, tk.InputError)):
        tk.exact(network)(x)


def played_work(row: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver ends a plain call; a plan goes around, and says which operation is too long where none can."""
    (network, x), library = clip(row), Library(row.framework)
    wanted = library.numpy(network(x))
    with faults_of(row, limit("work", SMALL["work"])) as faults, pytest.raises(RuntimeError, match="GPU Timeout"):
        network(x)
    assert faults.played
    with limited(limit("work", SMALL["work"]), row.framework) as faults:
        got = library.numpy(tk.exact(network, memory_bytes=1 << 40)(x))
    assert not faults.played
    assert SMALL["work"] // 8 < faults.work <= SMALL["work"]
    assert np.allclose(got, wanted, atol=1e-4)
    text = r"operation \d+ \(Conv\) with \d+ multiply-adds, of which the device finishes 900 before"
    with pretended(limit("work", 900)), pytest.raises(PlanError, match=text):
        tk.exact(network).plan(x)


def clip(row: Known) -> tuple[Any, Any]:
    """Two convolutions over time and space of channels that do not divide by 16, and a clip."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((1, 3, 10, 24, 28)).astype(np.float32)
    first, second = (rng.standard_normal(s).astype(np.float32) / 9 for s in ((12, 3, 3, 3, 3), (6, 12, 3, 3, 3)))
    if row.framework == "torch":
        torch = pytest.importorskip("torch")
        w1, w2 = torch.from_numpy(first), torch.from_numpy(second)
        conv = torch.nn.functional.conv3d
        return lambda x: conv(conv(x, w1, padding=1), w2, padding=1), torch.from_numpy(values)
    mx = pytest.importorskip("mlx.core")
    m1, m2 = (mx.array(np.moveaxis(w, 1, -1)) for w in (first, second))
    return (
        lambda x: mx.conv3d(mx.conv3d(x, m1, padding=1), m2, padding=1),
        mx.array(np.ascontiguousarray(np.moveaxis(values, 1, -1))),
    )


def played_padding(row: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown fault is found by a small case; a known one is gone around by concatenation."""
    torch = pytest.importorskip("torch")
    from tilekit.backends.torch_pad import pad_constant

    with faults_of(row, limit("padded_frame", row.limits.padded_frame)):
        cases = canary.report(like_of(row))
    assert [case.name for case in cases if not case.holds] == ["the padding of time of frames of 65536 elements"]
    x = torch.ones(1, 2, 3, 20, 20)
    with limited(Limits(padded_frame=SMALL["padded_frame"]), "torch") as faults:
        assert torch.equal(pad_constant(x, (0, 0, 0, 0, 2, 0)), torch.cat([x[:, :, :2] * 0, x], 2))
    assert not faults.played


def played_frames(row: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """No convolution over three axes is asked for."""
    network, x = clip(row)
    wanted = Library(row.framework).numpy(network(x))
    asked: list[int] = []
    faults = faults_of(row, Limits())
    convolved = faults.convolved

    def heard(made: int, unfolded: int) -> bool:
        asked.append(unfolded)
        return bool(convolved(made, unfolded))

    monkeypatch.setattr(faults, "convolved", heard)
    with pretended(Limits(frames=True)):
        run = tk.exact(network)
        run(x)  # the canary asks for convolutions over three axes
        asked.clear()
        with faults:
            got = Library(row.framework).numpy(run(x))
    assert asked
    assert not any(asked)
    assert np.allclose(got, wanted, atol=1e-4)


def played_unfolding(row: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is unfolded is counted; see `test_metal_forecasts` for the bytes, `played_size` for the elements."""
    from tilekit._exact.kernels._convolve import matrix_cells
    from tilekit._exact.kernels._jobs import Job
    from tilekit._exact.ops import Conv

    one, three = (1, 1, 1), (3, 3, 3)
    op = Conv((1, 2, 3), 4, three, one, one, one, one, one, groups=1, channels=16)
    box, given = (((0, 1), (0, 2), (0, 2), (0, 2), (0, channels)) for channels in (8, 16))
    job = Job(op, (1, 2, 2, 2, 8), ((1, 2, 2, 2, 16),), box, (given,), "float32")
    assert matrix_cells(job, Limits(unfolds=True)) == 8 * 27 * 16
    assert matrix_cells(job, Limits()) == 0


def played_advice(row: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """No plan helps: a network that is loaded there warns, and says what to install."""
    like = like_of(row)
    place = place_of(like)._replace(device=row.device, version=inside(row), libraries=())
    monkeypatch.setattr("tilekit.backends.limits.place_of", lambda x: place)
    assert row.advice
    with pytest.warns(UserWarning, match="; install"):
        warn_of(like)


PLAYED: dict[str, Any] = {
    "elements": lambda row, patch: played_size(row, "elements"),
    "convolution": lambda row, patch: played_size(row, "convolution"),
    "unfolded": lambda row, patch: played_size(row, "unfolded"),
    "padded_frame": played_padding,
    "work": played_work,
    "unfolds": played_unfolding,
    "frames": played_frames,
    "advice": played_advice,
}


def test_every_kind_of_limit_is_played() -> None:
    assert set(PLAYED) == {field.name for field in fields(Limits)} | {"advice"}
