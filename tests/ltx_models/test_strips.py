"""The video autoencoder over two processes: `decode_exact`, `encode_exact` and `stream_decode` with `strips`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltx_models.cli import main
from ltx_models.media import iter_frames
from ltx_models.media.latents import write_latents
from ltx_models.video_vae.config import LTX2, LTX2_3
from ltx_models.video_vae.sharing import plan_sharing
from tilekit import PlanError

pytest.importorskip("torch")
from tests.ltx_models._strips_ranks import COMMAND, noting_frames
from tests.ranks import told_by_ranks

FILES = {
    "decoder": "video_decoder_dec20_two_layers",
    "noisy": "video_decoder_dec20_inject_noise",
    "encoder": "video_encoder_enc20_single_frame",
}


def test_two_ranks_decode_and_encode_as_one(oracle: Any, tmp_path: Path) -> None:
    files = {kind: str(next(iter(oracle(name))).path) for kind, name in FILES.items()}
    (tmp_path / "files.json").write_text(json.dumps(files))
    z = np.random.default_rng(0).standard_normal((1, 128, 2, 2, 4)).astype(np.float32)
    write_latents(tmp_path / "z.safetensors", z, fps=24)
    alone = tmp_path / "alone.mp4"
    with noting_frames(tmp_path / "alone.npy"):
        assert main([*COMMAND, str(tmp_path / "z.safetensors"), "-o", str(alone)]) == 0
    script = Path(__file__).parent / "_strips_ranks.py"
    modules = ("torch.distributed", "torch._dynamo", "av", "ltx_models.pipelines", "ltx_models.cli")
    for rank in told_by_ranks(2, script, tmp_path, *modules):
        assert rank["cli"] == 0
        for name in ("decoder", "noisy"):
            told = rank[name]
            assert told["error"] <= 1e-5 * max(1, told["scale"])
            assert told["stream"] <= 1e-5 * max(1, told["scale"])
            assert told["starts"][0] == 20
            assert told["frames"] == 25 - 20
        assert rank["heard"][0] == 0
        assert rank["heard"] == sorted(set(rank["heard"]))
        assert rank["encoder"]["error"] <= 1e-5 * max(1, rank["encoder"]["scale"])
        assert "give noise=, the same to all ranks" in rank["refused"]["noise"]
        assert "rank 1 was called with another noise[0]" in rank["refused"]["other"]
        assert "expected a frame from 0 to 9" in rank["refused"]["start"]
        assert "memory_bytes" in rank["refused"]["plan"]
    # before they are compressed, which makes ten levels of 255 of one
    one, other = (np.load(tmp_path / f"{name}.npy") for name in ("0", "alone"))
    assert one.shape == other.shape == (1, 3, 9, 64, 128)
    assert np.abs(one - other).max() <= 1e-4
    assert [len(list(iter_frames(path))) for path in (tmp_path / "0.mp4", alone)] == [9, 9]
    assert not (tmp_path / "1.mp4").exists()
    assert not (tmp_path / "1.npy").exists()


def test_a_diffusion_decoder_is_refused(tmp_path: Path) -> None:
    from ltx_models.video_vae.strips import decode_strips

    class DiffusionDecoder:
        pass

    with pytest.raises(ValueError, match="a DiffusionDecoder cannot be shared among ranks"):
        decode_strips(DiffusionDecoder(), None, None, memory_bytes=None, timestep=None, noise=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("config", [LTX2, LTX2_3])
def test_a_border_costs_what_was_measured(config: Any) -> None:
    """A third of a GiB for one cut of 1920x1088 and 121 frames in width, in bfloat16."""
    shared = plan_sharing(config, (1, 128, 16, 34, 60), 2)
    assert shared.grid == (1, 2)
    assert shared.shares == (0.5, 0.5)
    if config is LTX2:
        assert sum(shared.sent_bytes) / 2**30 == pytest.approx(0.3267, abs=1e-4)
    assert plan_sharing(config, (1, 128, 16, 34, 60), 1).sent_bytes == (0,)
    with pytest.raises(PlanError, match="each rank needs at least one"):
        plan_sharing(config, (1, 128, 16, 2, 2), 8)


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("ranks", [2, 4])
def test_the_forecast_is_what_the_engine_sends(decode: bool, ranks: int) -> None:
    torch = pytest.importorskip("torch")
    from ltx_models import default_checkpoint, load_video_decoder, load_video_encoder
    from tilekit._exact.forecast import no_scratch
    from tilekit._exact.strips.choose import plans_of
    from tilekit._exact.trace import trace

    load: Any = load_video_decoder if decode else load_video_encoder
    network, shape = load(default_checkpoint(), dtype="float32"), (1, 128, 2, 4, 6)
    x = torch.zeros(shape if decode else (1, 3, 9, 128, 192))
    with torch.no_grad():
        plans = plans_of(trace(network, x).graph, ranks, None, no_scratch)
    shared = plan_sharing(network.config, shape, ranks, decode=decode, itemsize=4)
    programs = [plans.of(rank) for rank in range(ranks)]
    assert shared.sent_bytes == tuple(sum(program.sent.values()) for program in programs)
    total = sum(program.work_done for program in programs)
    assert shared.shares == pytest.approx([program.work_done / total for program in programs])


@pytest.mark.parametrize(
    ("blocks", "ranks"),
    [
        (("space", 4, "all", 2, "all", 2), 2),
        (("all", 2, "space", 4, "all", 2), 2),
        (("all", 2, "all", 2, "space", 4), 2),
        (("space", 4, "space", 4), 4),
    ],
)
def test_an_encoder_that_widens_its_channels_sends_what_is_forecast(blocks: tuple[Any, ...], ranks: int) -> None:
    """Beside the convolution waits a mean of the same cells, whose border need not be sent as well."""
    pytest.importorskip("torch")
    import torch

    from ltx_models.nn import backend
    from ltx_models.video_vae import VideoEncoder
    from ltx_models.video_vae.config import BlockConfig
    from tilekit._exact.forecast import no_scratch
    from tilekit._exact.strips.choose import plans_of
    from tilekit._exact.trace import trace

    rows = tuple(BlockConfig(f"compress_{kind}", 1, n) for kind, n in zip(blocks[::2], blocks[1::2], strict=True))
    config = replace(LTX2, encoder_blocks=rows, encoder_base_channels=16)
    network: Any = VideoEncoder(backend("torch"), config)
    time, height, width = config.encoder_scale
    x = torch.zeros(1, 3, 1 + time, 4 * height, 6 * width)
    plans = plans_of(trace(network.requires_grad_(False), x).graph, ranks, None, no_scratch)
    shared = plan_sharing(config, (1, 128, 2, 4, 6), ranks, decode=False, itemsize=4)
    assert shared.sent_bytes == tuple(sum(plans.of(rank).sent.values()) for rank in range(ranks))


def test_the_command_line_forecasts_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--size", "1920x1088", "--frames", "121", "--devices", "8"]) == 0
    told = capsys.readouterr().out
    assert "strips: exact, 2 x 4, work 1.00, balance 100%, 8.0 times as fast" in told
    assert "tiles:  blended, work 1.79, balance 97%, 4.3 times as fast" in told
    assert main(["plan", "--size", "64x64", "--frames", "9", "--devices", "8"]) == 0
    assert "8 ranks, but the latents have 2 x 2 cells" in capsys.readouterr().out


def test_tiles_are_refused_under_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_latents(tmp_path / "z.safetensors", np.zeros((1, 128, 2, 2, 2), np.float32), fps=24)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert main([*COMMAND, str(tmp_path / "z.safetensors"), "-o", str(tmp_path / "v.mp4"), "--tiling", "default"]) == 2
    assert "2 processes of torchrun share an exact decode" in capsys.readouterr().err
