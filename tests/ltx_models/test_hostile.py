"""Files that mean harm, or are damaged: refused in one line, at once, whatever they hold."""

import json
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

pytest.importorskip("torch")
pytest.importorskip("av", reason="needs the extra 'video'")

import ltx_models
from ltx_models import media
from ltx_models.checkpoints import CheckpointError, checkpoint_files, open_checkpoint
from ltx_models.cli import main
from ltx_models.defaults import default_pipeline, toy_checkpoint
from ltx_models.media import MediaError
from ltx_models.pipelines.pictures import read_picture

LATENTS = np.zeros((1, 128, 1, 1, 1), np.float32)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_raw(path: Path, header: str, data: bytes = b"") -> Path:
    text = header.encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def with_config(path: Path, change: Callable[[dict[str, Any]], None], of: Path) -> Path:
    header, data = header_of(of)
    config = json.loads(header["__metadata__"]["config"])
    change(config)
    header["__metadata__"]["config"] = json.dumps(config)
    return write_raw(path, json.dumps(header), data)


# ---- latents -----------------------------------------------------------------------------------------------


def described(folder: Path, latents: Any = LATENTS, audio: Any = None, **changes: Any) -> Path:
    told = {"fps": "25", "source": "", "shape": [1]} | changes
    arrays = {"latents": latents} | ({} if audio is None else {"audio_latents": audio})
    save_file(arrays, folder / "a.safetensors", {"format": "ltx-latents-1", "latents": json.dumps(told)})
    return folder / "a.safetensors"


@pytest.mark.parametrize(
    "fps", ["1/0", "1e999999999", "0", "-25", "nan", "inf", "1e9", 25.5e300, None, [25], "9" * 5000]
)
def test_rates_of_latents_that_are_none_are_refused_at_once(tmp_path: Path, fps: Any) -> None:
    with pytest.raises(MediaError, match=r"cannot read latents from .*fps is '.*', expected a number from 1/1000"):
        media.read_latents(described(tmp_path, fps=fps))


@pytest.mark.parametrize(
    "changes",
    [
        {"source": 3},
        {"source": "a\0b"},
        {"source": None},
        {"pixel_aspect": "1/0"},
        {"autoencoder": "tiny"},
        {"autoencoder": {"name": "tiny"}},
        {"audio_autoencoder": {"name": 1, "digest": "x"}},
        {"latents": LATENTS[0]},
        {"latents": LATENTS[:, :, :0]},
        {"latents": LATENTS * np.nan},
        {"latents": LATENTS.astype(np.int32)},
        {"audio": LATENTS},
        {"audio": np.full((1, 8, 2, 16), np.inf, np.float32)},
    ],
    ids=lambda changes: f"{next(iter(changes))}",
)
def test_latents_that_are_none_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(MediaError, match=r"a\.safetensors"):
        media.read_latents(described(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "[]", "3", "{" * 9, "[" * 100_000, '{"fps": "25", "fps": "30", "source": ""}'])
def test_descriptions_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    save_file({"latents": LATENTS}, tmp_path / "a.safetensors", {"format": "ltx-latents-1", "latents": text})
    with pytest.raises(MediaError, match=r"cannot read latents from .*a\.safetensors"):
        media.read_latents(tmp_path / "a.safetensors")


def test_sound_that_latents_choose_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file from elsewhere took the sound of a file of this machine unseen."""
    media.write_audio(tmp_path / "private.wav", np.zeros((1, 1, 4800), np.float32), 48000)
    source = str(tmp_path / "private.wav")
    checkpoint = str(ltx_models.default_checkpoint())
    media.write_latents(tmp_path / "a.safetensors", np.zeros((1, 128, 1, 2, 2)), fps=25, source=source)
    given = ["decode", str(tmp_path / "a.safetensors"), "--checkpoint", checkpoint, "-o", str(tmp_path / "a.mp4")]
    code, said = main([*given, "--json"]), capsys.readouterr().err
    assert code == 0, said
    assert f"takes the sound of {source}, which the latents name (--audio none: no sound)" in said
    assert main([*given, "--audio", "none"]) == 0
    assert "takes the sound" not in capsys.readouterr().err


# ---- named pipes and devices -------------------------------------------------------------------------------


def test_named_pipes_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.safetensors", "a.mp4", "a.png", "a.wav"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "shard.safetensors")
    readers: list[tuple[Callable[[Path], Any], str]] = [
        (media.read_latents, "a.safetensors"),
        (media.read_video, "a.mp4"),
        (media.read_audio, "a.wav"),
        (read_picture, "a.png"),
        (
            lambda path: media.VideoWriter(tmp_path / "b.mp4", fps=25, audio=media.OriginalAudio(path)).__enter__(),
            "a.wav",
        ),
        (lambda path: open_checkpoint(path, "numpy").__enter__(), "a.safetensors"),
        (lambda path: open_checkpoint(path, "numpy").__enter__(), "folder"),
    ]
    for read, name in readers:
        with pytest.raises(ValueError, match="is a named pipe; give a regular file"):
            read(tmp_path / name)


# ---- headers, indices, configurations ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "3",
        '{"weight_map": 3}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": ["x"]}}',
        "[" * 99_999,
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"a\.safetensors\.index\.json: is no index of shards"):
        checkpoint_files(tmp_path)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    one = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    write_raw(tmp_path / "a.safetensors", f'{{"x": {one}, "x": {one}}}', bytes(4))
    with (
        pytest.raises(CheckpointError, match=r"a\.safetensors: not a whole safetensors file .*'x' is there twice"),
        open_checkpoint(tmp_path / "a.safetensors", "numpy"),
    ):
        pytest.fail("it opens")


LOADERS = {
    "vae": (ltx_models.load_video_encoder, ltx_models.load_video_decoder),
    "audio_vae": (ltx_models.load_audio_encoder, ltx_models.load_audio_decoder),
    "vocoder": (ltx_models.load_vocoder,),
    "transformer": (ltx_models.load_transformer, ltx_models.load_connectors),
}
VALUES: tuple[Any, ...] = (None, -1, 0, 10**9, 10**30, "x", "", [], {}, True, 1.5, {"a": 1}, ["res_x", 10**9])


@pytest.mark.parametrize("blocks", [10**9, {"num_layers": 10**9}, 10**30])
def test_configurations_that_would_be_built_for_hours_are_refused(tmp_path: Path, blocks: Any) -> None:
    def change(config: dict[str, Any]) -> None:
        config["vae"]["encoder_blocks"][0] = ["res_x", blocks]

    path = with_config(tmp_path / "a.safetensors", change, ltx_models.default_checkpoint())
    with pytest.raises(CheckpointError, match=r"the embedded config asks for \w+=\d+, and the file has 1000 tensors"):
        ltx_models.load_video_encoder(path)


@pytest.mark.parametrize("section", LOADERS)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning")
def test_a_wrong_value_anywhere_in_a_section_is_refused_or_harmless(tmp_path: Path, section: str) -> None:
    """Every value of the first levels is replaced; whatever does not load says so as a ValueError."""
    whole = json.loads(header_of(toy_checkpoint())[0]["__metadata__"]["config"])
    draw = np.random.default_rng(0)
    keys = sorted(whole[section])
    for key in [None, *draw.permutation(keys)[:12]]:
        value = VALUES[int(draw.integers(len(VALUES)))]

        def change(config: dict[str, Any], key: str | None = key, value: Any = value) -> None:
            (config if key is None else config[section])[section if key is None else key] = value

        path = with_config(tmp_path / "a.safetensors", change, toy_checkpoint())
        for load in LOADERS[section]:
            with suppress(ValueError):
                load(path)


def test_loras_of_rank_0_and_not_finite_are_refused(tmp_path: Path) -> None:
    from ltx_models.lora import check_lora, read_lora

    model = ltx_models.load_transformer(toy_checkpoint(), backend="torch", dtype="float32")
    layer = "transformer_blocks.0.attn1.to_q"
    out, inputs = dict(model.named_modules())[layer].weight.shape
    for rank, value, alpha, text in (
        (0, 1.0, None, "expected a rank of at least 1"),
        (0, 1.0, 1.0, "expected a rank of at least 1"),
        (2, np.nan, None, "has values that are not finite"),
        (2, 1.0, np.inf, "expected one finite number"),
    ):
        arrays = {
            f"diffusion_model.{layer}.lora_A.weight": np.full((rank, inputs), value, np.float32),
            f"diffusion_model.{layer}.lora_B.weight": np.full((out, rank), value, np.float32),
        }
        arrays |= {} if alpha is None else {f"diffusion_model.{layer}.alpha": np.array(alpha, np.float32)}
        save_file(arrays, tmp_path / "lora.safetensors")
        with pytest.raises(CheckpointError, match=text):
            read_lora(tmp_path / "lora.safetensors", model)
        if rank == 0:
            with pytest.raises(CheckpointError, match=text):
                check_lora(tmp_path / "lora.safetensors", toy_checkpoint())


def test_an_upsampler_whose_configuration_is_another_is_refused(tmp_path: Path) -> None:
    for key, value in (("num_blocks_per_stage", 10**9), ("in_channels", ["x"]), ("mid_channels", -1)):
        path = with_config(
            tmp_path / "a.safetensors",
            lambda config, key=key, value=value: config.update({key: value}),  # type: ignore[misc]  # bound at once
            default_pipeline() / "toy-spatial-upscaler-x2.safetensors",
        )
        with pytest.raises(ValueError, match=r"config|channels|tensors|blocks"):
            ltx_models.load_upsampler(path)
