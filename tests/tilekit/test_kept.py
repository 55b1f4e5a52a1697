"""Streams that begin at any block, and blocks on disk with which a killed run goes on."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis.strategies import booleans, integers
from tests.tilekit.test_run import SMALL, numbers, tilings

import tilekit as tk
from tilekit.testing import Library, enlarge

KEY = {"plan": "p", "input": "i"}


def decoder(z: Any) -> Any:
    """A decoder whose tiles disagree, so that every tile that is left out shows."""
    return enlarge(z[:, :2, ...], SMALL) * float(z.shape[3]) + float(z.shape[2])


@given(tiling=tilings(), size=integers(1, 3), half=booleans())
def test_a_stream_that_begins_at_a_block_is_the_rest_of_the_whole_stream(
    xp: Library, tiling: tk.Tiling, size: int, half: bool
) -> None:
    half = half and xp.name != "array_api_strict"  # the standard has no half precision
    z = xp.array(numbers(1, 3, 6, 5, 4).astype(np.float16 if half else np.float32))
    options: dict[str, Any] = {"geometry": SMALL, "tile_batch_size": size}
    plan = tk.plan(z.shape, tiling, geometry=SMALL)
    assume(plan.n_tiles <= 40)
    calls = 0

    def counted(tile: Any) -> Any:
        nonlocal calls
        calls += 1
        return xp.wrap(decoder)(tile)

    whole = [(start, xp.numpy(block)) for start, block in tk.stream_tiled(counted, z, tiling, **options)]
    in_all = calls
    for number, border in enumerate([start for start, _ in whole] + [plan.out_sizes[0]]):
        calls = 0
        rest = list(tk.stream_tiled(counted, z, tiling, **options, start=border))
        assert [start for start, _ in rest] == [start for start, _ in whole[number:]]
        for (_, got), (_, want) in zip(rest, whole[number:], strict=True):
            assert np.array_equal(xp.numpy(got), want)
        assert calls <= in_all
        assert number < len(whole) or calls == 0


def test_with_overlaps_of_at_most_half_a_tile_one_slab_is_computed_again() -> None:
    tiling, slabs = tk.Tiling(frames=(16, 8)), []
    z = numbers(1, 3, 13, 5, 4)
    starts = [start for start, _ in tk.stream_tiled(decoder, z, tiling, geometry=SMALL)]
    for start in starts:
        calls: list[int] = []
        list(tk.stream_tiled(lambda t, c=calls: (c.append(1), decoder(t))[1], z, tiling, geometry=SMALL, start=start))  # type: ignore[misc]
        slabs.append(len(calls))
    assert slabs == [len(starts), *range(len(starts), 1, -1)]


@pytest.mark.parametrize("start", [-1, 3, 22, 1.0, True, "0"])
def test_a_start_where_no_block_begins_is_refused_before_any_call(start: Any) -> None:
    z, tiling = numbers(1, 3, 6, 5, 4), tk.Tiling(frames=(8, 0))
    with pytest.raises(tk.PlanError, match=r"where no block of this plan begins along frames; nearest .*, and 21 is"):
        tk.stream_tiled(lambda _: pytest.fail("called"), z, tiling, geometry=SMALL, start=start)


def test_kept_blocks_come_back_as_they_were(xp: Library, tmp_path: Path) -> None:
    z, tiling = xp.array(numbers(1, 3, 6, 5, 4)), tk.Tiling(frames=(8, 4), height=(4, 2))

    def stream(start: int) -> Any:
        return tk.stream_tiled(xp.wrap(decoder), z, tiling, geometry=SMALL, start=start)

    whole = [(start, xp.numpy(block)) for start, block in stream(0)]
    for stopped in range(len(whole) + 1):
        folder = tmp_path / f"{xp.name} {xp.read_only} {stopped}"
        for (start, block), _ in zip(tk.Kept(folder, KEY).resume(stream), range(stopped), strict=False):
            assert block.shape == whole[[s for s, _ in whole].index(start)][1].shape
        got = list(tk.Kept(folder, KEY).resume(stream))
        assert [start for start, _ in got] == [start for start, _ in whole]
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(got, whole, strict=True))
    assert not list(tmp_path.rglob("*.part"))


def test_bfloat16_is_kept_in_float32(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    block = torch.arange(24, dtype=torch.bfloat16).reshape(1, 2, 3, 4) / 3
    kept = tk.Kept(tmp_path, KEY)
    assert kept.put(0, block).dtype == np.float32
    ((_, back),) = tk.Kept(tmp_path, KEY).blocks()
    assert torch.equal(torch.from_numpy(back).to(torch.bfloat16), block)
    assert kept.n_bytes > 24 * 4


def test_a_folder_of_another_run_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    tk.Kept(tmp_path / "a", KEY | {"dtype": "float32"}).put(0, np.zeros((1, 1, 3)))
    with pytest.raises(tk.InputError, match="holds blocks of another run: dtype is 'float16', was 'float32'; give"):
        tk.Kept(tmp_path / "a", KEY | {"dtype": "float16"})
    with pytest.raises(tk.InputError, match="input is None, was 'i'"):
        tk.Kept(tmp_path / "a", {"plan": "p", "dtype": "float32"})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "holiday.png").touch()
    with pytest.raises(tk.InputError, match=r"holds 'holiday.png', which is no block of a run; give a folder of its"):
        tk.Kept(tmp_path / "b", KEY)
    (tmp_path / "c").touch()
    with pytest.raises(tk.DiskError, match="cannot keep blocks in"):
        tk.Kept(tmp_path / "c", KEY)


def three_blocks(folder: Path) -> list[Path]:
    kept = tk.Kept(folder, KEY)
    for number in range(3):
        kept.put(4 * number, numbers(1, 2, 4, 3))
    return sorted(folder.glob("*.npy"))


def test_torn_blocks_are_refused(tmp_path: Path) -> None:
    _, middle, _ = three_blocks(tmp_path / "cut")
    middle.write_bytes(middle.read_bytes()[:-3])
    with pytest.raises(tk.InputError, match=r"0004-000000000008-.*npy: .*; remove this block and those after it"):
        tk.Kept(tmp_path / "cut", KEY)
    _, middle, _ = three_blocks(tmp_path / "flipped")
    data = bytearray(middle.read_bytes())
    data[-1] ^= 1
    middle.write_bytes(data)
    kept = tk.Kept(tmp_path / "flipped", KEY).blocks()
    next(kept)
    with pytest.raises(tk.InputError, match="its numbers are not those that were written"):
        next(kept)
    _, middle, _ = three_blocks(tmp_path / "gap")
    middle.unlink()
    with pytest.raises(tk.InputError, match="the blocks before it end at 4"):
        tk.Kept(tmp_path / "gap", KEY)
    three_blocks(tmp_path / "keyless")
    (tmp_path / "keyless" / "key.json").unlink()
    with pytest.raises(tk.InputError, match="nobody knows whose the blocks are"):
        tk.Kept(tmp_path / "keyless", KEY)
    (tmp_path / "keyless" / "key.json").write_text("[1]")
    with pytest.raises(tk.InputError, match="it is not what was written"):
        tk.Kept(tmp_path / "keyless", KEY)
    with pytest.raises(tk.InputError, match="got a block from 4 on, the kept ones end at 12; blocks come in order"):
        tk.Kept(three_blocks(tmp_path / "order")[0].parent, KEY).put(4, numbers(1, 2, 4, 3))


def test_a_full_disk_is_said_and_nothing_half_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tk.Kept(tmp_path, KEY)
    kept.put(0, numbers(1, 2, 4, 3))
    before = sorted(path.name for path in tmp_path.iterdir())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(tk.DiskError, match=r"No space left on device \(\d+ bytes are free\).*free some space"):
            kept.put(4, numbers(1, 2, 4, 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert kept.start == 4
    kept.put(4, numbers(1, 2, 4, 3))
    assert tk.Kept(tmp_path, KEY).start == 8


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    from tilekit._run.leftovers import machine

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    leftover = tmp_path / f".{dead.pid}-{machine()}-abcdef.part"
    elsewhere = tmp_path / f".{dead.pid}-00000000-abcdef.part"
    mine = tmp_path / f".{os.getpid()}-{machine()}-abcdef.part"
    for path in (leftover, elsewhere, mine):
        path.touch()
    tk.Kept(tmp_path, KEY)
    assert not leftover.exists()
    assert elsewhere.exists()
    assert mine.exists()


LONG, SLABS = (1, 3, 200, 5, 4), tk.Tiling(frames=(16, 8), height=(6, 2))


def drive(folder: Path, log: Path, result: Path) -> None:
    """Decode as a program would that may be killed; tell every call."""

    def decode(z: Any) -> Any:
        with log.open("a") as file:
            file.write("call\n")
        time.sleep(0.002)
        return decoder(z)

    def stream(start: int) -> Any:
        return tk.stream_tiled(decode, numbers(*LONG), SLABS, geometry=SMALL, start=start)

    digest = sha256()
    for _, block in tk.Kept(folder, {"input": "numbers"}).resume(stream):
        digest.update(block.tobytes())
    result.write_text(digest.hexdigest())


def calls(log: Path) -> int:
    return len(log.read_text().split()) if log.exists() else 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of this kind are of POSIX")
def test_a_driver_that_is_killed_twenty_times_gives_the_same_and_does_one_slab_again_each_time(tmp_path: Path) -> None:
    context = get_context("forkserver")  # so that a run is its work and not its imports
    context.set_forkserver_preload(["numpy", "tilekit", "tests.tilekit.test_kept"])
    plan, source, kills = tk.plan(LONG, SLABS, geometry=SMALL), random.Random(5), 0
    whole, killed = ((tmp_path / n, tmp_path / f"{n}.log", tmp_path / f"{n}.digest") for n in ("whole", "killed"))
    process = context.Process(target=drive, args=whole)
    process.start()
    process.join(120)
    assert calls(whole[1]) == plan.n_tiles
    while not killed[2].exists():
        wanted = calls(killed[1]) + source.randint(1, 12)
        process = context.Process(target=drive, args=killed)
        process.start()
        while kills < 20 and process.is_alive() and calls(killed[1]) < wanted:
            time.sleep(0.001)
        if kills < 20:
            time.sleep(source.uniform(0, 0.005))
            process.kill()
        process.join(120)
        assert process.exitcode in {0, -signal.SIGKILL}
        kills += process.exitcode != 0
    assert kills == 20
    assert killed[2].read_text() == whole[2].read_text()
    slab = plan.n_tiles // plan.slabs
    # again each time: the slab under way, and the one before it, with which it is blended
    assert plan.n_tiles < calls(killed[1]) <= plan.n_tiles + kills * 2 * slab
    assert not list(killed[0].glob(".*.part"))
