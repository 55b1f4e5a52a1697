"""Folders that conversion writes load into diffusers' own classes, with no key missing, unexpected or misshapen."""

import importlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltx_models import load_audio_decoder, load_audio_encoder, load_upsampler, load_video_decoder, load_video_encoder
from ltx_models.checkpoints import Checkpoint, open_checkpoint, without_weights
from ltx_models.convert import convert
from ltx_models.convert.write import Entry, write_file
from ltx_models.text import load_connectors
from ltx_models.transformer import load_transformer
from ltx_models.vocoder import load_vocoder

MODULES = {
    "LTX2VideoTransformer3DModel": "models.transformers.transformer_ltx2",
    "LTX2TextConnectors": "pipelines.ltx2.connectors",
    "AutoencoderKLLTX2Video": "models.autoencoders.autoencoder_kl_ltx2",
    "AutoencoderKLLTX2Audio": "models.autoencoders.autoencoder_kl_ltx2_audio",
    "LTX2Vocoder": "pipelines.ltx2.vocoder",
    "LTX2VocoderWithBWE": "pipelines.ltx2.vocoder",
    "LTX2LatentUpsamplerModel": "pipelines.ltx2.latent_upsampler",
}
LOADERS: dict[str, tuple[Callable[..., Any], ...]] = {
    "LTX2VideoTransformer3DModel": (load_transformer,),
    "LTX2TextConnectors": (load_connectors,),
    "AutoencoderKLLTX2Video": (load_video_encoder, load_video_decoder),
    "AutoencoderKLLTX2Audio": (load_audio_encoder, load_audio_decoder),
    "LTX2Vocoder": (load_vocoder,),
    "LTX2VocoderWithBWE": (load_vocoder,),
    "LTX2LatentUpsamplerModel": (load_upsampler,),
}
OF_STATE_DICTS = ("AutoencoderKLLTX2Video", "AutoencoderKLLTX2Audio", "LTX2Vocoder", "LTX2VocoderWithBWE")
CASES = [
    ("dit_av20_split",),
    ("dit_av23_split",),
    ("connectors_20_full",),
    ("connectors_23_left_pad",),
    ("video_encoder_enc23_basic", "video_decoder_dec23_basic"),
    ("audio_encoder_basic", "audio_decoder_basic"),
    ("vocoder_20_basic",),
    ("vocoder_23_six_stage",),
    ("upsampler_x2_rational",),
    ("upsampler_x2_conv",),
    ("upsampler_temporal",),
]


def take(checkpoint: Checkpoint, key: str) -> Entry:
    stored = checkpoint.files[key]
    return Entry(stored.dtype, stored.shape, partial(checkpoint.buffer, key))


@pytest.mark.parametrize("names", CASES, ids="+".join)
def test_diffusers_loads_what_conversion_writes(names: tuple[str, ...], oracle: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    load_file = importlib.import_module("safetensors.torch").load_file
    entries: dict[str, Entry] = {}
    config: dict[str, Any] = {}
    for name in names:
        with open_checkpoint(oracle(name)[0].path, "numpy") as checkpoint:
            foreign = ("input.", "output.", "debug.", *(("vae.",) if name.startswith("upsampler") else ()))
            entries |= {key: take(checkpoint, key) for key in checkpoint.keys if not key.startswith(foreign)}
            config |= checkpoint.config
    whole = tmp_path / "whole.safetensors"
    write_file(whole, entries, {"config": json.dumps(config)})
    report = convert(whole, tmp_path / "there", layout="diffusers")
    folder = report.files[0].parent
    given = json.loads((folder / "config.json").read_text())
    name = given.pop("_class_name")
    model = getattr(importlib.import_module(f"diffusers.{MODULES[name]}"), name).from_config(given)
    tensors = load_file(report.files[0])
    model.load_state_dict(tensors, strict=True)
    for key, value in model.state_dict().items():
        assert np.array_equal(value.float().numpy(), tensors[key].to(torch.float32).numpy()), key
    if "attn_resolutions" in given:  # for no attention its own converter writes null
        model.register_to_config(attn_resolutions=None)
    _check_saved(model, name, whole, tmp_path / "saved")


def _check_saved(model: Any, name: str, whole: Path, folder: Path) -> None:
    """What diffusers saves of this model has the same official keys and tensors, and loads."""
    model.save_pretrained(folder)
    with open_checkpoint(whole, "torch") as ours, open_checkpoint(folder, "torch") as theirs:
        assert set(theirs.keys) <= set(ours.keys)
        assert theirs.keys
        for key in theirs.keys:
            assert bool((ours.tensor(key).float() == theirs.tensor(key).float()).all()), key
    for load in LOADERS[name]:
        for backend in ("torch", "mlx"):
            with without_weights():
                load(folder, backend=backend)
        if name in OF_STATE_DICTS:
            of_folder, of_state = (
                load(source, config=config, dtype="float32").state_dict()
                for source, config in ((folder, None), (model.state_dict(), model.config))
            )
            assert of_folder.keys() == of_state.keys()
            assert all(bool((x == of_state[key]).all()) for key, x in of_folder.items())
