"""
Memory and time of loading a checkpoint in the official layout, plain, quantised and with blocks left in the file.

    python benchmarks/loading.py [--layers 4] [--file FILE] [--only "torch fp8" ...] [--json FILE]

The file is made first: a 2.3 transformer of real width with fewer blocks (4 blocks: 3.9 GB of bfloat16) and random
weights. Every case runs in a process of its own, with one thread. Peak is what the process held at most (VmHWM) above
what it held before loading, beside the weights that stay.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np

MB = 1e6
CASES = {
    "torch bfloat16": {"backend": "torch", "dtype": "bfloat16"},
    "torch float16 (converted)": {"backend": "torch", "dtype": "float16"},
    "torch fp8": {"backend": "torch", "dtype": "bfloat16", "quantize": "fp8"},
    "torch offload": {"backend": "torch", "dtype": "bfloat16", "offload": True},
    "torch offload, no prefetch": {"backend": "torch", "dtype": "bfloat16", "offload": True, "prefetch": False},
    "mlx bfloat16": {"backend": "mlx", "dtype": "bfloat16"},
    "mlx int4": {"backend": "mlx", "dtype": "bfloat16", "quantize": "int4"},
    "mlx offload": {"backend": "mlx", "dtype": "bfloat16", "offload": True},
}


def config(layers):
    from ltx_models.transformer import StreamConfig, TransformerConfig

    return TransformerConfig(
        video=StreamConfig(128, 128, 32, 128, 4096, (20.0, 2048.0, 2048.0)),
        audio=StreamConfig(128, 128, 32, 64, 2048, (20.0,)),
        layers=layers,
        gated=True,
        text_modulation=True,
    )


def make_file(path, layers):
    """Write the checkpoint tensor by tensor: random bfloat16 numbers of size about 0.01."""
    from ltx_models.nn import backend
    from ltx_models.transformer import Transformer

    of = config(layers)
    nn = backend("torch")
    shapes = nn.shapes(nn.build(lambda: Transformer(nn, of)))
    header, at = {"__metadata__": {"config": json.dumps({"transformer": of.section()}), "model_version": "2.3.0"}}, 0
    for key, shape in sorted(shapes.items()):
        size = 2 * int(np.prod(shape))
        header[f"model.diffusion_model.{key}"] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = (np.random.default_rng(0).standard_normal(1 << 22) * 0.01).astype(np.float32).view(np.uint32) >> 16
    noise = noise.astype(np.uint16)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        left = at // 2
        while left:
            part = noise[: min(left, len(noise))]
            file.write(part.tobytes())
            left -= len(part)
    return at


def status(key):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) * 1024


def run(path, options, tokens):
    """Load, run a step on few tokens, and print what it took."""
    import ltx_models
    from ltx_models.nn import backend

    nn = backend(options["backend"])
    if options["backend"] == "torch":
        import torch

        torch.set_num_threads(1)
        torch.ones(64, 64) @ torch.ones(64, 64)
    else:
        import mlx.core as mx

        mx.set_cache_limit(1 << 28)
        mx.eval(mx.ones((64, 64)) @ mx.ones((64, 64)))
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    begin = time.perf_counter()
    model = ltx_models.load_transformer(path, **options)
    seconds, loaded = time.perf_counter() - begin, status("VmHWM") - before
    sizes = {k: w.nbytes for k, w in nn.weights(model).items()}
    if options.get("offload"):  # what is left in the file has bfloat16 there and here
        sizes |= {k: 2 * w.size if nn.name == "mlx" else 2 * w.numel() for k, w in nn.weights(model).items()}
    block = sum(size for k, size in sizes.items() if k.startswith("transformer_blocks.0."))
    rest = sum(size for k, size in sizes.items() if not k.startswith("transformer_blocks."))
    found = {"load_s": seconds, "model_mb": sum(sizes.values()) / MB, "block_mb": block / MB, "rest_mb": rest / MB}
    found["load_peak_mb"] = loaded / MB
    if tokens:
        Path("/proc/self/clear_refs").write_text("5")
        begin = time.perf_counter()
        outputs = model(**streams(nn, tokens))
        nn.synchronize(*outputs)
        found |= {"step_s": time.perf_counter() - begin, "step_peak_mb": (status("VmHWM") - before) / MB}
    if hasattr(model, "offload"):
        found["most_resident"] = model.offload.most_resident
        model.offload.close()
    print(json.dumps(found))


def streams(nn, tokens):
    from ltx_models import Modality
    from ltx_models.conditioning import audio_positions, video_positions

    rng = np.random.default_rng(0)
    made = {}
    for name, channels, positions in (
        ("video", 4096, video_positions(1, 1, tokens, fps=24)),
        ("audio", 2048, audio_positions(tokens)),
    ):
        made[name] = Modality(
            latent=nn.asarray(rng.standard_normal((1, tokens, 128)).astype(np.float32)),
            sigma=nn.asarray(np.full(1, 0.5, np.float32)),
            timesteps=np.full((1, 1), 0.5, np.float32),
            positions=positions,
            context=nn.asarray(rng.standard_normal((1, 4, channels)).astype(np.float32)),
        )
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=8, help="tokens of the step after loading; 0 for none")
    parser.add_argument("--file", type=Path, help="use or make this file; a temporary one by default")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        return run(args.file, json.loads(args.case), args.tokens)
    with tempfile.TemporaryDirectory() as folder:
        path = args.file or Path(folder) / "checkpoint.safetensors"
        if not path.exists():
            make_file(path, args.layers)
        largest = 9 * 4096 * 4096 * 2 / MB
        print(f"{path.stat().st_size / MB:.0f} MB in the file, largest tensor {largest:.0f} MB")
        rows = {}
        for name in args.only:
            tokens = 0 if "int4" in name else args.tokens  # integers are slow on the CPU of MLX, and tell nothing here
            command = [sys.executable, __file__, "--file", path, "--tokens", str(tokens)]
            done = subprocess.run(
                [*map(str, command), "--case", json.dumps(CASES[name])], check=True, capture_output=True, text=True
            )
            rows[name] = row = json.loads(done.stdout.splitlines()[-1])
            wanted = row["model_mb"] if "offload" not in name else row["rest_mb"]
            row["above"] = (row["load_peak_mb"] - largest) / wanted - 1
            step = ""
            if "offload" in name and "step_peak_mb" in row:
                row["blocks_held"] = (row["step_peak_mb"] - row["rest_mb"]) / row["block_mb"]
                step = (
                    f"; a step peaks at {row['step_peak_mb']:.0f}: all but the blocks + {row['blocks_held']:.2f} blocks"
                )
            print(
                f"{name:28s} stays {wanted:5.0f} MB, load peaks at {row['load_peak_mb']:5.0f} MB "
                f"({row['above']:+.1%} beside one tensor), {row['load_s']:.1f} s{step}",
                flush=True,
            )
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1))
    return None


if __name__ == "__main__":
    main()
