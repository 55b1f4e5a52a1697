"""
What one of two processes does for `test_strips`: ``python _strips_ranks.py FOLDER``, RANK in the environment.

``FOLDER/files.json`` names the files of networks; what came is written to ``FOLDER/RANK.json``.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist

from ltx_models import (
    Strips,
    cli,
    decode_exact,
    default_checkpoint,
    encode_exact,
    load_video_decoder,
    load_video_encoder,
    stream_decode,
)
from ltx_models.media import VideoWriter, as_float32

COMMAND = ["decode", "--backend", "torch", "--device", "cpu", "--dtype", "float32", "--audio", "none"]
COMMAND += ["--checkpoint", str(default_checkpoint())]
RANK, WORLD = int(os.environ.get("RANK", "0")), 2


def decoded(path: str, strips: Strips) -> dict[str, Any]:
    """Decode together: at once, and as a stream from the middle on."""
    decoder = load_video_decoder(path, dtype="float32")
    z = torch.randn(1, decoder.config.latent_channels, 4, 3, 4, generator=torch.Generator().manual_seed(0))
    noise = _noise(decoder, z)
    want = decoder(z, noise=noise)
    strip = decode_exact(decoder, z, noise=noise, strips=strips, memory_bytes=1 << 28)
    told: dict[str, Any] = {"error": float((strip.array - want[strip.place]).abs().max()), "sent": strips.sent_bytes}
    told["scale"] = float(want.abs().max())
    blocks = list(stream_decode(decoder, z, noise=noise, strips=strips, start=20))
    told["starts"] = [start for start, _ in blocks]
    told["stream"] = max(float((part.array - want[part.place]).abs().max()) for _, part in blocks)
    told["frames"] = sum(part.array.shape[2] for _, part in blocks)
    return told


def heard(path: str, strips: Strips) -> list[int]:
    """Hear of blocks."""
    decoder, starts = load_video_decoder(path, dtype="float32"), list[int]()
    z = torch.zeros(1, decoder.config.latent_channels, 2, 3, 4)
    decode_exact(decoder, z, strips=strips, on_frames_ready=lambda part, start: starts.append(start))
    return starts


def _noise(decoder: Any, z: Any) -> list[Any] | None:
    """Draw what a decoder would, the same on all ranks."""
    sites = [(block.inject_noise, block.num_layers, block) for block in decoder.config.decoder_blocks]
    if not decoder.conditioned and not any(noisy for noisy, _, _ in sites):
        return None
    drawn = torch.Generator().manual_seed(3)
    noise = [torch.randn(z.shape, generator=drawn)] if decoder.conditioned else []
    height, width = z.shape[3:]
    for noisy, layers, block in sites:
        if block.name == "res_x":
            noise += [torch.randn(height, width, generator=drawn) for _ in range(2 * layers if noisy else 0)]
        else:
            height, width = height * block.stride[1], width * block.stride[2]
    return noise


def encoded(path: str, strips: Strips) -> dict[str, Any]:
    """Encode together."""
    encoder = load_video_encoder(path, dtype="float32")
    video = torch.rand(1, 3, 9, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    want = encoder(video)
    strip = encode_exact(encoder, video, strips=strips)
    return {"error": float((strip.array - want[strip.place]).abs().max()), "scale": float(want.abs().max())}


def refused(files: dict[str, str], strips: Strips) -> dict[str, str]:
    """Leave noise out, give other noise to each rank, give a start beyond the end, and a plan of one device."""
    told = {}
    plain, noisy = (load_video_decoder(files[name], dtype="float32") for name in ("decoder", "noisy"))
    z = torch.zeros(1, noisy.config.latent_channels, 2, 3, 4)
    y = torch.zeros(1, plain.config.latent_channels, 2, 3, 4)
    other = [draw + RANK for draw in _noise(noisy, z) or []]
    calls: dict[str, Callable[[], Any]] = {
        "noise": lambda: decode_exact(noisy, z, strips=strips),
        "other": lambda: decode_exact(noisy, z, noise=other, strips=strips),
        "start": lambda: stream_decode(plain, y, strips=strips, start=10),
        "plan": lambda: decode_exact(plain, y, strips=strips, plan=1),  # type: ignore[arg-type]
    }
    for name, call in calls.items():
        try:
            call()
        except ValueError as error:
            told[name] = str(error)
    return told


@contextmanager
def noting_frames(path: Path) -> Iterator[None]:
    """Save the frames that a video is given meanwhile, before they are compressed."""
    blocks: list[Any] = []
    write = VideoWriter.write

    def note(self: VideoWriter, block: Any) -> None:
        blocks.append(as_float32(block))
        write(self, block)

    with patch.object(VideoWriter, "write", note):
        yield
    if blocks:
        np.save(path, np.concatenate(blocks, axis=2))


def commanded(folder: Path) -> int:
    """Run the command line as torchrun would; only rank 0 writes."""
    os.environ.update(WORLD_SIZE=str(WORLD), MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
    with noting_frames(folder / f"{RANK}.npy"):
        return cli.main([*COMMAND, str(folder / "z.safetensors"), "-o", str(folder / f"{RANK}.mp4")])


def main(folder: Path) -> None:
    """Make all cases."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    files = json.loads((folder / "files.json").read_text())
    store = torch._C._distributed_c10d.FileStore(str(folder / "store"), WORLD)
    dist.init_process_group("gloo", store=store, rank=RANK, world_size=WORLD, timeout=timedelta(seconds=60))
    strips = Strips()
    told: dict[str, Any] = {name: decoded(files[name], strips) for name in ("decoder", "noisy")}
    told["heard"] = heard(files["decoder"], strips)
    told["encoder"] = encoded(files["encoder"], strips)
    told["refused"] = refused(files, strips)
    told["cli"] = commanded(folder)
    (folder / f"{RANK}.json").write_text(json.dumps(told))
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
