"""Every layout is read to the same weights: names, shapes and configurations of each, and what is refused."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ltx_models import default_checkpoint
from ltx_models.checkpoints import Checkpoint, CheckpointError, open_checkpoint, read_header
from ltx_models.checkpoints.layouts import _axes, _diffusers, _names
from ltx_models.checkpoints.layouts._values import narrow, widen
from ltx_models.convert.write import Entry, write_file
from ltx_models.nn.statistics import STATISTICS

CASES = {
    "20": ("dit_av20_split", "connectors_20_full", "video_encoder_enc20_basic", "video_decoder_dec20_basic"),
    "23": ("dit_av23_split", "connectors_23_left_pad", "video_encoder_enc23_basic", "video_decoder_dec23_basic"),
}
VOCODERS = {"20": "vocoder_20_basic", "23": "vocoder_23_six_stage"}
SOUND = ("audio_encoder_basic", "audio_decoder_basic")
Tensors = dict[str, Any]


def save(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    """Write arrays of float32 as a safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = {key: Entry("F32", x.shape, partial(_bytes, x)) for key, x in tensors.items()}
    write_file(path, entries, metadata or {})
    return path


def _bytes(x: Any) -> Any:
    return np.ascontiguousarray(x).reshape(-1).view(np.uint8)


def contents(path: Path) -> Tensors:
    """Read everything of a checkpoint under its official names."""
    with open_checkpoint(path, "numpy") as checkpoint:
        return {key: read(checkpoint, key) for key in checkpoint.keys}


def read(checkpoint: Checkpoint, key: str) -> Any:
    return widen(checkpoint.buffer(key), checkpoint.dtype(key)).reshape(checkpoint.shape(key))


def equal(one: Tensors, two: Tensors) -> None:
    assert sorted(one) == sorted(two)
    for key, x in one.items():
        np.testing.assert_array_equal(x, two[key], err_msg=key)


@pytest.fixture(params=["20", "23"], scope="module")
def whole(
    request: pytest.FixtureRequest, oracle: Callable[[str], list[Any]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A complete small checkpoint in the official single-file layout, put together from the reference cases."""
    tensors: Tensors = {}
    config: dict[str, Any] = {}
    for name in (*CASES[request.param], *SOUND, VOCODERS[request.param]):
        (case,) = oracle(name)
        with open_checkpoint(case.path, "numpy") as checkpoint:
            keys = [key for key in checkpoint.keys if key.split(".")[0] not in {"input", "output", "debug"}]
            tensors |= {key: read(checkpoint, key) for key in keys}
            for section, given in checkpoint.config.items():
                wanted = given if "connectors" not in name else {k: v for k, v in given.items() if "connector" in k}
                wanted = wanted if "encoder" not in name else {k: v for k, v in given.items() if "decoder" not in k}
                config[section] = {**config.get(section, {}), **wanted}
    path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    return save(path, tensors, {"config": json.dumps(config), "model_version": request.param})


def parts(path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Divide a whole checkpoint into components, by names without prefix."""
    found: dict[str, Tensors] = {}
    for key, x in contents(path).items():
        component, name = _names.component_of(key)
        found.setdefault(component, {})[name] = x
    with open_checkpoint(path, "numpy") as checkpoint:
        return found, checkpoint.config


def used(tensors: Tensors) -> Tensors:
    """Leave out the statistics that no network reads."""
    return {
        key: x
        for key, x in tensors.items()
        if "per_channel_statistics." not in key or key.rpartition(".")[2] in STATISTICS
    }


def mlx_linear(name: str) -> str:
    for old, new in ((".to_out.0.", ".to_out."), ("ff.net.0.proj.", "ff.proj_in."), ("ff.net.2.", "ff.proj_out.")):
        name = name.replace(old, new)
    return name


def mlx_transformer(name: str) -> str:
    return mlx_linear(name).replace(".linear_1.", ".linear1.").replace(".linear_2.", ".linear2.")


def last(name: str, x: Any, vocoder: bool = False) -> Any:
    if not name.endswith(".weight") or x.ndim < 3:
        return x
    if vocoder and "ups." in f".{name}".replace("upsample", ""):
        return np.moveaxis(x, 0, -1)  # (I, O, K) to (O, K, I)
    return np.moveaxis(x, 1, -1)


def mlx_vocoder(found: Tensors, newer: bool) -> Tensors:
    """That tool drops every "vocoder." of a name, not the first alone."""
    names = {name: f"vocoder.{name}".replace("vocoder.", "") if newer else name for name in found}
    return {f"vocoder.{names[name]}": last(name, x, True) for name, x in found.items()}


def mlx_unified(path: Path, target: Path) -> Path:
    """As the wheel of mlx-video writes one file of everything."""
    found, config = parts(path)
    newer = "bwe" in config["vocoder"]
    tensors: Tensors = {f"transformer.{mlx_transformer(k)}": x for k, x in found["transformer"].items()}
    for name, x in found["connectors"].items():
        if not name.startswith("text_embedding"):
            tensors[f"transformer.{mlx_transformer(name)}"] = x  # that tool's transformer has them a second time
        tensors[name if name.startswith("text_embedding") else f"connector.{name}"] = x
    for half in ("encoder", "decoder"):
        for name, x in found["video_vae"].items():
            if name.startswith(f"{half}."):
                tensors[f"vae_{name.replace('.', '|', 1).replace('|', '.')}"] = last(name, x)
        names = ("mean", "std") if half == "decoder" else ("_mean_of_means", "_std_of_means")
        for kind, new in zip(STATISTICS, names, strict=True):
            tensors[f"vae_{half}.per_channel_statistics.{new}"] = found["video_vae"][f"per_channel_statistics.{kind}"]
    for name, x in found["audio_vae"].items():
        if name.startswith("decoder."):
            tensors[f"audio_vae.{name.removeprefix('decoder.')}"] = last(name, x)
    for kind in STATISTICS:
        new = f"audio_vae.per_channel_statistics._{kind.replace('-', '_')}"
        tensors[new] = found["audio_vae"][f"per_channel_statistics.{kind}"]
    tensors |= mlx_vocoder(found["vocoder"], newer)
    target.mkdir()
    save(target / "model.safetensors", tensors)
    (target / "embedded_config.json").write_text(json.dumps(config))
    return target


def test_mlx_video_file_of_everything_is_read_to_the_same_weights(whole: Path, tmp_path: Path) -> None:
    got = contents(mlx_unified(whole, tmp_path / "mlx"))
    want = {k: x for k, x in used(contents(whole)).items() if not k.startswith("audio_vae.encoder.")}
    equal(got, want)


def test_mlx_video_files_of_each_component_are_read_to_the_same_weights(whole: Path, tmp_path: Path) -> None:
    """As that tool writes when it quantises: the file of everything, divided by its prefixes."""
    mlx_unified(whole, tmp_path / "mlx")
    stored = read_header(tmp_path / "mlx" / "model.safetensors")[1]
    data = (tmp_path / "mlx" / "model.safetensors").read_bytes()
    divided: dict[str, Tensors] = {}
    for key, s in stored.items():
        prefix, _, name = key.partition(".")
        component = "connector" if prefix == "text_embedding_projection" else prefix
        x = np.frombuffer(data[s.start : s.start + s.size], np.float32).reshape(s.shape)
        divided.setdefault(component, {})[key if prefix == "text_embedding_projection" else name] = x
    for component, tensors in divided.items():
        save(tmp_path / "split" / f"{component}.safetensors", tensors)
    equal(contents(tmp_path / "split"), contents(tmp_path / "mlx"))


def test_metadata_of_null_as_mlx_writes_is_read(tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    mx.save_safetensors(str(tmp_path / "x.safetensors"), {"a": mx.ones((2,))})
    np.testing.assert_array_equal(contents(tmp_path / "x.safetensors")["a"], np.ones(2))


def test_mlx_video_folders_are_read_to_the_same_weights(whole: Path, tmp_path: Path) -> None:
    """As that project's later converter writes: folders, wrapped convolutions in the decoder, statistics twice."""
    found, config = parts(whole)
    for half in ("encoder", "decoder"):
        for component, folder in (("video_vae", "vae"), ("audio_vae", "audio_vae")):
            tensors: Tensors = {}
            for name, x in found[component].items():
                inner = name.removeprefix(f"{half}.")
                if name.startswith(f"{half}."):
                    wrap = component == "video_vae" and half == "decoder" and ".conv.conv." not in f".{inner}"
                    new = inner.replace(".conv.", ".conv.conv.") if wrap else inner
                    tensors[new] = last(name, x)
            for kind, short in zip(STATISTICS, ("mean", "std"), strict=True):
                long = short if component == "video_vae" else kind.replace("-", "_")
                tensors[f"per_channel_statistics.{long}"] = found[component][f"per_channel_statistics.{kind}"]
            save(tmp_path / folder / half / "model.safetensors", tensors)
    save(tmp_path / "transformer/model.safetensors", {mlx_transformer(k): x for k, x in found["transformer"].items()})
    text = {mlx_linear(k).removeprefix("text_embedding_projection."): x for k, x in found["connectors"].items()}
    save(tmp_path / "text_projections/model.safetensors", text)
    voice = {k: last(k, x, True) for k, x in found["vocoder"].items()}
    save(tmp_path / "vocoder/model.safetensors", voice)
    equal(contents(tmp_path), used(contents(whole)))
    del config


def test_bare_files_of_one_component_are_read(whole: Path, tmp_path: Path) -> None:
    """The layout of 2.5: one file each, autoencoders without their prefix; a folder of them is one checkpoint."""
    found, _ = parts(whole)
    save(tmp_path / "video.safetensors", found["video_vae"])
    save(tmp_path / "audio.safetensors", found["audio_vae"])
    save(
        tmp_path / "transformer.safetensors", {f"model.diffusion_model.{k}": x for k, x in found["transformer"].items()}
    )
    want = {k: x for k, x in contents(whole).items() if k.startswith(("vae.", "audio_vae."))}
    got = contents(tmp_path)
    equal({k: x for k, x in got.items() if not k.startswith("model.")}, want)
    assert sum(k.startswith("model.diffusion_model.") for k in got) == len(found["transformer"])


@pytest.mark.parametrize("component", sorted(_names.DIFFUSERS))
def test_diffusers_names_go_there_and_back(component: str, whole: Path) -> None:
    names = list(parts(whole)[0].get(component, {}))
    there = [_names.DIFFUSERS[component].there(name) for name in names]
    assert [_names.DIFFUSERS[component].back(name) for name in there] == names
    assert len(set(there)) == len(names)


def test_diffusers_configurations_go_there_and_back(whole: Path) -> None:
    """Every value of a section that diffusers knows survives both translations."""
    found, config = parts(whole)
    for component, section in (("transformer", "transformer"), ("video_vae", "vae"), ("audio_vae", "audio_vae")):
        shapes = {name: x.shape for name, x in found[component].items()}
        there = _diffusers.config_for(component, config, shapes)
        back = _diffusers.sections_of(there)
        again = _diffusers.config_for(component, back, shapes)
        assert again == there, component
        assert back.keys() == {section}


MLX_SHAPE = st.tuples(st.integers(1, 9), st.sampled_from([1, 3]), st.integers(1, 9))


@given(MLX_SHAPE, st.sampled_from([4, 5]))
@settings(max_examples=60)
def test_a_shape_never_tells_the_wrong_order(sizes: tuple[int, int, int], axes: int) -> None:
    """Whatever the channels, a weight says where they stand or says nothing."""
    outputs, kernel, inputs = sizes
    component = "video_vae" if axes == 5 else "audio_vae"
    first = (outputs, inputs, *[kernel] * (axes - 2))
    assert _axes.evidence(component, "decoder.conv_in.conv.weight", first) in {"first", None}
    final = (outputs, *[kernel] * (axes - 2), inputs)
    assert _axes.evidence(component, "decoder.conv_in.conv.weight", final) in {"last", None}
    if inputs != kernel:
        assert _axes.evidence(component, "decoder.conv_in.conv.weight", final) == "last"


@given(st.integers(3, 5), st.sampled_from(["ups.0.weight", "resblocks.0.convs1.0.weight"]))
@settings(max_examples=12)
def test_axes_go_there_and_back(axes: int, name: str) -> None:
    shape = tuple(range(2, 2 + axes))
    x = np.arange(np.prod(shape)).reshape(shape)
    there = x.transpose(_axes.from_official("vocoder", name, axes))
    np.testing.assert_array_equal(there.transpose(_axes.to_official("vocoder", name, "last", axes)), x)
    assert there.shape != x.shape


def small(order: str, inputs: int = 5) -> Tensors:
    shape = (4, inputs, 3, 3, 3) if order == "first" else (4, 3, 3, 3, inputs)
    names = ("conv_in.conv.weight", "up_blocks.0.res_blocks.0.conv1.conv.weight")
    return {name: np.zeros(shape, np.float32) for name in names}


def test_convolutions_turned_in_part_are_refused(tmp_path: Path) -> None:
    tensors = small("first") | {"conv_out.conv.weight": np.zeros((48, 3, 3, 3, 4), np.float32)}
    path = save(tmp_path / "half.safetensors", tensors)
    with pytest.raises(CheckpointError, match=r"channels first .* others last \(decoder.conv_out.*converted twice"):
        contents(path)


def test_shapes_that_do_not_tell_need_the_marker(tmp_path: Path) -> None:
    tensors = small("first", inputs=3)
    path = save(tmp_path / "a.safetensors", tensors)
    with pytest.raises(CheckpointError, match=r"\(4, 3, 3, 3, 3\), do not tell.*'format' of 'pt' or 'mlx'"):
        contents(path)
    distinct = {key: np.arange(x.size, dtype=np.float32).reshape(x.shape) for key, x in tensors.items()}
    plain = contents(save(tmp_path / "b.safetensors", distinct, {"format": "pt"}))
    turned = contents(save(tmp_path / "c.safetensors", distinct, {"format": "mlx"}))
    for key, x in plain.items():
        np.testing.assert_array_equal(turned[key], np.moveaxis(x, -1, 1))


def test_shapes_win_over_a_marker_that_another_tool_wrote(tmp_path: Path) -> None:
    """MLX puts its format into every file that it saves, whatever the layout."""
    path = save(tmp_path / "a.safetensors", small("first"), {"format": "mlx"})
    with open_checkpoint(path, "numpy") as checkpoint:
        assert checkpoint.shape("vae.decoder.conv_in.conv.weight") == (4, 5, 3, 3, 3)


def test_statistics_that_disagree_between_halves_are_refused(tmp_path: Path) -> None:
    for half, value in (("decoder", 1.0), ("encoder", 2.0)):
        blocks = "up" if half == "decoder" else "down"
        tensors = {
            "conv_in.conv.weight": np.zeros((4, 3, 3, 3, 5), np.float32),
            f"{blocks}_blocks.0.res_blocks.0.conv1.conv.bias": np.zeros(4, np.float32),
            "per_channel_statistics.mean": np.full(4, value, np.float32),
        }
        save(tmp_path / "vae" / half / "model.safetensors", tensors)
    with pytest.raises(CheckpointError, match=r"1 keys stand in another shard too.*mean-of-means"):
        contents(tmp_path)


def test_other_networks_keep_their_names(tmp_path: Path) -> None:
    """An autoencoder of Stable Diffusion also has an encoder and a decoder."""
    shape = (4, 4, 3, 3)
    tensors = {f"{half}.conv_in.weight": np.zeros(shape, np.float32) for half in ("encoder", "decoder")}
    tensors |= {"decoder.up_blocks.0.resnets.0.conv1.weight": np.zeros(shape, np.float32)}
    assert sorted(contents(save(tmp_path / "sd.safetensors", tensors))) == sorted(tensors)


def test_components_in_official_files_keep_their_names(oracle: Callable[[str], list[Any]]) -> None:
    """A file of one component has the prefixes of the whole; each reference case is one."""
    for case in oracle("*20*") + oracle("*23*") + oracle("audio_*") + oracle("upsampler_*"):
        assert set(contents_keys(case.path)) == set(read_header(case.path)[1]), case.name


def contents_keys(path: Path) -> list[str]:
    with open_checkpoint(path, "numpy") as checkpoint:
        return checkpoint.keys


def test_official_files_are_read_as_they_are() -> None:
    with open_checkpoint(default_checkpoint(), "numpy") as checkpoint:
        assert not any(stored.axes for stored in checkpoint.files.values())
        assert all(key.startswith("vae.") for key in checkpoint.keys)


@given(st.lists(st.floats(width=32, allow_nan=False, min_value=-65000, max_value=65000), min_size=1, max_size=40))
@example([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11])  # halfway between neighbours of either dtype
@settings(max_examples=50)
def test_numbers_round_as_torch_rounds_them(values: list[float]) -> None:
    torch = pytest.importorskip("torch")
    x = np.array(values, np.float32)
    for name, kind in (("BF16", torch.bfloat16), ("F16", torch.float16)):
        want = torch.from_numpy(x).to(kind).float().numpy()
        np.testing.assert_array_equal(widen(narrow(x, name), name), want)


def test_all_8_bit_floats_are_read_as_torch_reads_them() -> None:
    torch = pytest.importorskip("torch")
    codes = np.arange(256, dtype=np.uint8)
    want = torch.from_numpy(codes).view(torch.float8_e4m3fn).float().numpy()
    np.testing.assert_array_equal(widen(codes, "F8_E4M3"), want)


def test_numbers_too_large_for_a_dtype_are_refused() -> None:
    with pytest.raises(ValueError, match=r"w: 1 values up to 7e\+04 do not fit F16, whose largest is 65504"):
        narrow(np.array([1.0, 7e4], np.float32), "F16", "w")
