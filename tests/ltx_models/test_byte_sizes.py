"""Numbers of bytes: one parser and one printer, for every verb and for Python."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_models.byte_sizes import format_bytes, parse_bytes
from ltx_models.cli import main
from ltx_models.pipelines import read_memory


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("2GB", 2 * 10**9), ("2GiB", 2 * 2**30), ("500kB", 500_000), ("1.5 MiB", 1_572_864), ("7B", 7), ("2gib", 2**31)],
)
def test_units_without_an_i_are_powers_of_1000(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == read_memory(text) == n_bytes


@pytest.mark.parametrize("text", ["2G", "2", "", "GB", "0MB", "-1GB", "1e3B", "5iB", "2 G B", "nan GB", "0.1B"])
def test_what_could_mean_several_things_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^memory: expected a size such as 16GB or 500MiB, .* got "):
        read_memory(text)


@pytest.mark.parametrize(
    "command",
    [
        ["decode", "a", "-o", "b.mp4", "--memory"],
        ["reconstruct", "a", "--memory"],
        ["generate", "--prompt", "a", "--output", "b.mp4", "--memory"],
        ["convert", "a", "b", "--shard-size"],
    ],
    ids=lambda command: command[0],
)
def test_every_verb_refuses_them_with_the_same_text(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command, "2G"])
    assert f"{command[-1]}: expected a size such as 16GB or 500MiB, with one of the units B," in capsys.readouterr().err


@given(st.integers(0, 2**49))
def test_what_is_written_is_short_and_near(n_bytes: int) -> None:
    number, unit = format_bytes(n_bytes).split()
    assert len(number) <= 5
    assert float(number) < 1000
    assert n_bytes == pytest.approx(float(number) * 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit), rel=0.06)


@given(st.integers(1, 2**50))
def test_an_amount_that_is_rounded_up_suffices_when_it_is_typed_in(n_bytes: int) -> None:
    assert parse_bytes(format_bytes(n_bytes, up=True)) >= math.floor(n_bytes)
