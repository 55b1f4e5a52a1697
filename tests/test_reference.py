"""The compact choice of reference cases: small, complete, and equal to the full sets where those are there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reference.networks import make, read_table, widened

from ltx_models import load_video_decoder
from ltx_models.checkpoints import open_checkpoint
from tilekit import Tiling, decode_tiled

HERE = Path(__file__).parent / "reference"
MOST_BYTES = 10_000_000
# Every component of both versions, and of LTX-2.5, by the names of cases.
COMPONENTS = (
    "video_decoder_dec20_ video_decoder_dec23_ video_encoder_enc20_ video_encoder_enc23_ audio_decoder_ audio_encoder_"
    " audio_mel vocoder_20_ vocoder_23_ connectors_20_ connectors_23_ dit_video20 dit_audio20 dit_av20_ dit_video23"
    " dit_audio23 dit_av23_ upsampler_x2_ upsampler_temporal_ positions guiders samplers_ diffusion_steps tiled_decode_"
)
COMPONENTS25 = "diffvae_ dit_av25_ dit_video25_ dit_audio25_ duration_head_ te25_ video_encoder_ ancestral_ hdr_curves"


def test_the_choice_is_small() -> None:
    assert sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file()) <= MOST_BYTES


@pytest.mark.parametrize(("folder", "components"), [("ltx2", COMPONENTS), ("ltx25", COMPONENTS25)])
def test_every_component_has_a_case_with_outputs(folder: str, components: str) -> None:
    for component in components.split():
        found = sorted((HERE / folder).glob(f"{component}*.safetensors"))
        assert found, component
        for path in found:
            with open_checkpoint(path, "numpy") as checkpoint:
                assert any(key.startswith("output.") for key in checkpoint.keys), path.name


@pytest.mark.parametrize("folder", ["ltx2", "ltx25"])
def test_the_choice_says_what_the_full_set_says(folder: str, request: pytest.FixtureRequest) -> None:
    full = request.getfixturevalue({"ltx2": "reference", "ltx25": "reference25"}[folder])
    if full == HERE / folder:
        pytest.skip("the full set is not beside the project")
    for path in (HERE / folder).glob("*.safetensors"):
        whole = widened(full / path.name)
        for key, (dtype, shape, numbers) in widened(path).items():
            assert (dtype, shape) == whole[key][:2]
            np.testing.assert_array_equal(numbers, whole[key][2])
    for path in (HERE / folder).glob("*.json"):
        assert json.loads(path.read_text()) == json.loads((full / path.name).read_text())


def test_networks_are_drawn_alike_each_time(tmp_path: Path) -> None:
    table = HERE / "ltx2" / "networks.json.gz"
    for name in list(read_table(table))[:3]:
        once, again = (make(table, name, tmp_path / str(i)) for i in range(2))
        assert once.read_bytes() == again.read_bytes()
        for key, (_, shape, numbers) in widened(once).items():
            assert np.isfinite(numbers).all(), (key, shape)


@pytest.mark.parametrize("tile_batch_size", [1, 4])
def test_a_tiled_decode_is_the_official_one(reference: Path, tile_batch_size: int) -> None:
    """The network, the cuts and the blending at once; large results keep every fifth pixel."""
    torch: Any = pytest.importorskip("torch")
    path = reference / "tiled_decode_width_only_core120.safetensors"
    decoder = load_video_decoder(path, backend="torch", dtype="float32")
    given = {key: numbers.reshape(shape) for key, (_, shape, numbers) in widened(path).items() if "put." in key}
    tiling = Tiling(width=(96, 32))
    video = decode_tiled(
        decoder, torch.from_numpy(given["input.latent"].copy()), tiling, tile_batch_size=tile_batch_size
    )
    difference = video[..., ::5, ::5].numpy() - given["output.video_strided"]
    assert np.abs(difference).max() < 1e-3  # the official network differs from itself by 2.3e-4 in float64
    assert np.sqrt((difference**2).mean()) < 2e-5
