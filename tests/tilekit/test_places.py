"""Arrays that wait on disk: full disks, killed processes, other machines."""

import os
import platform
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import numpy as np
import pytest
from tests.tilekit.test_tasks import make

import tilekit as tk
from tilekit._run import places as _places
from tilekit._run.leftovers import machine
from tilekit._run.places import Places
from tilekit.norms import TaskQueue
from tilekit.testing import Library

DTYPES = ["float32", "float16", "bfloat16"]
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, a device that takes nothing")
needs_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of this kind are of POSIX")


def full(name: str) -> "tempfile.TemporaryDirectory[str]":
    """Give a folder whose files take nothing, as on a full disk."""
    folder = tempfile.TemporaryDirectory(prefix=name)
    for i in range(200):
        Path(folder.name, f"{i}.npy").symlink_to(FULL)
    return folder


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_takes_what_the_array_takes(xp: Library, dtype: str) -> None:
    if dtype != "float32" and xp.name not in {"torch", "mlx"}:
        pytest.skip(f"{xp.name} does not take both half precisions")
    x = xp.array(np.ones((4, 6), np.float32), dtype)
    with Places() as places:
        away = places.away(x, "disk")
        assert away._path.stat().st_size == 24 * (4 if dtype == "float32" else 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cut", [False, True])
def test_arrays_come_back_from_disk_as_they_were(xp: Library, cut: bool, dtype: str) -> None:
    if dtype != "float32" and xp.name not in {"torch", "mlx"}:
        pytest.skip(f"{xp.name} does not take both half precisions")
    x = xp.array(np.random.default_rng(0).standard_normal((3, 40, 50)).astype(np.float32), dtype)
    x = x[:, 3:-3, ::2] if cut else x
    with Places() as places:
        kept = places.away(x, "disk")
        back = places.back(kept)
    assert back.dtype == x.dtype
    assert type(back) is type(x)
    np.testing.assert_array_equal(xp.numpy(back), xp.numpy(x))


@pytest.mark.parametrize("shape", [(0, 4), ()])
def test_arrays_without_cells_or_axes_come_back_too(shape: tuple[int, ...]) -> None:
    with Places() as places:
        back = places.back(places.away(np.ones(shape, np.float64), "disk"))
    np.testing.assert_array_equal(back, np.ones(shape))
    assert back.dtype == np.float64


def test_large_arrays_whose_cells_lie_apart_are_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_places, "NUMBERS_AT_ONCE", 100)
    x = np.arange(60 * 70.0).reshape(60, 70).T
    with Places() as places:
        np.testing.assert_array_equal(places.back(places.away(x, "disk")), x)


@needs_full
def test_a_full_disk_is_said_with_the_folder_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(_places, "folder_of_this_process", full)
    net, x = make(Library("numpy"), "decoder", 3, (10, 8))
    text = rf"cannot put \d+ bytes of a tile into {tmp_path}/\w+: No space left on device \(\d+ bytes are free.*TMPDIR"
    with pytest.raises(tk.DiskError, match=text) as caught:
        TaskQueue(net.tasks).run(x, tile=20, offload="disk")
    assert isinstance(caught.value, OSError)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with Places() as places, pytest.raises(tk.DiskError, match=r"cannot make a folder for tiles: .*nowhere.*TMPDIR"):
        places.away(np.ones(3), "disk")


KILLED = """
import os, signal, numpy as np
from tilekit._run.places import Places
places = Places()
kept = places.away(np.ones(1000), "disk")
os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_kill
def test_what_a_killed_process_left_goes_and_what_others_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert len(list(left.iterdir())) == 1
    dead = left.name.split("-")[1]
    others = [f"tilekit-{dead}-00000000-abc", f"tilekit-{os.getppid()}-{machine()}-abc", "tilekit-abc", f"other-{dead}"]
    for name in others:  # of another machine, of a process that lives, of other programs
        (tmp_path / name).mkdir()
    (tmp_path / f"tilekit-{dead}-{machine()}-link").symlink_to(tmp_path / others[0])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Places() as places:
        kept = places.away(np.ones(3), "disk")
        assert not left.exists()
        with Places() as second:
            also = second.away(np.ones(3), "disk")
            np.testing.assert_array_equal(places.back(kept), second.back(also))
    assert sorted(p.name for p in tmp_path.iterdir() if not p.is_symlink()) == sorted(others)


@pytest.mark.parametrize("boot", ["of its own", None])
def test_two_machines_of_one_name_do_not_take_each_other_s_files_for_leftovers(
    boot: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine()
    monkeypatch.setattr(platform, "node", lambda: "worker")
    names = []
    for number in (1, 2):

        def read_bytes(path: Path, number: int = number) -> bytes:
            if boot is None:
                raise FileNotFoundError(path)
            return f"{boot} {number}".encode()

        monkeypatch.setattr(Path, "read_bytes", read_bytes)
        monkeypatch.setattr(uuid, "getnode", lambda number=number: number)
        names.append(machine.__wrapped__())
    assert len({here, *names}) == 3
    assert names[1] == machine.__wrapped__()
