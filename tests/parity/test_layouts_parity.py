"""Folders that conversion writes load into diffusers' own classes, with no key missing, unexpected or misshapen."""

import importlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltx_models.checkpoints import Checkpoint, open_checkpoint
from ltx_models.convert import convert
from ltx_models.convert.write import Entry, write_file

MODULES = {
    "LTX2VideoTransformer3DModel": "models.transformers.transformer_ltx2",
    "LTX2TextConnectors": "pipelines.ltx2.connectors",
    "AutoencoderKLLTX2Video": "models.autoencoders.autoencoder_kl_ltx2",
    "AutoencoderKLLTX2Audio": "models.autoencoders.autoencoder_kl_ltx2_audio",
    "LTX2Vocoder": "pipelines.ltx2.vocoder",
    "LTX2VocoderWithBWE": "pipelines.ltx2.vocoder",
    "LTX2LatentUpsamplerModel": "pipelines.ltx2.latent_upsampler",
}
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
    kind = getattr(importlib.import_module(f"diffusers.{MODULES[given['_class_name']]}"), given.pop("_class_name"))
    model = kind.from_config(given)
    tensors = load_file(report.files[0])
    model.load_state_dict(tensors, strict=True)
    for key, value in model.state_dict().items():
        assert np.array_equal(value.float().numpy(), tensors[key].to(torch.float32).numpy()), key
