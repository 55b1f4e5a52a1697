"""
How well the forecast of memory fits: real peaks of each step beside what was foretold, on checkpoints that are made.

Each row runs in a process of its own. A step's peak is what the process holds at most while it runs, by the system's
count, less what it held before the pipeline was made (the frameworks themselves).

    python benchmarks/memory.py              # the figures of docs/how-to/memory.md
    python benchmarks/memory.py --presets    # its table of what is chosen for 2.3: headers of that size, without data
    python benchmarks/memory.py --presets --version 2.5    # the same for 2.5, in docs/ltx25.md
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from ltx_models.convert.write import Entry, header_of

# arrays of this size are given back to the system when they are let go, as larger ones of real checkpoints are
SYSTEM = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "2"}
WEIGHTS = {
    "num_layers": 4,
    "num_attention_heads": 8,
    "attention_head_dim": 128,
    "cross_attention_dim": 1024,
    "audio_num_attention_heads": 8,
    "audio_attention_head_dim": 64,
    "audio_cross_attention_dim": 512,
}
CASES: dict[str, dict[str, Any]] = {
    "weights": {"transformer": WEIGHTS, "size": (128, 128, 9)},
    "tokens": {"transformer": WEIGHTS | {"num_layers": 1}, "size": (512, 512, 41)},
}
WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "fp8": {"quantize": "fp8"},
    "int8": {"quantize": "int8"},
    "int4": {"quantize": "int4"},
    "in turn": {"offload": True},
}


def resident(what: str) -> int:
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith(what))


def run(folder: Path, backend: str, dtype: str, case: str, way: str) -> None:
    """Run once, and print forecast and peaks as JSON."""
    from ltx_models.nn import backend as get_backend
    from ltx_models.pipelines import LTX2Pipeline
    from ltx_models.pipelines.forecast import forecast
    from ltx_models.pipelines.grid import Size

    nn = get_backend(backend)
    nn.synchronize(nn.xp.matmul(*[nn.asarray(np.ones((64, 64), np.float32))] * 2))
    height, width, frames = CASES[case]["size"]
    options: dict[str, Any] = WAYS[way] | {
        "backend": backend,
        "dtype": dtype,
        "upsampler": folder / "upsampler.safetensors",
    }
    pipe = LTX2Pipeline.from_pretrained(
        folder / "tiny-2.3.safetensors", pipeline="distilled", text_encoder=False, **options
    )
    draw, widths = np.random.default_rng(0), (WEIGHTS["cross_attention_dim"], WEIGHTS["audio_cross_attention_dim"])
    text = tuple(draw.normal(size=(1, 64, w)).astype(np.float32) for w in widths)
    found = forecast(pipe.components, pipe.recipe, Size(height, width, frames, 24.0), pipe.config, 2**29)
    before, peaks = resident("VmRSS:"), dict[str, int]()

    def progress(phase: str, done: int, total: int) -> None:
        if done == 0:
            Path("/proc/self/clear_refs").write_text("5")
        peaks[phase] = max(peaks.get(phase, 0), resident("VmHWM:") - before)

    size = {"height": height, "width": width, "num_frames": frames}
    pipe(prompt_embeds=text, streams=None, progress=progress, decode_bytes=2**29, **size)  # type: ignore[arg-type]
    print(json.dumps({"forecast": found, "peak": peaks}))


GIB = 2**30
GEMMA = {"hidden": 3840, "layers": 48, "heads": 16, "kv": 8, "head": 256, "inner": 15360, "words": 262208}


def hollow(path: Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, str]) -> Path:
    """Write a safetensors file of 16-bit tensors whose data are a hole."""
    entries = {key: Entry("BF16", shape, lambda: np.zeros(0, np.uint8)) for key, shape in shapes.items()}
    header, _ = header_of(entries, metadata)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(entry.size for entry in entries.values()))
    return path


def published(place: Path) -> dict[str, Path]:
    """Write headers of the sizes of LTX-2.3 and of its language model."""
    from ltx_models.checkpoints.layouts._published import published as sections
    from ltx_models.nn import backend as get_backend
    from ltx_models.transformer import Transformer, TransformerConfig
    from ltx_models.upsampler import LatentUpsampler, UpsamplerConfig
    from ltx_models.video_vae import VideoDecoder, VideoVAEConfig

    nn = get_backend("torch")
    config = sections("transformer", ["x.to_gate_logits"]) | sections("video_vae", ["decoder.up_blocks.8.x"])
    section, video = config["transformer"], VideoVAEConfig.read(config["vae"])
    made = {
        "model.diffusion_model.": nn.build(
            lambda: Transformer(nn, TransformerConfig.of(section, video=True, audio=True))
        ),
        "vae.decoder.": nn.build(lambda: VideoDecoder(nn, video)),
    }
    shapes = {f"{prefix}{key}": shape for prefix, module in made.items() for key, shape in nn.shapes(module).items()}
    shapes["model.diffusion_model.video_embeddings_connector.x"] = (2_017_000_000,)  # the connectors of 2.3 in all
    shapes["text_embedding_projection.x"] = (1_156_000_000,)
    whole = hollow(
        place / "ltx-2.3-22b-distilled.safetensors", shapes, {"config": json.dumps(config), "model_version": "2.3.0"}
    )
    up = UpsamplerConfig.read(
        {"in_channels": 128, "mid_channels": 1024, "num_blocks_per_stage": 4, "dims": 3, "spatial_upsample": True}
    )
    upsampler = hollow(place / "up.safetensors", nn.shapes(nn.build(lambda: LatentUpsampler(nn, up))), {})
    g, gemma = GEMMA, place / "gemma"
    gemma.mkdir()
    q, kv = g["heads"] * g["head"], g["kv"] * g["head"]
    layer = {
        "self_attn.q_proj": (q, g["hidden"]),
        "self_attn.k_proj": (kv, g["hidden"]),
        "self_attn.v_proj": (kv, g["hidden"]),
    }
    layer |= {"self_attn.o_proj": (g["hidden"], q), "mlp.gate_proj": (g["inner"], g["hidden"])}
    layer |= {"mlp.up_proj": (g["inner"], g["hidden"]), "mlp.down_proj": (g["hidden"], g["inner"])}
    names = {
        f"language_model.model.layers.{i}.{name}.weight": shape
        for i in range(g["layers"])
        for name, shape in layer.items()
    }
    hollow(
        gemma / "model.safetensors", names | {"language_model.model.embed_tokens.weight": (g["words"], g["hidden"])}, {}
    )
    (gemma / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    (gemma / "tokenizer.json").write_text("{}")
    return {"path": whole, "upsampler": upsampler, "text_encoder": gemma}


GEMMA4 = {"hidden": 3840, "layers": 48, "inner": 15360, "words": 262144}
TOKENIZER = b'{"model": {}}'
DIFFUSION_DECODER = {
    "in_channels": 128,
    "out_channels": 3,
    "patch_size": 4,
    "head_dim": 64,
    "stage_channels": [2048, 1024, 512, 512, 256],
    "stage_depths": [4, 6, 4, 2, 8],
    "stage_kernels": [[3, 7, 7], [3, 7, 7], [3, 5, 5], [3, 5, 5], [11, 11, 11]],
    "upsamples": [[[1, 2, 2], 2], [[2, 1, 1], 2], [[2, 2, 2], 1], [[2, 2, 2], 2]],
    "stage5_kernel": [11, 11, 11],
    "t_emb_dim": [384],
    "timestep_scale_multiplier": 1000,
    "default_num_inference_steps": 1,
}


def published_apart(place: Path) -> dict[str, Path]:
    """Write headers of the sizes of LTX-2.5: transformer, text encoder, diffusion decoder, upsampler."""
    from ltx_models.checkpoints.layouts._published import published as sections
    from ltx_models.nn import backend as get_backend
    from ltx_models.transformer import Transformer, TransformerConfig
    from ltx_models.video_vae.diffusion import DiffusionDecoder, DiffusionDecoderConfig

    nn = get_backend("torch")
    section = sections("transformer", ["x.to_gate_logits"])["transformer"]
    section = section | {"ff_bias": False, "use_keyframes_abs_pos_embedding": True}
    own = nn.shapes(nn.build(lambda: Transformer(nn, TransformerConfig.of(section))))
    shapes = {f"model.diffusion_model.{key}": shape for key, shape in own.items()}
    shapes["model.diffusion_model.video_embeddings_connector.x"] = (2_017_000_000,)  # the connectors of 2.3 in all
    version = {"model_version": "2.5.0"}
    gemma = {"ltx_version": "2.5.0", "gemma_version": "gemma4-12b-ltx-v1"}
    said = version | {"config": json.dumps({"transformer": section}), "gemma_source_checkpoint": json.dumps(gemma)}
    transformer = hollow(place / "ltx-2.5-22b-distilled-transformer-bf16.safetensors", shapes, said)
    vae: dict[str, Any] = {"_class_name": "CausalDiffusionVAE", "latent_channels": 128, "model_output_type": "x0"}
    vae["decoder"] = DIFFUSION_DECODER
    decoder = nn.shapes(nn.build(lambda: DiffusionDecoder(nn, DiffusionDecoderConfig.read(vae))))
    video = hollow(
        place / "vae.safetensors",
        {f"decoder.{key}": shape for key, shape in decoder.items()},
        version | {"config": json.dumps({"vae": vae})},
    )
    upsampler = published(place / "2.3")["upsampler"]
    return {"transformer": transformer, "text_encoder": text_encoder(place), "video_vae": video, "upsampler": upsampler}


def text_encoder(place: Path) -> Path:
    """Write the header of the fine-tuned Gemma 4 with its projections, and what stands for its tokenizer."""
    hidden, inner = GEMMA4["hidden"], GEMMA4["inner"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (GEMMA4["words"], hidden)}
    for i in range(GEMMA4["layers"]):
        full = i % 6 == 5
        q, kv = (16 * 512, 512) if full else (16 * 256, 8 * 256)
        layer = {"self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.o_proj": (hidden, q)}
        layer |= {} if full else {"self_attn.v_proj": (kv, hidden)}
        layer |= {"mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    shapes["text_embedding_projection.x"] = (1_156_000_000,)
    config: dict[str, Any] = {"model_type": "gemma4_unified", "gemma_version": "gemma4-12b-ltx-v1"}
    config["text_config"] = {"num_hidden_layers": GEMMA4["layers"], "hidden_size": hidden}
    said = {"gemma_config": json.dumps(config), "tokenizer_config.json": "{}", "processor_config.json": "{}"}
    entries = {key: Entry("BF16", shape, lambda: np.zeros(0, np.uint8)) for key, shape in shapes.items()}
    entries["tokenizer_json"] = Entry("U8", (len(TOKENIZER),), lambda: np.zeros(0, np.uint8))
    header, order = header_of(entries, said)
    assert order[-1] == "tokenizer_json"
    path = place / "gemma4.safetensors"
    with path.open("wb") as file:
        file.write(header)
        file.seek(len(header) + sum(entry.size for entry in entries.values()) - len(TOKENIZER))
        file.write(TOKENIZER)
    return path


def presets(version: str) -> None:
    """Print what is chosen for amounts of memory, and what is foretold for the distilled pipeline's standard size."""
    from ltx_models.pipelines import LTX2Pipeline, memory
    from ltx_models.pipelines.forecast import Decode, forecast
    from ltx_models.pipelines.grid import Size

    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "2.3").mkdir()
        files = published_apart(Path(place)) if version == "2.5" else published(Path(place))
        for name in ("CUDA", "torch", "mlx"):
            backend = "mlx" if name == "mlx" else "torch"
            print(f"\n{name}\n")
            print("| `--memory` | transformer | language model | text | stage 1 | upsample | stage 2 | decode |")
            print("|---|---|---|---|---|---|---|---|")
            for amount in (8, 16, 24, 32, 48, 64, 80):
                if name == "CUDA":  # which need not be there to be planned for
                    memory.SPARE = memory.SPARE_OF_CUDA
                else:
                    memory.SPARE = 0.25
                try:
                    options: dict[str, Any] = files | {"backend": backend, "memory_bytes": amount * GIB}
                    pipe = LTX2Pipeline.from_pretrained(pipeline="distilled", **options)
                except ValueError as error:
                    print(f"| {amount}GB | {error} |")
                    continue
                assert pipe.memory is not None
                size = Size(1024, 1536, 121, 24.0)
                try:
                    room = Decode.read(pipe.components.files.of("video_decoder"), size, 2).budget(
                        pipe.memory.decode_bytes
                    )
                    found = forecast(pipe.components, pipe.recipe, size, pipe.config, room)
                except ValueError as error:
                    print(f"| {amount}GB | {error} |")
                    continue
                held = [way(pipe.memory.quantize, pipe.memory.offload)]
                held.append(way(pipe.memory.text_quantize, pipe.memory.text_offload))
                print(f"| {amount}GB | {' | '.join(held)} | {' | '.join(f'{x / GIB:.1f}' for x in found.values())} |")


def way(scheme: str | None, offload: bool) -> str:
    return ", ".join([*([scheme] if scheme else []), *(["in turn"] if offload else [])]) or "as it is"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", action="store_true")
    parser.add_argument("--version", choices=("2.3", "2.5"), default="2.3")
    parser.add_argument("--run", nargs=5, metavar="ARG")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    if args.presets:
        presets(args.version)
        return
    if args.run:
        folder, *rest = args.run
        run(Path(folder), *rest)
        return
    from tests.ltx_models.pipeline_files import write_whole

    from ltx_models.nn import backend as get_backend
    from ltx_models.quantization import SCHEMES

    print("| checkpoint | backend | transformer | step | forecast MiB | peak MiB | peak / forecast |")
    print("|---|---|---|---|---|---|---|")
    for case, facts in CASES.items():
        with tempfile.TemporaryDirectory() as place:
            write_whole(Path(place), get_backend("torch"), facts["transformer"])
            for backend in ("torch", "mlx"):
                for way, options in WAYS.items():
                    scheme = options.get("quantize")
                    if scheme not in {None, *SCHEMES[backend]} or (case == "tokens" and way != "as it is"):
                        continue
                    line = [sys.executable, __file__, "--run", place, backend, args.dtype, case, way]
                    done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | SYSTEM)
                    if done.returncode:
                        print(f"| {case} | {backend} | {way} | {done.stderr.splitlines()[-1]} |")
                        continue
                    told = json.loads(done.stdout.splitlines()[-1])
                    for step, n_bytes in told["forecast"].items():
                        peak = told["peak"][step]
                        row = (case, backend, way, step, f"{n_bytes / 2**20:.0f}", f"{peak / 2**20:.0f}")
                        print(f"| {' | '.join(row)} | {peak / n_bytes:.2f} |", flush=True)


if __name__ == "__main__":
    main()
