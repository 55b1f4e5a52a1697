"""The video autoencoder over two processes: `decode_exact`, `encode_exact` and `stream_decode` with `strips`."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
FILES = {
    "decoder": "video_decoder_dec20_two_layers",
    "noisy": "video_decoder_dec20_inject_noise",
    "encoder": "video_encoder_enc20_single_frame",
}


def test_two_ranks_decode_and_encode_as_one(oracle: Any, tmp_path: Path) -> None:
    files = {kind: str(next(iter(oracle(name))).path) for kind, name in FILES.items()}
    (tmp_path / "files.json").write_text(json.dumps(files))
    for rank in _ranks(tmp_path):
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


def _ranks(folder: Path) -> list[dict[str, Any]]:
    command = [sys.executable, str(Path(__file__).parent / "_strips_ranks.py"), str(folder)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        running = []
        for rank in range(2):
            log = stack.enter_context((folder / f"{rank}.log").open("wb"))
            started = subprocess.Popen(command, env=env | {"RANK": str(rank)}, stdout=log, stderr=log)
            stack.callback(started.wait)
            stack.callback(started.kill)
            running.append(started)
        for started in running:
            started.wait(timeout=150)
    said = "\n".join((folder / f"{rank}.log").read_text() for rank in range(2))
    assert all((folder / f"{rank}.json").exists() for rank in range(2)), said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_a_diffusion_decoder_is_refused(tmp_path: Path) -> None:
    from ltx_models.video_vae.strips import decode_strips

    class DiffusionDecoder:
        pass

    with pytest.raises(ValueError, match="a DiffusionDecoder cannot be shared among ranks"):
        decode_strips(DiffusionDecoder(), None, None, memory_bytes=None, timestep=None, noise=None)  # type: ignore[arg-type]
