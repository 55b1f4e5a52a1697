"""Many clips to latents: each a task, restartable, with errors told at the end."""

import importlib.util
import json
import logging
import os
import shutil
import sys
import types
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

from tests.ltx_models.command_line import run

import ltx_models
from ltx_models.clips import Bucket, ClipsError, encode_clips, find_clips, fit_clip, task
from ltx_models.clips.buckets import choose, filled
from ltx_models.clips.sound import stereo
from ltx_models.defaults import toy_checkpoint
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
        patch.setattr(task, "write_clip", stopped)
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


def test_sound_is_as_long_as_the_frames_and_comes_from_the_audio_encoder(tmp_path: Path) -> None:
    video = np.zeros((1, 3, 9, 32, 64), np.float32)
    tone = 0.3 * np.sin(np.arange(24000, dtype=np.float32) / 9)[None, None]
    (tmp_path / "c").mkdir()
    for name, seconds in {"long": 1.0, "short": 0.2}.items():
        write_video(tmp_path / "c" / f"{name}.mp4", video, fps=25, audio=(tone[:, :, : int(24000 * seconds)], 24000))
    clip(tmp_path / "c" / "silent.mp4")
    toy = toy_checkpoint()
    assert states(encode_clips([tmp_path / "c"], tmp_path / "out", checkpoint=toy, sound=True)) == ["made"] * 3
    saved = {n: read_latents(tmp_path / "out" / f"{n}.safetensors") for n in ("long", "short", "silent")}
    assert saved["silent"].audio is None
    assert saved["long"].audio is not None
    assert saved["short"].audio is not None
    assert saved["long"].audio.shape == saved["short"].audio.shape
    assert saved["long"].audio_space is not None
    again = encode_clips([tmp_path / "c"], tmp_path / "out", checkpoint=toy, sound=True)
    assert states(again) == ["kept"] * 3
    with pytest.raises(ValueError, match="no audio autoencoder"):  # the small checkpoint has none
        encode_clips([tmp_path / "c"], tmp_path / "new", sound=True)


@pytest.mark.parametrize(("channels", "total"), [(1, 1.0), (2, 1.0), (6, 1.0), (8, 1.0)])
def test_channels_are_mixed_with_weights_that_sum_to_one(channels: int, total: float) -> None:
    mixed = stereo(np.full((1, channels, 5), 0.5, np.float32), "clip")
    assert mixed.shape == (1, 2, 5)
    assert mixed == pytest.approx(0.5 * total, abs=1e-6)
    alone = np.zeros((1, channels, 1), np.float32)
    alone[:, 0] = 1
    left, right = stereo(alone, "clip")[0, :, 0]
    assert left > (0 if channels > 1 else right - 1)
    assert right == (left if channels == 1 else 0)
    with pytest.raises(MediaError, match="has 5 channels of sound, expected 1, 2, 6"):
        stereo(np.zeros((1, 5, 1), np.float32), "clip")


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_the_folders_of_the_trainer_have_its_fields(tmp_path: Path, backend: Any) -> None:
    import torch

    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[backend])
    tone = np.zeros((1, 2, 24000), np.float32)
    video = np.random.default_rng(0).uniform(-1, 1, (1, 3, 9, 32, 64)).astype(np.float32)
    (tmp_path / "c" / "inner").mkdir(parents=True)
    write_video(tmp_path / "c" / "inner" / "a.mp4", video, fps=25, audio=(tone, 24000))
    both: Any = {"checkpoint": toy_checkpoint(), "sound": True, "backend": backend}
    encode_clips([tmp_path / "c"], tmp_path / "out", layout="trainer", **both)
    encode_clips([tmp_path / "c"], tmp_path / "plain", **both)
    plain = read_latents(tmp_path / "plain" / "inner" / "a.safetensors")
    root = tmp_path / "out" / ".precomputed"
    pictures = torch.load(root / "latents" / "inner" / "a.pt", weights_only=True)
    assert np.array_equal(pictures.pop("latents").numpy(), plain.latents[0])
    assert pictures == {"num_frames": 2, "height": 1, "width": 2, "fps": 25.0}
    heard = torch.load(root / "audio_latents" / "inner" / "a.pt", weights_only=True)
    latents = heard.pop("latents").numpy()
    assert plain.audio is not None
    assert np.array_equal(latents, plain.audio[0])
    sizes = {"num_time_steps": latents.shape[1], "frequency_bins": latents.shape[2]}
    assert heard == {**sizes, "duration": pytest.approx(9 / 25, abs=1e-3)}
    assert states(encode_clips([tmp_path / "c"], tmp_path / "out", layout="trainer", **both)) == ["kept"]
    with pytest.raises(ValueError, match="layout: got 'new', allowed are plain, trainer"):
        encode_clips([tmp_path / "c"], tmp_path / "out", layout="new")  # type: ignore[arg-type]


ROWS = [
    {"media_path": "clips/a.mp4", "caption": "a red circle"},
    {"media_path": "clips/b.mp4", "caption": "a tone, low"},
]


def table(folder: Path, form: str, rows: Any = ROWS) -> Path:
    path = folder / f"set.{form}"
    if form == "csv":
        path.write_text("media_path,caption\n" + "".join(f'{r["media_path"]},"{r["caption"]}"\n' for r in rows))
    else:
        path.write_text(json.dumps(rows) if form == "json" else "\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_tables_name_clips_and_captions(form: str, clips: Path, tmp_path: Path) -> None:
    found = find_clips([table(tmp_path, form)])
    assert [(s.path, str(s.name), s.caption) for s in found] == [
        (clips / "a.mp4", "clips/a", "a red circle"),
        (clips / "b.mp4", "clips/b", "a tone, low"),
    ]
    with pytest.raises(MediaError, match="row 1 has no 'path', the clip's path; it has media_path, caption"):
        find_clips([table(tmp_path, form)], media_column="path")
    with pytest.raises(MediaError, match=r"row 1 names .*nowhere\.mp4, which is no file"):
        find_clips([table(tmp_path, form, [{"media_path": "nowhere.mp4", "caption": ""}])])
    (tmp_path / "set.json").write_text("{")
    with pytest.raises(MediaError, match="cannot be read as a table of clips"):
        find_clips([tmp_path / "set.json"])


@pytest.mark.parametrize("layout", ["plain", "trainer"])
def test_captions_become_text_embeddings(layout: Any, clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    import torch

    from ltx_models import load_connectors, load_text_encoder
    from ltx_models.cli.generate_call import read_embeds

    toy, gemma = toy_checkpoint(), toy_checkpoint().parent / "gemma"
    rows = [*ROWS, {"media_path": "clips/inner/a.mp4"}]  # without a caption
    both: Any = {"checkpoint": toy, "text_encoder": gemma, "layout": layout}
    assert states(encode_clips([table(tmp_path, "jsonl", rows)], tmp_path / "out", **both)) == ["made"] * 3
    encoder: Any = load_text_encoder(gemma, dtype="float32")
    connectors: Any = load_connectors(toy, dtype="float32")
    contexts = encoder.encode(["a tone, low"], connectors)
    if layout == "plain":
        (video, audio), _ = read_embeds(tmp_path / "out" / "clips" / "b.text.safetensors")
        assert np.array_equal(video, contexts.video.numpy())
        assert np.array_equal(audio, contexts.audio.numpy())
        assert not (tmp_path / "out" / "clips" / "inner" / "a.text.safetensors").exists()
    else:
        folder = tmp_path / "out" / ".precomputed" / "conditions" / "clips"
        kept = torch.load(folder / "b.pt", weights_only=True)
        assert set(kept) == {"video_prompt_embeds", "audio_prompt_embeds", "prompt_attention_mask"}
        hidden, mask = encoder.hidden_states(encoder.tokenize(["a tone, low"]))
        assert torch.equal(kept["prompt_attention_mask"], mask[0])
        # the connectors make of them what they make of the hidden states
        want = connectors.features(hidden, mask)
        assert torch.equal(kept["video_prompt_embeds"], want[0][0])
        assert torch.equal(kept["audio_prompt_embeds"], want[1][0])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert states(encode_clips([table(tmp_path, "jsonl", rows)], tmp_path / "out", **both)) == ["kept"] * 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(ValueError, match="text_encoder: no clip has a caption; give a table with the column 'caption'"):
        encode_clips([clips], tmp_path / "new", **both)


def test_the_official_trainer_reads_its_folders(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the reader of Lightricks/LTX-2, packages/ltx-trainer, of which LTX_TRAINER names the folder."""
    pytest.importorskip("transformers")
    folder = Path(os.environ.get("LTX_TRAINER", "no checkout"))
    source = folder / "src" / "ltx_trainer" / "datasets.py"
    if not source.is_file():
        pytest.skip("LTX_TRAINER names no checkout of the official trainer")
    package = types.ModuleType("ltx_trainer")
    package.logger = logging.getLogger("ltx_trainer")  # type: ignore[attr-defined]  # all that the reader wants of it
    monkeypatch.setitem(sys.modules, "ltx_trainer", package)
    if importlib.util.find_spec("einops") is None:  # which it wants for latents of old
        einops = types.ModuleType("einops")
        einops.rearrange = None  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "einops", einops)
    spec = importlib.util.spec_from_file_location("ltx_trainer.datasets", source)
    assert spec is not None
    assert spec.loader is not None
    datasets: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(datasets)
    toy, out = toy_checkpoint(), tmp_path / "out"
    tone = np.zeros((1, 2, 24000), np.float32)
    for name in ("a", "b"):
        write_video(clips / f"{name}.mp4", np.zeros((1, 3, 9, 32, 64), np.float32), fps=25, audio=(tone, 24000))
    options: Any = {"checkpoint": toy, "text_encoder": toy.parent / "gemma", "layout": "trainer", "sound": True}
    encode_clips([table(tmp_path, "csv")], out, **options)
    read = datasets.PrecomputedDataset(str(out), ["latents", "conditions", "audio_latents"])
    assert len(read) == 2
    assert read[0]["latents"]["latents"].shape == (128, 2, 1, 2)
    assert read[0]["conditions"]["video_prompt_embeds"].ndim == 2
    assert read[1]["audio_latents"]["latents"].ndim == 3


# ---- the command line --------------------------------------------------------------------------------------


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
