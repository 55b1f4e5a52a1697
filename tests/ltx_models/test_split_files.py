"""The files of LTX-2.5 as they are published: what each holds, how a folder of them is found, what is refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.ltx_models.pipeline_files import contexts, write_whole
from tests.ltx_models.split_files import NAMES, drawn, stored, transformer_config, write, write_split

from ltx_models import (
    CheckpointError,
    load_audio_decoder,
    load_audio_encoder,
    load_connectors,
    load_duration_head,
    load_transformer,
    load_upsampler,
    load_video_decoder,
    load_video_encoder,
    load_vocoder,
    plan_exact,
)
from ltx_models.byte_sizes import format_bytes
from ltx_models.checkpoints import open_checkpoint
from ltx_models.checkpoints.contents import by_header, by_name, version_by_name, version_of_file
from ltx_models.cli import main
from ltx_models.convert import convert
from ltx_models.convert.write import Entry
from ltx_models.download import GEMMA, Wanted
from ltx_models.lora import apply_lora, check_lora
from ltx_models.media import as_float32, iter_frames, probe_video, read_latents
from ltx_models.nn import Backend
from ltx_models.nn import backend as get_backend
from ltx_models.pipelines import LTX2Pipeline, MemoryPlan, finding
from ltx_models.pipelines.finding import find_files
from ltx_models.pipelines.forecast import Decode, forecast
from ltx_models.pipelines.grid import Size
from ltx_models.pipelines.listing import Criteria, Listing, SourceError
from ltx_models.pipelines.settings import version_of
from ltx_models.pipelines.sources import choose
from ltx_models.quantization import quantize
from ltx_models.transformer import Modality, Transformer, TransformerConfig

LOADERS: dict[str, tuple[Callable[..., Any], ...]] = {
    "transformer": (load_transformer,),
    "video_vae": (load_video_encoder, load_video_decoder),
    "video_vae_conv": (load_video_encoder, load_video_decoder),
    "audio_vae": (load_audio_encoder, load_audio_decoder, load_vocoder),
    "upsampler": (load_upsampler,),
    "temporal_upsampler": (load_upsampler,),
    "duration_head": (load_duration_head,),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch")
    return write_split(tmp_path_factory.mktemp("split"), get_backend("torch"))


def test_each_file_holds_its_networks(nn: Backend, files: dict[str, Path]) -> None:
    for name, loaders in LOADERS.items():
        for load in loaders:
            load(files[name], backend=nn.name, dtype="float32")
    load_connectors(files["transformer"], projections=files["text_encoder"], backend=nn.name)
    assert version_of(files["transformer"]) == (2, 5, 0)
    check_lora(files["distilled_lora"], files["transformer"])


def test_the_files_are_the_same_from_either_framework(nn: Backend, files: dict[str, Path], tmp_path: Path) -> None:
    for name, path in write_split(tmp_path, nn).items():
        if name != "folder":
            assert path.read_bytes() == files[name].read_bytes(), name


# ---- what is found -----------------------------------------------------------------------------------------

PUBLISHED = (
    *NAMES.values(),
    "README.md",
    "diffusion_models/ltx-2.5-22b-dev-transformer-comfy-int8-convrot.safetensors",
    "diffusion_models/ltx-2.5-22b-distilled-transformer-comfy-int8-convrot.safetensors",
    "diffusion_models/ltx-2.5-22b-distilled-transformer-nvfp4.safetensors",
    "text_encoders/gemma4-12b-with-proj-ltx-2.5-comfy-int8-convrot.safetensors",
)


@pytest.mark.parametrize(
    ("pipeline", "names"),
    [
        (None, ["transformer", "text_encoder", "video_vae", "audio_vae", "duration_head", "upsampler"]),
        ("distilled-one-stage", ["transformer", "text_encoder", "video_vae", "audio_vae", "duration_head"]),
        ("dev", ["dev_transformer", "text_encoder", "video_vae", "audio_vae", "duration_head"]),
        (
            "keyframes",
            [
                *("dev_transformer", "text_encoder", "video_vae", "audio_vae", "duration_head", "upsampler"),
                "distilled_lora",
            ],
        ),
    ],
)
def test_of_the_published_repository_no_more_than_needed_is_taken(pipeline: str | None, names: list[str]) -> None:
    choice = choose(Listing("Lightricks/LTX-2.5", PUBLISHED, by_name), Criteria(pipeline))
    assert choice.names == tuple(NAMES[name] for name in names)
    assert choice.recipe.name == (pipeline or "distilled")


def test_one_file_of_a_repository_brings_no_gemma_3_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Wanted] = []

    def fetched(wanted: list[Wanted], *_: Any) -> dict[str, Path]:
        asked.extend(wanted)
        return {entry.repo: tmp_path for entry in wanted}

    monkeypatch.setattr(finding, "fetched", fetched)
    monkeypatch.setattr(finding, "of_text_encoder", lambda repo: [Wanted(repo, ("model.safetensors",))])
    for path, repos in (
        (f"Lightricks/LTX-2.5/{NAMES['transformer']}", ["Lightricks/LTX-2.5"]),
        ("some/thing/ltx-2.3-22b-distilled.safetensors", ["some/thing", GEMMA]),
    ):
        asked.clear()
        _, found = find_files(path, Criteria())
        assert [entry.repo for entry in asked] == repos
        assert (found.text_encoder is None) == (len(repos) == 1)


def test_names_tell_what_headers_tell(files: dict[str, Path]) -> None:
    for name, path in files.items():
        if name != "folder":
            published = NAMES[name]
            assert by_header(path) <= by_name(published), name
            assert by_name(published) <= by_header(path) | {"vocoder"}, name
            assert version_by_name(published) == (2, 5) or name == "folder"
            assert version_of_file(path) in {(2, 5), None}


def flat(files: dict[str, Path], target: Path, **names: str) -> Path:
    """Put the files side by side, under other names where these are given."""
    target.mkdir()
    for name, path in files.items():
        if name != "folder":
            shutil.copy(path, target / names.get(name, path.name))
    return target


def test_a_tree_and_a_flat_folder_are_found_and_mean_the_same(files: dict[str, Path], tmp_path: Path) -> None:
    for folder in (
        files["folder"],
        flat(files, tmp_path / "flat"),
        flat(files, tmp_path / "own", transformer="x-distilled.safetensors"),
    ):
        recipe, found = find_files(folder, Criteria())
        assert recipe.name == "distilled"
        places = {
            "transformer": found.transformer,
            "text_encoder": found.text_encoder,
            "video_vae": found.video_vae,
            "audio_vae": found.audio_vae,
            "upsampler": found.upsampler,
            "duration_head": found.duration_head,
        }
        for name, path in places.items():
            assert path is not None
            assert path.read_bytes() == files[name].read_bytes(), name


def test_several_of_a_kind_are_asked_about(files: dict[str, Path], tmp_path: Path) -> None:
    folder = flat(files, tmp_path / "two")
    shutil.copy(files["audio_vae"], folder / "my-audio.safetensors")
    find_files(folder, Criteria())  # the one under the published name
    (folder / files["audio_vae"].name).rename(folder / "other-audio.safetensors")
    with pytest.raises(
        SourceError,
        match=r"has my-audio.safetensors, other-audio.safetensors; say which audio autoenc.*--audio-vae-path",
    ):
        find_files(folder, Criteria())
    assert find_files(folder, Criteria(audio_vae=False))[1].audio_vae is None, "it was given"


# ---- what is refused ---------------------------------------------------------------------------------------


def parts(files: dict[str, Path], **others: Any) -> dict[str, Any]:
    """The parameters of a pipeline of separate files."""
    names = ("transformer", "text_encoder", "video_vae", "audio_vae", "upsampler", "duration_head")
    return {name: files[name] for name in names} | {"dtype": "float32"} | others


def remade(
    path: Path,
    target: Path,
    *,
    drop: str = "?",
    metadata: dict[str, str | None] | None = None,
    change: dict[str, Any] | None = None,
) -> Path:
    """Write a file again without some tensors, or with other metadata or tensors."""
    tensors, said = stored(path, "")
    kept = {key: value for key, value in tensors.items() if not key.startswith(drop)} | (change or {})
    both = said | (metadata or {})
    return write(target, kept, {key: value for key, value in both.items() if value is not None})


def byte_tensor(data: bytes) -> Entry:
    return Entry("U8", (len(data),), lambda: np.frombuffer(data, np.uint8))


def test_separate_files_make_a_pipeline(files: dict[str, Path]) -> None:
    pipe = LTX2Pipeline.from_pretrained(**parts(files))
    assert (pipe.recipe.name, pipe.version) == ("distilled", (2, 5, 0))
    assert pipe.components.files.duration_head == files["duration_head"]
    with pytest.raises(ValueError, match=r"path: got .* and transformer=.*; give a checkpoint, .* as the one"):
        LTX2Pipeline.from_pretrained(files["folder"], transformer=files["transformer"])


@pytest.mark.parametrize(
    ("given", "other", "text"),
    [
        (
            "video_vae",
            "audio_vae",
            r"no video autoencoder in it, but an audio autoencoder or vocoder; .* video_vae= \(--video-vae-path\)",
        ),
        ("audio_vae", "video_vae", r"no audio autoencoder .* in it, but a video autoencoder; .* \(--audio-vae-path\)"),
        ("duration_head", "upsampler", r"no duration head in it, but a latent upsampler; .* \(--duration-head-path\)"),
        ("upsampler", "duration_head", r"no latent upsampler in it, but a duration .* \(--spatial-upsampler-path\)"),
        ("transformer", "video_vae", r"no transformer in it, but a video autoencoder; .* \(--transformer-path\)"),
        ("text_encoder", "transformer", r"no gemma_config in its metadata; give the text encoder's file of LTX-2.5"),
    ],
)
def test_a_file_under_the_wrong_name_is_refused(files: dict[str, Path], given: str, other: str, text: str) -> None:
    with pytest.raises(CheckpointError, match=text):
        LTX2Pipeline.from_pretrained(**parts(files, **{given: files[other]}))


@pytest.mark.parametrize("name", ["video_vae", "audio_vae", "upsampler", "duration_head"])
def test_files_of_2_3_beside_files_of_2_5_are_refused(files: dict[str, Path], name: str, tmp_path: Path) -> None:
    older = remade(files[name], tmp_path / "older.safetensors", metadata={"model_version": "2.3.1"})
    with pytest.raises(
        CheckpointError, match=r"older\.safetensors: is of LTX 2\.3, and the transformer .* is of 2\.5; take all"
    ):
        LTX2Pipeline.from_pretrained(**parts(files, **{name: older}))


def test_a_count_of_its_own_is_no_version_of_the_model(files: dict[str, Path], tmp_path: Path) -> None:
    for number, said in enumerate(("1.0", "1.1", None, "x")):
        other = remade(files["upsampler"], tmp_path / f"{number}.safetensors", metadata={"model_version": said})
        assert LTX2Pipeline.from_pretrained(**parts(files, upsampler=other)).components.files.upsampler == other


def test_a_folder_of_both_versions_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    folder = flat(files, tmp_path / "both")
    whole = write_whole(folder, get_backend("torch"))
    with pytest.raises(
        SourceError, match=r"has a whole checkpoint, tiny-2.3.safetensors of 2.3, beside a transformer alone, .* of 2.5"
    ):
        LTX2Pipeline.from_pretrained(folder)
    with pytest.raises(
        CheckpointError, match=r"is of LTX 2\.5, and the transformer .*tiny-2\.3\.safetensors is of 2\.3"
    ):
        LTX2Pipeline.from_pretrained(whole["path"], video_vae=files["video_vae"], upsampler=whole["upsampler"])
    with pytest.raises(
        ValueError, match=r"a transformer of 2\.3\.0 reads Gemma 3, this text encoder is 'gemma4-tiny-ltx-v1'"
    ):
        LTX2Pipeline.from_pretrained(whole["path"], text_encoder=files["text_encoder"], upsampler=whole["upsampler"])


def test_a_stock_gemma_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    _, said = stored(files["text_encoder"], "?")
    config = json.loads(said["gemma_config"])
    del config["gemma_version"]
    stock = remade(files["text_encoder"], tmp_path / "stock.safetensors", metadata={"gemma_config": json.dumps(config)})
    with pytest.raises(
        ValueError,
        match=r"trained with the Gemma 'gemma4-tiny-ltx-v1', this one of kind 'gemma4_unified' names none; .* stock",
    ):
        LTX2Pipeline.from_pretrained(**parts(files, text_encoder=stock))
    folder = tmp_path / "gemma"
    folder.mkdir()
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).write_bytes(b"{}")
    for kind, text in (
        ("gemma4_unified", "those of 2.5 by a fine-tuned Gemma 4"),
        ("gemma3", "no stock Gemma takes its place"),
    ):
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
        with pytest.raises(ValueError, match=text):
            LTX2Pipeline.from_pretrained(**parts(files, text_encoder=folder))


def test_a_transformer_without_its_text_encoder_is_refused_before_any_work(files: dict[str, Path]) -> None:
    pipe = LTX2Pipeline.from_pretrained(**parts(files, text_encoder=None))
    with pytest.raises(
        ValueError, match=r"no language model was given, .* for 2\.5, the text encoder's file; give text_encoder="
    ):
        pipe("a fox")
    assert pipe.components.held == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("video_vae", "holds no video autoencoder, .*--video-vae-path"),
        ("audio_vae", "holds no audio autoencoder or vocoder, .*--audio-vae-path"),
    ],
)
def test_a_missing_autoencoder_is_named_before_any_work(files: dict[str, Path], name: str, text: str) -> None:
    pipe = LTX2Pipeline.from_pretrained(**parts(files, **{name: None}))
    with pytest.raises(CheckpointError, match=text):
        pipe("a fox", height=64, width=64, num_frames=9)
    assert pipe.components.held == ()


@pytest.mark.parametrize(
    ("drop", "metadata", "change", "text"),
    [
        ("text_embedding_projection.", {}, {}, r"holds no projections of the language model's states .*with-proj"),
        ("?", {"processor_config.json": '{"processor'}, {}, r"its processor_config\.json is no whole JSON"),
        ("?", {"tokenizer_config.json": "[]"}, {}, r"its tokenizer_config\.json is no tokenizer config"),
        ("?", {}, {"tokenizer_json": b'{"model": {"vocab"'}, r"its tokenizer\.json is no whole JSON"),
        ("?", {}, {"tokenizer_json": b"{}"}, r"its tokenizer\.json is no tokenizer"),
        ("model.language_model.layers.2.", {}, {}, r"has 2 layers of the language model, its configuration says 3"),
    ],
)
def test_a_text_encoder_that_was_cut_off_is_refused(
    files: dict[str, Path],
    drop: str,
    metadata: dict[str, str | None],
    change: dict[str, bytes],
    text: str,
    tmp_path: Path,
) -> None:
    tensors = {key: byte_tensor(data) for key, data in change.items()}
    broken = remade(files["text_encoder"], tmp_path / "x.safetensors", drop=drop, metadata=metadata, change=tensors)
    with pytest.raises(CheckpointError, match=text):
        LTX2Pipeline.from_pretrained(**parts(files, text_encoder=broken))


@pytest.mark.parametrize(
    "name", ["transformer", "text_encoder", "video_vae", "audio_vae", "upsampler", "duration_head"]
)
def test_a_file_that_was_cut_off_is_refused(files: dict[str, Path], name: str, tmp_path: Path) -> None:
    short = tmp_path / files[name].name
    short.write_bytes(files[name].read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        LTX2Pipeline.from_pretrained(**parts(files, **{name: short}))


def test_weights_in_the_forms_of_other_tools_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    marker = byte_tensor(b"{}")
    for part, text in (("comfy_quant", "ComfyUI's rotated int8"), ("weight_scale_2", "NVFP4")):
        key = f"model.diffusion_model.transformer_blocks.0.attn1.to_q.{part}"
        other = remade(files["transformer"], tmp_path / "x.safetensors", change={key: marker})
        with pytest.raises(CheckpointError, match=f"holds weights in {text}.*take the file in bfloat16"):
            LTX2Pipeline.from_pretrained(**parts(files, transformer=other))


# ---- from a prompt to a video ------------------------------------------------------------------------------


def test_a_prompt_becomes_a_video_with_sound(
    nn: Backend, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command line, from a folder and from separate files, which give the same."""
    pytest.importorskip("av")
    pytest.importorskip("transformers")
    pytest.importorskip({"torch": "transformers", "mlx": "mlx_lm"}[nn.name])
    small = ["-H", "64", "-W", "64", "-n", "9", "--dtype", "float32", "--backend", nn.name, "-p", "a fox in snow"]
    flags = {
        "--transformer-path": "transformer",
        "--text-encoder-path": "text_encoder",
        "--video-vae-path": "video_vae",
        "--audio-vae-path": "audio_vae",
        "--spatial-upsampler-path": "upsampler",
        "--duration-head-path": "duration_head",
    }
    apart = [text for flag, name in flags.items() for text in (flag, str(files[name]))]
    for name, chosen in (("a", ["--checkpoint-path", str(files["folder"])]), ("b", apart)):
        saved = ["--save-latents", str(tmp_path / f"{name}.safetensors")]
        assert main(["generate", *chosen, *small, *saved, "-o", str(tmp_path / f"{name}.mp4")]) == 0
        assert "pipeline distilled; version of the checkpoint: 2.5.0" in capsys.readouterr().err
    info = probe_video(tmp_path / "a.mp4")
    assert (info.frames, info.height, info.width, info.audio is not None) == (9, 64, 64, True)
    one, other = (read_latents(tmp_path / f"{name}.safetensors") for name in "ab")
    np.testing.assert_array_equal(one.latents, other.latents)
    assert one.space is not None


def test_the_convolutional_decoder_reads_the_same_latents(nn: Backend, files: dict[str, Path]) -> None:
    options: dict[str, Any] = {"height": 64, "width": 64, "num_frames": 9, "prompt_embeds": contexts(1)}
    for name in ("video_vae", "video_vae_conv"):
        made = parts(files, video_vae=files[name], text_encoder=False, backend=nn.name)
        out = LTX2Pipeline.from_pretrained(**made)(**options)
        assert out.frames.shape == (1, 9, 64, 64, 3)
        assert np.isfinite(out.frames).all()
        assert np.isfinite(out.audio).all()


# ---- the other verbs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latents of pictures and sound."""
    pytest.importorskip("av")
    path = tmp_path_factory.mktemp("saved") / "clip.safetensors"
    pipe = LTX2Pipeline.from_pretrained(**parts(files, text_encoder=False, transformer=files["transformer"]))
    options: dict[str, Any] = {"height": 64, "width": 64, "num_frames": 9, "prompt_embeds": contexts(1)}
    pipe(**options, output=path.with_suffix(".mp4"), save_latents=path)
    return path


def test_decode_takes_a_folder_or_both_files(files: dict[str, Path], saved: Path, tmp_path: Path) -> None:
    apart = ["--video-vae-path", str(files["video_vae"]), "--audio-vae-path", str(files["audio_vae"])]
    for name, chosen in (("a", ["--checkpoint", str(files["folder"])]), ("b", apart)):
        assert main(["decode", str(saved), *chosen, "-o", str(tmp_path / f"{name}.mp4")]) == 0
    clips = [list(iter_frames(path)) for path in (saved.with_suffix(".mp4"), tmp_path / "a.mp4", tmp_path / "b.mp4")]
    for one, *others in zip(*clips, strict=True):
        for other in others:
            np.testing.assert_array_equal(one, other)
    assert probe_video(tmp_path / "b.mp4").audio is not None


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        (("--video-vae-path", "video_vae"), r"holds no audio autoencoder or vocoder, .* \(--audio-vae-path\)"),
        (("--video-vae-path", "audio_vae"), r"no video autoencoder in it, but an audio autoencoder"),
        (("--video-vae-path", "video_vae", "--audio-vae-path", "upsampler"), "in it, but a latent upsampler"),
    ],
)
def test_decode_names_the_file_that_is_missing(
    files: dict[str, Path], saved: Path, chosen: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [value if value.startswith("-") else str(files[value]) for value in chosen]
    assert main(["decode", str(saved), *flags, "-o", str(saved.with_name("x.mp4"))]) == 2
    assert re.search(text, capsys.readouterr().err)
    assert not saved.with_name("x.mp4").exists()


def test_sound_goes_through_the_audio_file_alone(files: dict[str, Path], tmp_path: Path) -> None:
    save_file({"mel": np.zeros((1, 2, 8, 64), np.float32)}, tmp_path / "mel.safetensors")
    made = tmp_path / "a.wav"
    flags = ["--audio-vae-path", str(files["audio_vae"]), "-o", str(made)]
    assert main(["vocode", str(tmp_path / "mel.safetensors"), *flags]) == 0
    assert made.exists()


def test_info_says_what_each_file_holds(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(files["folder"]), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    held = {row["name"]: row["holds"] for row in facts["files"]}
    assert held[NAMES["text_encoder"]] == ["language model", "text projection", "tokenizer"]
    assert held[NAMES["transformer"]] == ["audio connector", "transformer", "video connector"]
    assert held[NAMES["distilled_lora"]] == ["LoRA"]
    assert {NAMES["video_vae"], NAMES["upsampler"]} < set(facts["pipeline"])
    assert not {NAMES["video_vae_conv"], NAMES["temporal_upsampler"]} & set(facts["pipeline"])
    assert main(["info", str(files["text_encoder"])]) == 0
    assert "language model: gemma4_unified, version gemma4-tiny-ltx-v1" in capsys.readouterr().out
    assert main(["info", str(files["video_vae"])]) == 0
    shown = capsys.readouterr().out
    assert "config.vae: 6 entries, CausalDiffusionVAE" in shown
    assert "config.transformer" not in shown
    assert main(["info", str(files["folder"]), "--config"]) == 2


# ---- memory, quantisation, conversion ----------------------------------------------------------------------


def test_memory_counts_the_text_encoder_and_the_decoder_with_its_noise(files: dict[str, Path]) -> None:
    said: list[str] = []
    made = parts(files, memory_bytes=2**30, say=said.append, pipeline="distilled-one-stage", dtype="bfloat16")
    pipe = LTX2Pipeline.from_pretrained(**made)
    assert pipe.memory is not None
    language = [key for key in stored(files["text_encoder"], "")[0] if key.startswith("model.language_model.")]
    with open_checkpoint(files["text_encoder"], "numpy") as checkpoint:
        assert pipe.memory.text_bytes == sum(checkpoint.files[key].size for key in language)
    size = Size(64, 96, 17, 24.0)
    peaks = forecast(pipe.components, pipe.recipe, size, pipe.config, 2**30)
    decode = Decode.read(files["video_vae"], size, 2)
    decoder = load_video_decoder(files["video_vae"])
    assert decode.noise == 2 * np.prod(decoder.noise_shape((1, 128, *size.latent)))
    assert decode.weights == sum(2 * x.numel() for name, x in decoder.named_parameters() if "statistics" not in name)
    assert decode.result == 2 * 3 * 17 * 64 * 96
    connectors = load_connectors(files["transformer"], projections=files["text_encoder"])
    assert peaks["text"] == max(sum(2 * x.numel() for x in connectors.parameters()), pipe.memory.text_bytes)
    whole = plan_exact(decoder, (1, 128, *size.latent)).peak_bytes
    assert peaks["decode"] == decode.noise + decode.result + decode.weights + whole
    assert decode.budget(2**30) == 2**30 - decode.noise - decode.result - decode.weights
    assert decode.plan(decode.least).peak_bytes == decode.least
    with pytest.raises(ValueError, match="the least that an exact diffusion decode"):
        decode.plan(decode.least - 1)
    conv = Decode.read(files["video_vae_conv"], size, 2)
    assert (conv.noise, conv.budget(2**20), conv.least) == (0, 2**20, 0)


def test_a_decode_that_does_not_fit_is_refused_before_the_run(files: dict[str, Path]) -> None:
    pipe = LTX2Pipeline.from_pretrained(**parts(files, text_encoder=False))
    small: dict[str, Any] = {"prompt_embeds": contexts(1), "height": 64, "width": 64, "num_frames": 9}
    with pytest.raises(ValueError, match=r"the least that an exact diffusion decode .* needs is"):
        pipe(**small, decode_bytes=1000)
    pipe.memory = MemoryPlan(2**20, None, False, 2**18, 0, "")
    with pytest.raises(
        ValueError, match=r"the decode has 256\.0 KiB, and the decoder's weights, noise .*--video-vae-path"
    ):
        pipe(**small)
    assert pipe.components.held == ()


def test_without_a_budget_a_long_clip_takes_what_it_needs(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltx_models.pipelines.budgets.DECODE_BYTES", 1000)
    pipe = LTX2Pipeline.from_pretrained(**parts(files, text_encoder=False))
    assert pipe(prompt_embeds=contexts(1), height=64, width=64, num_frames=9).frames.shape == (1, 9, 64, 64, 3)


def test_in_turn_and_in_few_bits_it_still_runs(nn: Backend, files: dict[str, Path]) -> None:
    pytest.importorskip({"torch": "transformers", "mlx": "mlx_lm"}[nn.name])
    small: dict[str, Any] = {"height": 64, "width": 64, "num_frames": 9, "output_type": "latent"}
    ways: list[dict[str, Any]] = [{}, {"offload": True, "offload_text": True}, {"quantize": "fp8"}]
    made = []
    for way in ways:
        pipe = LTX2Pipeline.from_pretrained(**parts(files, backend=nn.name, pipeline="distilled-one-stage", **way))
        made.append(as_float32(pipe("a fox", **small).latents.video))
    np.testing.assert_array_equal(made[0], made[1])
    assert 1e-4 < np.abs(made[0] - made[2]).max() < 1


SCHEMES = [
    ("torch", None),
    ("torch", "fp8"),
    ("torch", "int8"),
    ("mlx", None),
    ("mlx", "fp8"),
    ("mlx", "int8"),
    ("mlx", "int4"),
]


@pytest.mark.parametrize(("name", "scheme"), SCHEMES)
def test_layers_without_biases_are_quantised_and_take_loras(
    files: dict[str, Path], name: Any, scheme: Any, tmp_path: Path
) -> None:
    """In a wider transformer, as integers come in groups of 64: read so, made so later, and in turn."""
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[name])
    if (name, scheme) == ("torch", "int8"):
        pytest.importorskip("torchao")
    nn = get_backend(name)
    path, lora = wide_transformer(files, nn, tmp_path)
    video = Modality(
        **{key: nn.asarray(value) for key, value in tokens(128).items()},
    )
    exact = load_transformer(path, backend=name, dtype="float32")
    plain = as_float32(exact(video=video, audio=None)[0])
    models = [
        load_transformer(path, backend=name, dtype="float32", quantize=scheme, offload=offload)
        for offload in (False, True)
    ]
    read, in_turn = (as_float32(model(video=video, audio=None)[0]) for model in models)
    np.testing.assert_array_equal(read, in_turn)
    if scheme is not None:
        assert 1e-4 < np.abs(read - plain).max() < 0.3
        np.testing.assert_array_equal(as_float32(quantize(exact, scheme)(video=video, audio=None)[0]), read)
    for model, before in zip(models, (read, in_turn), strict=True):
        applied = apply_lora(model, [(lora, 1.0)], ignore_unmatched=True)
        assert "transformer_blocks.0.ff.net.0.proj" in applied.paths
        assert np.abs(as_float32(model(video=video, audio=None)[0]) - before).max() > 1e-3
        applied.remove()
        np.testing.assert_array_equal(as_float32(model(video=video, audio=None)[0]), before)


def tokens(channels: int, count: int = 6) -> dict[str, Any]:
    draw = np.random.default_rng(3)
    start = np.arange(count, dtype=np.float32)
    mask = np.zeros((1, count, 1), np.float32)
    mask[:, :2] = 1
    return {
        "latent": draw.standard_normal((1, count, channels), dtype=np.float32),
        "sigma": np.full((1,), 0.7, np.float32),
        "timesteps": np.full((1, count), 0.7, np.float32),
        "positions": np.tile(np.stack([start, start + 1], axis=-1), (1, 3, 1, 1)),
        "context": draw.standard_normal((1, 5, 64), dtype=np.float32),
        "keyframes_mask": mask,
    }


def wide_transformer(files: dict[str, Path], nn: Backend, folder: Path) -> tuple[Path, Path]:
    """A transformer of pictures alone with layers of 64 channels, and a LoRA of its feed-forward."""
    section = transformer_config() | {
        "num_attention_heads": 4,
        "attention_head_dim": 16,
        "cross_attention_dim": 64,
        "num_layers": 2,
    }
    draw = np.random.default_rng(9)
    made = drawn(
        nn, draw, lambda: Transformer(nn, TransformerConfig.of(section, audio=False)), "model.diffusion_model."
    )
    path = write(
        folder / "wide.safetensors", made, {"config": json.dumps({"transformer": section}), "model_version": "2.5.0"}
    )
    layer = "diffusion_model.transformer_blocks.0.ff.net.0.proj"
    factors = {"lora_A.weight": (2, 64), "lora_B.weight": (256, 2)}
    lora = {f"{layer}.{key}": draw.normal(0, 0.5, shape).astype(np.float32) for key, shape in factors.items()}
    return path, write(folder / "lora.safetensors", lora, {})


def test_a_transformer_is_converted_with_what_decides_its_text_encoder(files: dict[str, Path], tmp_path: Path) -> None:
    small: dict[str, Any] = {"height": 64, "width": 64, "num_frames": 9, "output_type": "latent"}
    made = {}
    convert(files["transformer"], tmp_path / "fp8.safetensors", quantize="fp8")
    convert(files["transformer"], tmp_path / "wide.safetensors", dtype="float32")
    for name, path in (
        ("plain", files["transformer"]),
        ("fp8", tmp_path / "fp8.safetensors"),
        ("wide", tmp_path / "wide.safetensors"),
    ):
        given = parts(files, transformer=path, text_encoder=False, pipeline="distilled-one-stage")
        made[name] = as_float32(LTX2Pipeline.from_pretrained(**given)(prompt_embeds=contexts(1), **small).latents.video)
        LTX2Pipeline.from_pretrained(**given | {"text_encoder": files["text_encoder"]})  # which it still belongs to
        assert version_of(path) == (2, 5, 0)
    np.testing.assert_array_equal(made["plain"], made["wide"])
    assert 1e-4 < np.abs(made["plain"] - made["fp8"]).max() < 1


def test_a_transformer_in_the_layouts_of_other_tools_is_still_of_2_5(files: dict[str, Path], tmp_path: Path) -> None:
    """Where no version is written, what came with it tells; of diffusers that is a value in the config.json."""
    nn = get_backend("torch")
    path, _ = wide_transformer(files, nn, tmp_path)
    want = load_transformer(path, dtype="float32")
    bare = remade(path, tmp_path / "bare.safetensors", metadata={"model_version": None})
    assert version_of(bare) == (2, 5)
    for layout in ("diffusers", "mlx", "split"):
        convert(bare, tmp_path / layout, layout=layout)
        assert version_of(tmp_path / layout) == (2, 5)
        back = load_transformer(tmp_path / layout, dtype="float32")
        assert back.config == want.config, layout
        for name, value in back.state_dict().items():
            np.testing.assert_array_equal(value, want.state_dict()[name], err_msg=f"{layout} {name}")


def test_integers_of_a_conversion_are_those_of_reading(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    nn = get_backend("mlx")
    path, _ = wide_transformer(files, nn, tmp_path)
    convert(path, tmp_path / "mlx", layout="mlx", quantize="int4")
    video = Modality(**{key: nn.asarray(value) for key, value in tokens(128).items()})
    packed = load_transformer(tmp_path / "mlx", backend="mlx")
    made = load_transformer(path, backend="mlx", quantize="int4")
    one, other = (as_float32(model(video=video, audio=None)[0]) for model in (packed, made))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "layout", "text"),
    [
        (
            "text_encoder",
            "split",
            "holds a language model; the layout 'split' has no form for that, take layout='official'",
        ),
        ("text_encoder", "mlx", "holds a language model"),
        ("duration_head", "mlx", "holds a duration head"),
        ("video_vae", "diffusers", "holds a diffusion decoder"),
        ("video_vae", "mlx", "holds a diffusion decoder"),
        (
            "transformer",
            "diffusers",
            "holds text connectors without their projections, which stand in the text encoder's",
        ),
    ],
)
def test_what_a_layout_has_no_form_for_is_refused(
    files: dict[str, Path], name: str, layout: Any, text: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=text):
        convert(files[name], tmp_path / "x", layout=layout)
    assert not (tmp_path / "x").exists()


def test_converted_parts_make_the_same_video(files: dict[str, Path], tmp_path: Path) -> None:
    """Each file in the official layout again, and those that have one in files of components."""
    made = {}
    for name in ("transformer", "text_encoder", "video_vae", "audio_vae", "duration_head"):
        made[name] = convert(files[name], tmp_path / f"{name}.safetensors").target
    pytest.importorskip("transformers")
    small: dict[str, Any] = {"height": 64, "width": 64, "num_frames": 9}
    split = tmp_path / "split-distilled"
    for name in ("transformer", "video_vae", "audio_vae"):
        convert(files[name], tmp_path / "one", layout="split", overwrite=True)
        shutil.copytree(tmp_path / "one", split, dirs_exist_ok=True)
    shutil.copy(files["text_encoder"], split)
    assert sorted(path.stem for path in split.iterdir())[:3] == [
        "audio_vae",
        "connectors",
        "gemma4-12b-with-proj-ltx-2.5-bf16",
    ]
    frames = []
    for given in (parts(files), parts(files, **made), {"path": split, "dtype": "float32"}):
        frames.append(
            LTX2Pipeline.from_pretrained(**given | {"pipeline": "distilled-one-stage"})("a fox", **small).frames
        )
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[0], frames[2])


def test_plan_knows_the_diffusion_decoder(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    size = ["plan", "--exact", "--size", "96x64", "--frames", "17", "--checkpoint"]
    assert main([*size, str(files["folder"])]) == 0
    shown = capsys.readouterr().out
    decode = Decode.read(files["video_vae"], Size(64, 96, 17, 24.0), 2)
    assert files["video_vae"].name in shown
    assert f"has its noise beside them, {format_bytes(decode.noise)}, and the video until it is whole" in shown
    assert main([*size, str(files["video_vae_conv"])]) == 0
    assert "noise" not in capsys.readouterr().out
