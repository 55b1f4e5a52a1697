"""
The diffusion decoder of LTX-2.5 beside that of diffusers and the official one: the same weights, latents and noise.

    python benchmarks/diffusion_beside.py
    LTX_OFFICIAL=checkout python benchmarks/diffusion_beside.py --rounds 5

Every decode runs in a process of its own, on one thread, in float32; rounds are interleaved. Memory is the highest
resident set of the process over that before the decode, as Linux counts it. The official package ltx-core 1.2.0 is read
from a checkout of https://github.com/Lightricks/LTX-2, where ``LTX_OFFICIAL`` names one.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

SECTION = {
    "_class_name": "CausalDiffusionVAE",
    "latent_channels": 16,
    "model_output_type": "x0",
    "decoder": {
        "in_channels": 16,
        "out_channels": 3,
        "patch_size": 4,
        "head_dim": 16,
        "stage_channels": [128, 64, 32, 32, 32],
        "stage_depths": [2, 2, 2, 2, 4],
        "stage_kernels": [[3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [5, 5, 5]],
        "upsamples": [[[1, 2, 2], 2], [[2, 1, 1], 2], [[2, 2, 2], 1], [[2, 2, 2], 1]],
        "stage5_kernel": [5, 5, 5],
        "t_emb_dim": 32,
        "default_num_inference_steps": 1,
        "timestep_scale_multiplier": 1000,
    },
}
LATENTS = (1, 16, 3, 3, 3)
SEED = 3
Decode = Callable[[], Any]


def write(path: Path) -> None:
    """Write seeded weights under the official keys."""
    from ltx_models.nn import backend
    from ltx_models.video_vae.diffusion import DiffusionDecoder, DiffusionDecoderConfig

    nn, draw = backend("torch"), np.random.default_rng(0)
    config = DiffusionDecoderConfig.read(SECTION)
    tensors = {}
    for name, shape in nn.shapes(nn.build(lambda: DiffusionDecoder(nn, config))).items():
        ones = 1.0 if "norm" in name or "std-of-means" in name else 0.0
        values = ones + draw.standard_normal(shape) * (0.05 if ones else max(1, shape[-1]) ** -0.5)
        tensors[name if name.startswith("per_channel") else f"decoder.{name}"] = values.astype(np.float32)
    save_file(tensors, path, {"config": json.dumps({"vae": SECTION}), "model_version": "2.5.0"})


def latents() -> Any:
    return np.random.default_rng(1).standard_normal(LATENTS).astype(np.float32)


def field(shape: tuple[int, ...]) -> Any:
    """The noise, as torch draws it from the seed."""
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED))


def ours(path: Path, backend: Any, share: float | None = None, stream: bool = False) -> Decode:
    """Prepare our decoder, whole or within a share of the memory that the whole takes."""
    from ltx_models import decode_exact, load_video_decoder, plan_exact

    decoder = load_video_decoder(path, backend=backend, dtype="float32")
    nn = decoder.nn
    noise = [nn.asarray(field(decoder.noise_shape(LATENTS)).numpy())]
    given = nn.asarray(latents())
    whole = plan_exact(decoder, LATENTS).peak_bytes
    budget = None if share is None else int(whole * share)

    def decode() -> Any:
        if stream:
            return np.concatenate([nn.to_numpy(block) for _, block in decoder.stream(given, noise=noise)], axis=2)
        out = decode_exact(decoder, given, noise=noise, memory_bytes=budget)
        nn.synchronize(out)
        return nn.to_numpy(out)

    return decode


def theirs(path: Path) -> Decode:
    """Prepare that of diffusers, with the same weights by its names."""
    import torch
    from diffusers import LTX2VideoDiffusionDecoderModel

    part: Any = SECTION["decoder"]
    model = LTX2VideoDiffusionDecoderModel(
        latent_channels=16,
        decoder_head_dim=part["head_dim"],
        decoder_stage_channels=part["stage_channels"],
        decoder_stage_depths=part["stage_depths"],
        decoder_stage_kernels=part["stage_kernels"][:4],
        decoder_upsample_strides=[stride for stride, _ in part["upsamples"]],
        decoder_upsample_channel_reductions=[reduction for _, reduction in part["upsamples"]],
        decoder_stage5_kernel=part["stage5_kernel"],
        decoder_t_emb_dim=part["t_emb_dim"],
    )
    names = [
        ("t_embedder.mlp.0", "t_embedder.timestep_embedder.linear_1"),
        ("t_embedder.mlp.2", "t_embedder.timestep_embedder.linear_2"),
        ("attn.proj", "attn.to_out.0"),
        ("q_norm", "norm_q"),
        ("k_norm", "norm_k"),
        ("per_channel_statistics.mean-of-means", "latents_mean"),
        ("per_channel_statistics.std-of-means", "latents_std"),
    ]
    state: dict[str, Any] = {}
    for key, value in load_file(path).items():
        for old, new in names:
            key = key.replace(old, new)
        parts = zip("qkv", np.split(value, 3), strict=True) if ".qkv." in key else [("", value)]
        state |= {key.replace("qkv", f"to_{name}"): torch.tensor(x) for name, x in parts}
    model.load_state_dict(state)
    mean, std = (state[name].reshape(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    given = torch.tensor(latents()) * std + mean

    def decode() -> Any:
        out = model.decode(given, generator=torch.Generator().manual_seed(SEED))
        return out.sample.numpy()

    return decode


def official(path: Path) -> Decode:
    """Prepare the official one, in the mode that its tools use; the plain network needs CUDA there."""
    sys.path[:0] = [str(Path(os.environ["LTX_OFFICIAL"]) / "packages" / "ltx-core" / "src")]
    sys.path.append(str(Path(".nox", "official-packages").absolute()))  # where ``nox -s parity`` puts what it needs
    import torch

    vae = "ltx_core.model.video_vae"
    loader, making, modes = map(import_module, ("ltx_core.loader", f"{vae}.model_configurator", f"{vae}.transformer"))
    builder = loader.SingleGPUModelBuilder(
        model_path=str(path),
        model_class_configurator=making.VideoDecoderConfigurator,
        model_sd_ops=making.video_decoder_sd_ops_for_checkpoint(str(path), diffusion_vae=True, na_dsl_kernel=False),
        module_ops=(modes.build_diffvae_mode_op(modes.DiffVAEMode.CHUNKED_EAGER, None),),
    )
    decoder = builder.build(device=torch.device("cpu"), dtype=torch.float32).eval()
    given = torch.tensor(latents())
    return lambda: decoder(given, generator=torch.Generator().manual_seed(SEED)).numpy()


WAYS: dict[str, Callable[[Path], Decode]] = {
    "ours, whole": lambda path: ours(path, "torch"),
    "ours, half the memory": lambda path: ours(path, "torch", 0.5),
    "ours, a third": lambda path: ours(path, "torch", 0.34),
    "ours, stream": lambda path: ours(path, "torch", stream=True),
    "ours on MLX, whole": lambda path: ours(path, "mlx"),
    "ours on MLX, a third": lambda path: ours(path, "mlx", 0.34),
    "diffusers": theirs,
    "official, chunked_eager": official,
}


def one(name: str, path: Path, out: Path) -> None:
    """Decode once in this process; print seconds and bytes."""
    import torch

    torch.set_num_threads(1)
    decode = WAYS[name](path)
    gc.collect()
    with torch.inference_mode():
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # from here the highest is counted anew
        start = time.perf_counter()
        result = decode()
        took = time.perf_counter() - start
        peak = status("VmHWM") - before
    np.save(out, result)
    print(json.dumps([took, peak]))


def status(name: str) -> int:
    """Read a number of bytes that Linux keeps of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decoder.safetensors"
        write(path)
        found: dict[str, list[list[float]]] = {name: [] for name in WAYS}
        for _ in range(rounds):
            for number, name in enumerate(WAYS):
                if name.startswith("official") and "LTX_OFFICIAL" not in os.environ:
                    continue
                call = [sys.executable, __file__, "--one", name, str(path), f"{folder}/{number}.npy"]
                done = subprocess.run(call, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(f"{name}: {done.stderr.strip().splitlines()[-1]}")
                    continue
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
        want = np.load(f"{folder}/0.npy")
        base = statistics.median(took for took, _ in found["ours, whole"])
        print(f"video {want.shape}, largest value {np.abs(want).max():.2f}, ours whole {base:.2f} s")
        for number, (name, rows) in enumerate(found.items()):
            if rows:
                took, peak = (statistics.median(column) for column in zip(*rows, strict=True))
                error = np.abs(np.load(f"{folder}/{number}.npy") - want).max()
                print(f"| {name} | {error:.1e} | {took / base:.2f} | {peak / 2**20:.0f} MiB |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one[0], Path(args.one[1]), Path(args.one[2]))
    else:
        main(args.rounds)
