"""The canary finds every fault that the test device plays."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilekit import SD_IMAGE, DeviceError, Tiling, decode_tiled, exact, stream_tiled
from tilekit.backends import canary
from tilekit.backends.limits import Limits, pretended
from tilekit.testing import Library, libraries, limited

torch: Any = pytest.importorskip("torch")


def faults_on(library: str) -> Any:
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[library])
    module = pytest.importorskip(f"tilekit.backends._faults_{library}")
    return getattr(module, f"{library.title()}Faults")


@pytest.mark.parametrize("library", [x for x in libraries() if x.name in {"torch", "mlx"}], ids=lambda x: x.name)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_good_device_is_not_accused(library: Any, dtype: str) -> None:
    if library.missing:
        pytest.skip(library.missing)
    cases = canary.report(
        library.array(np.zeros(1, np.float32), dtype), elements=50_000, convolution=50_000, unfolded=50_000
    )
    assert len(cases) == 9
    assert [case for case in cases if not case.holds] == []


def test_libraries_without_convolutions_are_not_asked() -> None:
    assert canary.report(np.zeros(1)) == ()


@pytest.mark.parametrize("library", ["torch", "mlx"])
@pytest.mark.parametrize(
    ("limits", "sizes", "name"),
    [
        (Limits(elements=100_000), {"elements": 120_000}, "an array of"),
        (Limits(convolution=40_000), {"convolution": 41_000}, "a convolution of"),
        (Limits(unfolded=120_000), {"unfolded": 130_000}, "a convolution whose unfolded input"),
        (Limits(padded_frame=2**16 - 1), {}, "the padding of time"),
        (Limits(elements=8), {}, "a convolution over 1 axis"),
    ],
    ids=["elements", "convolution", "unfolded", "padded_frame", "everything"],
)
def test_each_fault_is_found(library: str, limits: Limits, sizes: dict[str, int], name: str) -> None:
    if library == "mlx" and limits.padded_frame < 2**16:
        pytest.skip("no such fault of MLX is known, and none is played")
    played = faults_on(library)(limits)
    like = Library(library).array(np.zeros(1, np.float32))
    with played:  # a device of which nothing is known
        cases = canary.report(like, **sizes)
    assert any(case.name.startswith(name) and not case.holds for case in cases)
    assert all(case.holds for case in canary.report(like, **sizes))


def test_what_the_framework_raises_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(x: Any, w: Any) -> Any:
        msg = "no such kernel\nmore"
        raise RuntimeError(msg)

    monkeypatch.setattr("tilekit.backends._canary_torch.convolve", refuses)
    assert canary.report(torch.zeros(1))[0] == ("a convolution over 1 axis", float("inf"), "no such kernel")


def test_a_bad_device_is_refused_before_the_first_tile_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(canary, "TRUSTED", set())
    z = torch.randn(1, 4, 8, 8)
    with limited(Limits(convolution=1)), pytest.raises(DeviceError, match=r"torch .* on cpu gets a convolution over 1"):
        decode_tiled(calls.append, z, geometry=SD_IMAGE)
    assert not calls
    asked: list[Any] = []
    report = canary.report

    def counted(like: Any) -> Any:
        asked.append(like)
        return report(like)

    monkeypatch.setattr(canary, "report", counted)
    with limited(Limits(elements=1 << 20)):
        for _ in range(3):
            decode_tiled(lambda x: x.repeat_interleave(8, 2).repeat_interleave(8, 3), z[:, :1], geometry=SD_IMAGE)
    decode_tiled(lambda x: x.repeat_interleave(8, 2).repeat_interleave(8, 3), z, geometry=SD_IMAGE)
    assert len(asked) == 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_number_everywhere_is_refused_where_the_input_varies(value: float) -> None:
    z = torch.zeros(1, 4, 8, 24)
    z[..., 20] = 1.0

    def decode(x: Any) -> Any:
        return torch.full((1, 3, 8 * x.shape[2], 8 * x.shape[3]), value)

    tiling = Tiling(width=(64, 0))
    decode_tiled(decode, z, tiling, geometry=SD_IMAGE)  # a processor is trusted
    with limited(Limits(elements=50_000)):
        decode_tiled(decode, z[..., :20], tiling, geometry=SD_IMAGE)  # the input is one number too
        blocks = stream_tiled(decode, z, tiling, geometry=SD_IMAGE)
        with pytest.raises(DeviceError, match=r"tile \(0, 2\): decode returned one number everywhere"):
            list(blocks)


def test_codes_are_no_reason_to_accuse_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "TRUSTED", set())
    codes = torch.arange(64).reshape(1, 1, 8, 8)

    def decode(x: Any) -> Any:
        return x.float().repeat_interleave(8, 2).repeat_interleave(8, 3)

    with limited(Limits(elements=10_000)):
        assert torch.equal(decode_tiled(decode, codes, geometry=SD_IMAGE), decode(codes))
    with limited(Limits(convolution=1)), pytest.raises(DeviceError, match="gets a convolution over 1"):
        decode_tiled(decode, codes, geometry=SD_IMAGE)


class Asked:
    """What the canary ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        run = canary._run
        monkeypatch.setattr(canary, "TRUSTED", set())

        def counted(sought: Any, device: Any) -> Any:
            self.names.append(sought.name)
            return run(sought, device)

        monkeypatch.setattr(canary, "_run", counted)

    @property
    def large(self) -> list[str]:
        """Cases near the sizes of a plan."""
        words = ("an array of", "a convolution of", "a convolution whose")
        return [name for name in self.names if name.startswith(words)]

    @property
    def elements(self) -> int:
        """Of the cases near the sizes of a plan; small ones are a quarter of a million once."""
        return sum(int(word) for name in self.large for word in name.split() if word.isdigit())


@pytest.mark.parametrize("library", ["torch", "mlx"])
def test_cases_near_the_sizes_of_a_plan_are_asked_once(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    like = _like(library)
    asked = Asked(monkeypatch)
    limits, work = Limits(elements=100_000, convolution=50_000, unfolded=200_000), 1 << 30
    with limited(limits, library) as faults:
        canary.check(like, canary.Sizes(elements=100, work=work))
        assert asked.names
        assert not asked.large  # nothing comes near a limit
        canary.check(like, canary.Sizes(90_000, 30_000, 150_000, work))
        assert len(asked.large) == 3
        canary.check(like, canary.Sizes(80_000, 31_000, 140_000, work))  # of the same size as a power of two
        assert len(asked.large) == 3
        canary.check(like, canary.Sizes(30_000, work=work))
        assert len(asked.large) == 4
    assert not faults.played
    assert len([name for name in asked.names if name == "a convolution over 3 axes"]) == 1


def _like(library: str) -> Any:
    held = Library(library)
    if held.missing:
        pytest.skip(held.missing)
    return held.array(np.zeros(1, np.float32))


@pytest.mark.parametrize("library", ["torch", "mlx"])
@pytest.mark.parametrize("fault", ["elements", "convolution", "unfolded"])
def test_a_fault_below_the_known_limits_is_found_before_the_run(
    library: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is wrong about this device: it gets less right than is known."""
    monkeypatch.setattr(canary, "TRUSTED", set())
    like = _like(library)
    known, true = (replace(Limits(), **{fault: number}) for number in (100_000, 50_000))  # type: ignore[arg-type]
    sizes = canary.Sizes(work=1 << 30)._replace(**{fault: 90_000})
    with pretended(known), faults_on(library)(true):
        canary.check(like)  # small cases show nothing
        with pytest.raises(DeviceError, match=r"gets an? (array of|convolution) .*wrong"):
            canary.check(like, sizes)


def test_cases_take_less_than_a_hundredth_of_the_work_or_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    like, asked = torch.zeros(1), Asked(monkeypatch)
    with limited(Limits(elements=100_000)):
        canary.check(like, canary.Sizes(90_000, work=29_000_000))
        assert not asked.large
        canary.check(like, canary.Sizes(90_000, work=31_000_000))
        assert len(asked.large) == 1
    assert asked.elements * canary.COST["elements"] <= 31_000_000 / 100


def exact_run(x: Any) -> None:
    torch.manual_seed(0)
    conv = torch.nn.functional.conv2d
    weights = torch.randn(64, 4, 5, 5), torch.randn(64, 64, 5, 5)
    exact(lambda x: conv(conv(x, weights[0], padding=2), weights[1], padding=2), memory_bytes=1 << 40)(x)


def blended_run(x: Any) -> None:
    decode_tiled(enlarge, x, Tiling(width=(256, 0)), geometry=SD_IMAGE)


def enlarge(x: Any) -> Any:
    return x[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)


@pytest.mark.parametrize("begin", [exact_run, blended_run])
def test_runs_ask_near_their_sizes_on_a_device_with_limits_alone(begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, asked = torch.randn(1, 4, 48, 64), Asked(monkeypatch)
    with torch.no_grad():
        begin(x)
        assert not asked.names  # a processor: no case, small or large
        with pretended(Limits(elements=700_000)):
            begin(x)
            assert asked.large
            before = list(asked.names)
            begin(x)
    assert asked.names == before
    if begin is exact_run:
        work = 48 * 64 * 25 * 64 * (4 + 64)
        assert asked.elements * 3 < work / 100
