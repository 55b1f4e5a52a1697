"""
The transformer beside ltx-core 1.0.0 and diffusers on a CPU, kernels and time of MLX, and what a step costs the host.

    python benchmarks/transformer.py [speed] [mlx] [host] [--tokens 320] [--rounds 5] [--json FILE]

``speed``: a 2.3 model with one block of real width (4096 and 2048 channels), the same weights in memory for all
contestants, rounds interleaved, one thread: the whole forward pass, and its block alone with what it is given there.
Run it with a python that has ltx-core and diffusers; who is missing is left out. CPU time is the thread's own, which
other processes disturb less than wall time.
``mlx``: operations in the graph of one block, ours against one written by hand, eager and compiled, and their times.
``host``: how often a step would wait for the device, and how many bytes of weights it copies.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np

from ltx_models.nn import backend
from ltx_models.transformer import Modality, StreamConfig, Transformer, TransformerConfig


def real_config(layers=1, width=32, video=True, audio=True):
    """2.3 with `width` heads of 128 and 64 channels."""
    max_pos = (20.0, 2048.0, 2048.0)
    return TransformerConfig(
        video=StreamConfig(128, 128, width, 128, width * 128, max_pos) if video else None,
        audio=StreamConfig(128, 128, width, 64, width * 64, max_pos[:1]) if audio else None,
        layers=layers,
        gated=True,
        text_modulation=True,
    )


def inputs(of, tokens, audio_tokens, text, image=False):
    """NumPy inputs of both streams; with `image`, the first fifth of the video is clean."""
    from ltx_models.conditioning import audio_positions, video_positions

    rng = np.random.default_rng(0)
    found = {}
    for name, s, count in (("video", of.video, tokens), ("audio", of.audio, audio_tokens)):
        if s is None:
            continue
        levels = np.full((1, count), 0.7, np.float32)
        if image and name == "video":
            levels[:, : count // 5] = 0
        positions = video_positions(5, 8, count // 40, fps=24) if name == "video" else audio_positions(count)
        found[name] = {
            "latent": rng.standard_normal((1, count, s.in_channels)).astype(np.float32),
            "sigma": np.full(1, 0.7, np.float32),
            "timesteps": levels,
            "positions": positions,
            "context": rng.standard_normal((1, text, s.text_channels)).astype(np.float32),
        }
    return found


# ---- speed ---------------------------------------------------------------------------------------------------


def ours(weights, of):
    nn = backend("torch")
    model = nn.load(nn.build(lambda: Transformer(nn, of)), weights)

    def call(given):
        model(**{name: Modality(**fields) for name, fields in given.items()})

    return model, call


def ltx_core(weights, of):
    import torch
    from ltx_core.guidance.perturbations import BatchedPerturbationConfig
    from ltx_core.model.transformer.modality import Modality as Theirs
    from ltx_core.model.transformer.model_configurator import LTXModelConfigurator

    with torch.device("meta"):
        model = LTXModelConfigurator.from_config({"transformer": of.section()})
    model.load_state_dict(weights, strict=True, assign=True)

    def call(given):
        model(*(Theirs(**given[name]) for name in ("video", "audio")), BatchedPerturbationConfig.empty(1))

    return model.eval(), call


def diffusers(weights, of):
    import torch
    from diffusers import LTX2VideoTransformer3DModel

    from ltx_models.checkpoints.layouts._transformer import to_diffusers

    with torch.device("meta"):
        model = LTX2VideoTransformer3DModel(
            num_layers=of.layers,
            rope_type="split",
            gated_attn=True,
            cross_attn_mod=True,
            audio_gated_attn=True,
            audio_cross_attn_mod=True,
            use_prompt_embeddings=False,
            perturbed_attn=True,
            num_attention_heads=of.video.heads,
            cross_attention_dim=of.video.width,
            audio_num_attention_heads=of.audio.heads,
            audio_cross_attention_dim=of.audio.width,
        )
    model.load_state_dict({to_diffusers(k): w for k, w in weights.items()}, strict=True, assign=True)
    model.rope = None if not hasattr(model, "rope") else model.rope

    def call(given):
        video, audio = given["video"], given["audio"]
        model(
            hidden_states=video["latent"],
            audio_hidden_states=audio["latent"],
            encoder_hidden_states=video["context"],
            audio_encoder_hidden_states=audio["context"],
            timestep=video["timesteps"] * 1000,
            audio_timestep=audio["timesteps"] * 1000,
            sigma=video["sigma"] * 1000,
            audio_sigma=audio["sigma"] * 1000,
            video_coords=video["positions"],
            audio_coords=audio["positions"],
            use_cross_timestep=True,
            return_dict=False,
        )

    return model.eval(), call


def speed(args):
    import torch

    torch.set_num_threads(1)
    of = real_config()
    nn = backend("torch")
    shapes = nn.shapes(nn.build(lambda: Transformer(nn, of)))
    generator = torch.Generator().manual_seed(0)
    weights = {k: torch.randn(s, generator=generator) * (0.5 / max(s[-1], 1) ** 0.5) for k, s in shapes.items()}
    contestants = {}
    for make in (ours, ltx_core, diffusers):
        try:
            model, call = make(weights, of)
        except ImportError as error:
            print(f"{make.__name__}: left out ({error})")
            continue
        contestants[make.__name__] = (model.transformer_blocks[0], call)
    rows = []
    for scenario in ("uniform", "image"):
        given = inputs(of, args.tokens, 32, args.text, image=scenario == "image")
        given = {n: {f: torch.from_numpy(x) for f, x in fields.items()} for n, fields in given.items()}
        with torch.no_grad():
            runs = {name: partial(call, given) for name, (_, call) in contestants.items()}
            blocks = {name: caught(block, runs[name]) for name, (block, _) in contestants.items()}
            for what, calls, rounds in (("model", runs, args.rounds), ("block", blocks, 2 * args.rounds)):
                rows += [{"scenario": scenario, "what": what, **row} for row in timed(calls, rounds)]
    for row in rows:
        print(
            f"{row['scenario']:8s} {row['what']:6s} {row['who']:10s} {row['wall_s']:6.2f} s, {row['wall']:.2f}x ours, "
            f"of CPU time {row['cpu']:.2f}x ({row['cpu_spread'][0]:.2f}-{row['cpu_spread'][1]:.2f})"
        )
    return rows


def caught(block, run):
    """Run a model once, and give a call of its block with what the block was given."""
    seen = {}
    hook = block.register_forward_pre_hook(lambda _, args, kwargs: seen.update(a=args, k=kwargs), with_kwargs=True)
    run()
    hook.remove()
    return lambda: block(*seen["a"], **seen["k"])


def timed(calls, rounds):
    """Interleave the rounds; ratios are of the same round."""
    times = {name: {"wall": [], "cpu": []} for name in calls}
    for i in range(rounds + 1):
        for name, run in calls.items():
            gc.collect()
            begin = time.perf_counter(), time.thread_time()
            run()
            if i:  # the first round warms up
                times[name]["wall"].append(time.perf_counter() - begin[0])
                times[name]["cpu"].append(time.thread_time() - begin[1])
    for name, found in times.items():
        ratios = {k: [a / b for a, b in zip(found[k], times["ours"][k], strict=True)] for k in found}
        row = {"who": name, "wall_s": statistics.median(found["wall"]), "cpu_s": statistics.median(found["cpu"])}
        row |= {k: statistics.median(values) for k, values in ratios.items()}
        yield row | {"cpu_spread": [min(ratios["cpu"]), max(ratios["cpu"])]}


# ---- MLX -----------------------------------------------------------------------------------------------------


def by_hand(block, of, mx):
    """A video block of 2.3 in bare MLX, with the same weights: what someone would write who needs nothing else."""
    heads, eps = of.video.heads, of.eps

    def attend(a, x, ctx, cos=None, sin=None):
        b, t, _ = x.shape
        q = mx.fast.rms_norm(a.to_q(x), a.q_norm.weight, eps).reshape(b, t, heads, -1)
        k = mx.fast.rms_norm(a.to_k(ctx), a.k_norm.weight, eps).reshape(b, ctx.shape[1], heads, -1)
        v = a.to_v(ctx).reshape(b, ctx.shape[1], heads, -1)
        if cos is not None:
            r = q.shape[-1] // 2
            q = mx.concatenate([q[..., :r] * cos - q[..., r:] * sin, q[..., r:] * cos + q[..., :r] * sin], -1)
            k = mx.concatenate([k[..., :r] * cos - k[..., r:] * sin, k[..., r:] * cos + k[..., :r] * sin], -1)
        o = mx.fast.scaled_dot_product_attention(
            q.transpose(0, 2, 1, 3), k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3), scale=q.shape[-1] ** -0.5
        ).transpose(0, 2, 1, 3)
        o = o * (2 * mx.sigmoid(a.to_gate_logits(x)))[..., None]
        return a.to_out[0](o.reshape(b, t, -1))

    def forward(x, ctx, cos, sin, time, told):
        m = time + block.scale_shift_table
        kv = told + block.prompt_scale_shift_table
        y = mx.fast.rms_norm(x, None, eps) * (1 + m[:, 1:2]) + m[:, 0:1]
        x = x + attend(block.attn1, y, y, cos, sin) * m[:, 2:3]
        y = mx.fast.rms_norm(x, None, eps) * (1 + m[:, 7:8]) + m[:, 6:7]
        c = ctx * (1 + kv[:, 1:2]) + kv[:, 0:1]
        x = x + attend(block.attn2, y, c) * m[:, 8:9]
        y = mx.fast.rms_norm(x, None, eps) * (1 + m[:, 4:5]) + m[:, 3:4]
        return x + block.ff(y) * m[:, 5:6]

    return forward


def count(mx, *arrays):
    """Count operations in the graph of arrays that were not computed yet."""
    import re
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.dot"
        mx.export_to_dot(str(path), *arrays)
        labels = re.findall(r'\[label ="([^"]+)", shape=rectangle', path.read_text())
    # views that no device computes
    free = {"Reshape", "Transpose", "ExpandDims", "Squeeze", "Unflatten", "Flatten", "Slice", "Split", "Broadcast"}
    return len([x for x in labels if x not in free]), len(labels)


def mlx(args):
    import mlx.core as mx

    from ltx_models.compilation import compile_blocks
    from ltx_models.transformer.block import Stream
    from ltx_models.transformer.modulation import Levels

    of = real_config(width=args.mlx_heads, audio=False)
    nn = backend("mlx")
    model = nn.build(lambda: Transformer(nn, of))
    nn.synchronize(*nn.weights(model).values())
    block = model.transformer_blocks[0]
    given = inputs(of, 80, 0, 32)["video"]
    width = of.video.width
    x, ctx, time_, told = (mx.random.normal(s) for s in ((1, 80, width), (1, 32, width), (1, 9, width), (1, 2, width)))
    cos, sin = (mx.array(a) for a in of.rotary(of.video).tables(given["positions"]))
    mx.eval(x, ctx, time_, told, cos, sin)
    hand = by_hand(block, of, mx)
    stream = Stream(x, ctx, (cos, sin), Levels(time_, None, 1), text_time=Levels(told, None, 1))

    def run_ours():
        return block.forward(stream, None)[0]

    forms = {"ours": run_ours, "hand": lambda: hand(x, ctx, cos, sin, time_, told)}
    rows = {name: dict(zip(("kernels", "operations"), count(mx, run()), strict=True)) for name, run in forms.items()}
    difference = float(mx.abs(run_ours() - forms["hand"]()).max())
    compiled_hand = mx.compile(hand)
    compile_blocks(model)
    forms |= {
        "ours, compiled": lambda: block.forward(stream, None)[0],
        "hand, compiled": lambda: compiled_hand(x, ctx, cos, sin, time_, told),
    }
    for name in ("ours, compiled", "hand, compiled"):
        mx.eval(forms[name]())
        rows[name] = dict(zip(("kernels", "operations"), count(mx, forms[name]()), strict=True))
    # eager "ours" is the compiled one from here on, so time eager through a second model
    eager = nn.build(lambda: Transformer(nn, of)).transformer_blocks[0]
    eager.update(block.parameters())
    forms["ours"] = lambda: eager.forward(stream, None)[0]
    times = {name: [] for name in forms}
    for _ in range(args.rounds + 1):
        for name, run in forms.items():
            begin = time.perf_counter()
            mx.eval(run())
            times[name].append(time.perf_counter() - begin)
    for name, row in rows.items():
        row["ratio_to_hand"] = statistics.median(a / b for a, b in zip(times[name][1:], times["hand"][1:], strict=True))
        print(
            f"{name:16s} {row['kernels']:3d} kernels of {row['operations']:3d} operations, "
            f"{row['ratio_to_hand']:.2f}x by hand"
        )
    print(f"largest difference between ours and by hand: {difference:.1e}")
    return rows | {"difference": difference}


# ---- host ----------------------------------------------------------------------------------------------------


def host(args):
    """Count fetches to the host and copies of weights within denoising; on the meta device a fetch would raise."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from ltx_models.conditioning import add_noise, video_state
    from ltx_models.sampling import Guidance, State, Text, denoise

    nn = backend("torch")
    of = real_config(layers=2, audio=False)
    model = nn.build(lambda: Transformer(nn, of)).eval().requires_grad_(False)
    owned = {p.untyped_storage()._cdata for p in model.state_dict().values()}
    found = {"operations": 0, "fetches": 0, "weight_copies": 0}
    copying = {"aten::_to_copy", "aten::clone", "aten::copy_", "aten::cat"}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = func._schema.name
            found["operations"] += 1
            found["fetches"] += name in {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero"}
            if name in copying:
                tensors = [x for x in torch.utils._pytree.tree_leaves(args) if isinstance(x, torch.Tensor)]
                found["weight_copies"] += any(x.untyped_storage()._cdata in owned for x in tensors)
            return func(*args, **(kwargs or {}))

    like = torch.zeros(1, device="meta")
    state = add_noise(video_state((1, 128, 5, 8, 8), fps=24, like=like), 1.0, torch.randn_like)
    text = Text(*(torch.zeros(1, 64, of.video.text_channels, device="meta") for _ in range(2)))
    with Watch():
        denoise(model, State(state, text={"video": text}), (1.0, 0.5, 0.0), guidance=Guidance(3.0, 1.0, (1,)))
    print(f"2 steps of 3 passes of 2 blocks: {found}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["speed", "mlx", "host", []], default=[])
    parser.add_argument("--tokens", type=int, default=320, help="video tokens, a multiple of 40")
    parser.add_argument("--text", type=int, default=256, help="text tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mlx-heads", type=int, default=8, help="heads of the MLX block: 32 is the real width")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = {
        name: {"speed": speed, "mlx": mlx, "host": host}[name](args) for name in args.what or ("speed", "mlx", "host")
    }
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
