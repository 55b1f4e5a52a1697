"""Many clips to latents: each a task, restartable, with errors told at the end."""

import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, sampled_from, tuples

pytest.importorskip("av", reason="needs the extra 'video'")
pytest.importorskip("PIL", reason="needs the extra 'video'")
pytest.importorskip("torch", reason="needs the extra 'torch'")

import ltx_models
from ltx_models.cli import main
from ltx_models.clips import Bucket, ClipsError, encode_clips, find_clips, fit_clip, task
from ltx_models.clips.buckets import choose, filled
from ltx_models.media import DiskError, MediaError, read_latents, write_video
from tilekit import BackendError, Tiling

BUCKET = "64x32x9"


def clip(path: Path, *, frames: int = 9, height: int = 32, width: int = 64, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    write_video(path, rng.uniform(-1, 1, (1, 3, frames, height, width)).astype(np.float32), fps=25)
    return path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder of three clips, one of them in a folder of its own."""
    for number, name in enumerate(("a.mp4", "b.mp4", "inner/a.mp4")):
        clip(tmp_path / "clips" / name, seed=number)
    return tmp_path / "clips"


def states(results: Any) -> list[str]:
    return [result.state for result in results]


def test_every_clip_of_a_folder_has_its_latents_where_it_lies(clips: Path, tmp_path: Path) -> None:
    results = encode_clips([clips], tmp_path / "out")
    assert states(results) == ["made"] * 3
    for name in ("a", "b", "inner/a"):
        saved = read_latents(tmp_path / "out" / f"{name}.safetensors")
        encoder: Any = ltx_models.load_video_encoder(ltx_models.default_checkpoint(), dtype="float32")
        want = ltx_models.encode_exact(encoder, encoder.nn.asarray(fit_clip(clips / f"{name}.mp4").video))
        assert np.array_equal(saved.latents, want.numpy())
        assert saved.source == str((clips / f"{name}.mp4").resolve())
    assert states(encode_clips([clips], tmp_path / "out")) == ["kept"] * 3


def test_what_was_made_of_something_else_is_made_again(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    encode_clips([clips], out)
    shutil.copy(clips / "b.mp4", clips / "a.mp4")  # another file of the same name
    assert states(encode_clips([clips], out)) == ["made", "kept", "kept"]
    (out / "b.safetensors").unlink()
    assert states(encode_clips([clips], out)) == ["kept", "made", "kept"]
    (out / "b.safetensors").write_bytes((out / "b.safetensors").read_bytes()[:-1])
    assert states(encode_clips([clips], out)) == ["kept", "made", "kept"]
    assert states(encode_clips([clips], out, buckets=["32x32x9"])) == ["made"] * 3
    assert states(encode_clips([clips], out, buckets=["32x32x9"], dtype="bfloat16")) == ["made"] * 3
    assert states(encode_clips([clips], out, frames=1, tiling=Tiling(height=(32, 0)))) == ["made"] * 3
    checkpoint = tmp_path / "moved.safetensors"
    shutil.copy(ltx_models.default_checkpoint(), checkpoint)
    same: Any = {"frames": 1, "tiling": Tiling(height=(32, 0)), "checkpoint": checkpoint}
    assert states(encode_clips([clips], out, **same)) == ["kept"] * 3  # the same network in another file
    data = bytearray(checkpoint.read_bytes())
    data[-1] ^= 1
    checkpoint.write_bytes(data)
    made = encode_clips([clips], out, **same)
    with ltx_models.checkpoints.open_checkpoint(checkpoint, "numpy") as opened:
        last = max(opened.files, key=lambda key: opened.files[key].start)
    assert states(made) == ["made" if "encoder" in last or "statistics" in last else "kept"] * 3


def test_clips_that_cannot_be_read_are_told_at_the_end_and_the_others_are_encoded(clips: Path, tmp_path: Path) -> None:
    (clips / "b.mp4").write_bytes(b"no video")
    clip(clips / "inner" / "small.mp4", height=16)
    with pytest.raises(
        ClipsError, match=r"2 of 4 clips could not be encoded, the others are: .*b\.mp4.*small\.mp4: 64x16"
    ) as e:
        encode_clips([clips], tmp_path / "out")
    assert states(e.value.results) == ["made", "failed", "made", "failed"]
    assert (tmp_path / "out" / "inner" / "a.safetensors").exists()
    clip(clips / "b.mp4")
    (clips / "inner" / "small.mp4").unlink()
    assert states(encode_clips([clips], tmp_path / "out")) == ["kept", "made", "kept"]


def test_what_cannot_be_done_is_refused_before_any_clip(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "fit_clip", lambda *_, **__: pytest.fail("a clip was read"))
    out = tmp_path / "out"
    with pytest.raises(MediaError, match=r"inner/a\.mp4 and .*a\.mp4: their results would both be a; encode them sep"):
        encode_clips([clips / "a.mp4", clips / "inner" / "a.mp4"], out)
    with pytest.raises(MediaError, match=r"nowhere: there is no such file or folder"):
        encode_clips([clips, tmp_path / "nowhere"], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match=r"empty: there are no clips in this folder; it was searched for .avi, "):
        encode_clips([tmp_path / "empty"], out)
    with pytest.raises(MediaError, match="there are no clips to encode"):
        encode_clips([], out)
    with pytest.raises(ValueError, match="bucket 65x32x9: width and height must be multiples of 32 pixels"):
        encode_clips([clips], out, buckets=["65x32x9"])
    with pytest.raises(ValueError, match=r"bucket 64x32x10: frames must be 1 \+ 8k, nearest 9 or 17"):
        encode_clips([clips], out, buckets=["64x32x10"])
    with pytest.raises(ValueError, match="expected WIDTHxHEIGHTxFRAMES, such as 768x512x49, got '64x32'"):
        encode_clips([clips], out, buckets=["64x32"])
    with pytest.raises(BackendError, match=r"executor: got a int, expected an object with submit"):
        encode_clips([clips], out, executor=3)
    with pytest.raises(ltx_models.CheckpointError):
        encode_clips([clips], out, checkpoint=tmp_path / "no.safetensors")


def test_threads_with_an_encoder_each_give_the_same(clips: Path, tmp_path: Path) -> None:
    encode_clips([clips], tmp_path / "here", buckets=[BUCKET])
    with ThreadPoolExecutor(2) as threads:
        results = encode_clips([clips], tmp_path / "t", buckets=[BUCKET], executor=threads, devices=("cpu", "cpu"))
    assert states(results) == ["made"] * 3
    for name in ("a", "b", "inner/a"):
        want, *others = (read_latents(tmp_path / d / f"{name}.safetensors").latents for d in ("here", "t"))
        assert all(np.array_equal(other, want) for other in others)


class Lossy:
    """An executor that loses the worker of the second task, as Dask says of one that kills its workers."""

    def __init__(self, error: BaseException) -> None:
        self.count, self.error = 0, error

    def submit(self, function: Any, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.count += 1
        if self.count == 2:
            future.set_exception(self.error)
        else:
            future.set_result(function(*args))
        return future


def test_a_worker_that_is_lost_fails_its_clip_and_a_full_disk_ends_the_work(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipsError, match=r"1 of 3 .*b\.mp4: RuntimeError: the worker died"):
        encode_clips([clips], tmp_path / "out", executor=Lossy(RuntimeError("the worker died")))
    assert states(encode_clips([clips], tmp_path / "out")) == ["kept", "made", "kept"]
    with pytest.raises(DiskError, match="full") as caught:
        encode_clips([clips], tmp_path / "new", executor=Lossy(DiskError("full")))
    assert "run again, and it goes on from there" in caught.value.__notes__[0]


def test_a_killed_clip_leaves_no_mark(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result whose mark was not written yet is made again."""
    encode_clips([clips], tmp_path / "out")
    before = read_latents(tmp_path / "out" / "a.safetensors").latents
    (tmp_path / "out" / ".made-of" / "a.json").unlink()
    assert states(encode_clips([clips], tmp_path / "out")) == ["made", "kept", "kept"]
    assert np.array_equal(read_latents(tmp_path / "out" / "a.safetensors").latents, before)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    shutil.copy(clips / "b.mp4", clips / "a.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(task, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            encode_clips([clips], tmp_path / "out")
    assert not (tmp_path / "out" / ".made-of" / "a.json").exists()
    assert states(encode_clips([clips], tmp_path / "out")) == ["made", "kept", "kept"]


SIDES = integers(1, 8).map(lambda n: 32 * n)
BUCKETS = lists(tuples(SIDES, SIDES, integers(0, 3).map(lambda n: 1 + 8 * n)).map(lambda b: Bucket(*b)), min_size=1)


@given(buckets=BUCKETS, height=integers(20, 300), width=integers(20, 300), frames=integers(1, 40))
def test_the_bucket_is_one_that_is_not_longer_and_of_the_nearest_aspect(
    buckets: list[Bucket], height: int, width: int, frames: int
) -> None:
    fitting = [b for b in buckets if b.frames <= frames]
    if not fitting:
        with pytest.raises(MediaError, match=f"has {frames} frames, the shortest bucket wants"):
            choose(buckets, height, width, frames)
        return
    chosen = choose(buckets, height, width, frames)

    def away(bucket: Bucket) -> float:
        return abs(float(np.log(bucket.width / bucket.height) - np.log(width / height)))

    assert chosen in fitting
    nearest = [b for b in fitting if away(b) <= min(map(away, fitting)) + 1e-9]
    assert chosen in nearest
    assert chosen.frames == max(b.frames for b in nearest)


@given(
    bucket=BUCKETS.map(lambda b: b[0]), size=tuples(integers(20, 200), integers(20, 200)), aspect=sampled_from([1, 2])
)
def test_a_frame_covers_its_bucket_and_is_cut_in_the_middle(bucket: Bucket, size: tuple[int, int], aspect: int) -> None:
    height, width = size
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = np.linspace(0, 255, width).astype(np.uint8)[None]
    frame[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    out = filled(frame, bucket, (height, width * aspect)).astype(int)
    assert out.shape == (bucket.height, bucket.width, 3)
    assert out[..., :2].mean(axis=(0, 1)) == pytest.approx([127.5] * 2, abs=12)
    side = int(width * aspect * bucket.height > bucket.width * height)  # that which is not cut: 0 for the width
    ends = out[:, [0, -1], 0].mean(axis=0) if side == 0 else out[[0, -1], :, 1].mean(axis=1)
    assert ends[0] < 30
    assert ends[1] > 225


def test_clips_are_brought_to_their_buckets(tmp_path: Path) -> None:
    clip(tmp_path / "c" / "tall.mp4", height=120, width=70, frames=20)
    clip(tmp_path / "c" / "wide.mp4", height=70, width=150, frames=9)
    encode_clips([tmp_path / "c"], tmp_path / "out", buckets=["64x32x9", "32x64x9", "32x64x17", "64x32x17"])
    shapes = [read_latents(tmp_path / "out" / f"{name}.safetensors").latents.shape for name in ("tall", "wide")]
    assert shapes == [(1, 128, 3, 2, 1), (1, 128, 2, 1, 2)]


def test_files_and_folders_are_found_in_order(clips: Path) -> None:
    (clips / "notes.txt").touch()
    found = find_clips([clips / "b.mp4", clips / "inner"])
    assert [str(source.name) for source in found] == ["b", "a"]


# ---- the command line --------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_verb_encodes_folders_and_goes_on(capsys: pytest.CaptureFixture[str], clips: Path, tmp_path: Path) -> None:
    arguments = ("encode", clips, "--to", tmp_path / "out", "--tiling", "64/32,16/8")
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert f"{clips / 'a.mp4'}: latents (1, 128, 2, 1, 2)" in out
    assert f"{tmp_path / 'out'}: 3 clips encoded, 0 were there, 0 failed" in out
    (clips / "b.mp4").write_bytes(b"no video")
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 2
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["state"] for row in rows] == ["kept", "failed", "kept"]
    assert "1 of 3 clips could not be encoded" in err
    assert "b.mp4" in err
    (clips / "b.mp4").unlink()
    code, out, err = run(capsys, *arguments[:3], tmp_path / "p", *arguments[4:], "--workers", 2, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["made"] == 2
    for name in ("a", "inner/a"):
        one, other = (read_latents(tmp_path / folder / f"{name}.safetensors").latents for folder in ("out", "p"))
        assert np.array_equal(one, other)
    code, out, err = run(capsys, "encode", clips, "--to", tmp_path / "two", "--device", "cpu,cpu", "--buckets", BUCKET)
    assert (code, err) == (0, "")
    assert "2 clips encoded" in out


def test_the_verb_refuses_what_does_not_go_together(
    capsys: pytest.CaptureFixture[str], clips: Path, tmp_path: Path
) -> None:
    for arguments, text in {
        (clips / "a.mp4", clips / "b.mp4"): "2 clips: wants --to FOLDER",
        (clips / "a.mp4", "--workers", 2): "--workers: wants --to FOLDER",
        (clips, "--to", tmp_path / "o", "-o", "x.safetensors"): "--output: got x.safetensors, but with --to results",
        ("--to", tmp_path / "o"): "clips: with --to name files or folders of clips",
        (clips, "--to", tmp_path / "o", "--device", "cpu,"): "--device: got 'cpu,', expected a device, or several",
        (clips, "--to", tmp_path / "o", "--workers", 2, "--dask", "tcp://x:1"): "not allowed with argument",
        (clips, "--to", tmp_path / "o", "--buckets", "9x9x9"): "bucket 9x9x9: width and height must be multiples",
    }.items():
        code, _, err = run(capsys, "encode", *arguments)
        assert code == 2
        assert text in err
    assert not (tmp_path / "o").exists()
