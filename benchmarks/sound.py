"""
The sound networks beside ltx-core 1.0.0 and diffusers on a CPU, and the memory of streams as sound grows longer.

    python benchmarks/sound.py speed [--seconds 1] [--rounds 3] [--network audio-decoder ...]
    python benchmarks/sound.py memory [--seconds 10 60 600] [--network vocoder-2.3 ...] [--width 0.125]

``speed``: networks of the real configuration with seeded weights, the same for all contestants, one thread, rounds
interleaved; processor time of the thread, which other processes disturb less than wall time. Run it with a python
that has ltx-core and diffusers; who is missing is left out. ``memory``: each case in a process of its own; how much
the peak of resident memory rises over that of the loaded network, with sound that is made chunk by chunk and dropped.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np
import torch

from ltx_models.audio_vae import AudioDecoder, AudioEncoder, AudioVAEConfig
from ltx_models.nn import backend
from ltx_models.vocoder import BandwidthConfig, BandwidthVocoder, GeneratorConfig, Vocoder

AUDIO = AudioVAEConfig(channels=128, multipliers=(1, 2, 4), blocks=2, latent_channels=8)
BRANCHES = {"branch_sizes": (3, 7, 11), "dilations": ((1, 3, 5),) * 3}
HIFIGAN = GeneratorConfig(width=1024, rates=(6, 5, 2, 2, 2), sizes=(16, 15, 8, 4, 4), **BRANCHES)
AMP = {"activation": "snakebeta", "tanh": False, "bias": False, **BRANCHES}
BANDWIDTH = BandwidthConfig(
    vocoder=GeneratorConfig(width=1536, rates=(5, 2, 2, 2, 2, 2), sizes=(11, 4, 4, 4, 4, 4), sample_rate=16000, **AMP),
    extension=GeneratorConfig(
        width=512, rates=(6, 5, 2, 2, 2), sizes=(12, 11, 4, 4, 4), sample_rate=48000, bounded=False, **AMP
    ),
    sample_rate=48000,
    low_rate=16000,
    hop=80,
    n_fft=512,
)
NETWORKS = ("audio-encoder", "audio-decoder", "vocoder-2.0", "vocoder-2.3")


def narrowed(config, width):
    """Scale the channels of a configuration."""
    if isinstance(config, AudioVAEConfig):
        return replace(config, channels=round(config.channels * width))
    if isinstance(config, GeneratorConfig):
        return replace(config, width=round(config.width * width))
    parts = {name: narrowed(getattr(config, name), width) for name in ("vocoder", "extension")}
    return replace(config, **parts)


def ours(name, width=1.0, load=True):
    """Make one of the networks with seeded weights that keep activations near 1."""
    nn = backend("torch")
    body, config = {
        "audio-encoder": (AudioEncoder, AUDIO),
        "audio-decoder": (AudioDecoder, AUDIO),
        "vocoder-2.0": (Vocoder, HIFIGAN),
        "vocoder-2.3": (BandwidthVocoder, BANDWIDTH),
    }[name]
    module = nn.build(lambda: body(nn, narrowed(config, width)))
    torch.manual_seed(0)
    weights = {}
    for key, shape in nn.shapes(module).items():
        weights[key] = torch.randn(shape) * (0.7 / np.prod(shape[1:]) ** 0.5 if len(shape) > 1 else 0.1)
        if key.endswith("filter"):
            weights[key] = torch.hann_window(12, periodic=False).reshape(1, 1, 12) / 5.5
        elif key.endswith("mel_basis"):
            weights[key] = weights[key].abs()
        elif key.endswith("std-of-means"):
            weights[key] = weights[key].abs() + 0.5
    return nn.load(module, weights), weights


def sound(name, seconds, seed=0):
    """Draw what a network takes of so many seconds."""
    shape = (1, 8, round(25 * seconds), 16) if name == "audio-decoder" else (1, 2, round(100 * seconds), 64)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ltx_core(name, weights):
    """Make the network of ltx-core 1.0.0."""
    absent = "torchaudio" not in sys.modules  # it imports what only its mel front end uses
    sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))
    from ltx_core.model.audio_vae import model_configurator as configurators

    if absent:
        del sys.modules["torchaudio"]

    stages = {
        "upsample_initial_channel": HIFIGAN.width,
        "upsample_rates": list(HIFIGAN.rates),
        "upsample_kernel_sizes": list(HIFIGAN.sizes),
        "resblock": "1",
        "stereo": True,
    }
    if name == "vocoder-2.3":
        amp = {"resblock": "AMP1", "activation": "snakebeta", "stereo": True}
        amp |= {"use_tanh_at_final": False, "use_bias_at_final": False}
        parts = []
        for config in (BANDWIDTH.vocoder, BANDWIDTH.extension):
            sizes = {"upsample_rates": list(config.rates), "upsample_kernel_sizes": list(config.sizes)}
            parts.append({"upsample_initial_channel": config.width, **sizes, **amp})
        rates = {"input_sampling_rate": 16000, "output_sampling_rate": 48000}
        stages = {"vocoder": parts[0], "bwe": parts[1] | rates | {"hop_length": 80, "n_fft": 512, "num_mels": 64}}
    dd = {
        "double_z": True,
        "mel_bins": 64,
        "z_channels": 8,
        "resolution": 256,
        "in_channels": 2,
        "out_ch": 2,
        "ch": 128,
    }
    dd |= {"ch_mult": [1, 2, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    dd |= {"mid_block_add_attention": False, "norm_type": "pixel", "causality_axis": "height"}
    audio = {"model": {"params": {"ddconfig": dd, "sampling_rate": 16000}}}
    audio["preprocessing"] = {"stft": {"filter_length": 1024, "hop_length": 160, "causal": True}}
    audio["preprocessing"] |= {"mel": {"n_mel_channels": 64}}
    kind = {"audio-encoder": "AudioEncoder", "audio-decoder": "AudioDecoder"}.get(name, "Vocoder")
    config = {"vocoder": stages, "audio_vae": audio}
    model = getattr(configurators, f"{kind}Configurator").from_config(config)
    model.load_state_dict(weights, strict=kind == "Vocoder")
    return model.eval().requires_grad_(False)


def diffusers(name, weights):
    """Make the network of diffusers; it leaves the statistics of latents to others."""
    from diffusers import AutoencoderKLLTX2Audio
    from diffusers.pipelines.ltx2 import vocoder as vocoders

    if name.startswith("audio"):
        side = name.removeprefix("audio-")
        model = getattr(AutoencoderKLLTX2Audio(), side)
        model.load_state_dict({k: v for k, v in weights.items() if not k.startswith("per_channel")}, strict=True)
        return model.eval().requires_grad_(False)
    model = vocoders.LTX2Vocoder() if name == "vocoder-2.0" else vocoders.LTX2VocoderWithBWE()
    renames = [("resblocks", "resnets"), ("conv_pre", "conv_in"), ("conv_post", "conv_out"), ("act_post", "act_out")]
    renames += [("downsample.lowpass", "downsample")]
    found = {}
    for key, value in weights.items():
        for old, new in renames:
            key = key.replace(old, new)
        key = key.replace(".ups.", ".upsamplers.")
        found[f"upsamplers{key[3:]}" if key.startswith("ups.") else key] = value
    model.load_state_dict(found, strict=False)
    return model.eval().requires_grad_(False)


def speed(args):
    """Time the contestants."""
    torch.set_num_threads(1)
    print(
        "| network | seconds of sound | " + " | ".join(("ours", "ours, streamed", "ltx-core 1.0.0", "diffusers")) + " |"
    )
    for name in args.network:
        net, weights = ours(name)
        x = sound(name, args.seconds[0])
        chunk = 25 if name == "audio-decoder" else 100  # a second
        runs = {"ours": lambda net=net, x=x: net(x)}
        runs["streamed"] = lambda net=net, x=x, chunk=chunk: [None for _ in net.stream(x, frames_per_chunk=chunk)]
        for label, make in (("ltx-core", ltx_core), ("diffusers", diffusers)):
            with contextlib.suppress(ImportError):
                other = make(name, {key: value.clone() for key, value in weights.items()})
                runs[label] = lambda other=other, x=x: other(x)
        with torch.inference_mode():
            found = {label: run() for label, run in runs.items()}
            if "ltx-core" in found:
                error = float((found["ours"] - found["ltx-core"]).abs().max())
                print(f"{name}: largest difference from ltx-core {error:.1e}", file=sys.stderr)
            times = {label: [] for label in runs}
            for _ in range(args.rounds):
                for label, run in runs.items():
                    start = time.thread_time()
                    run()
                    times[label].append(time.thread_time() - start)
        medians = {label: statistics.median(values) for label, values in times.items()}
        base = medians["ours"]
        cells = [f"{value:.2f} s ({value / base:.2f})" for value in medians.values()]
        print(f"| {name} | {args.seconds[0]:g} | " + " | ".join(cells) + " |", flush=True)


def resident(field):
    """Read a figure of this process's memory, in MiB."""
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(field))
    return int(line.split()[1]) / 1024


def one(name, seconds, width):
    """Stream so many seconds through one network; print the rise of the peak, and the time."""
    net, _ = ours(name, width)
    parts = (sound(name, 1, seed=i) for i in range(int(seconds)))
    chunk = 25 if name == "audio-decoder" else 100
    with torch.inference_mode():
        for _ in net.stream((sound(name, 1) for _ in range(2)), frames_per_chunk=chunk):
            pass
        Path("/proc/self/clear_refs").write_text("5")
        before, start = resident("VmRSS"), time.perf_counter()
        length = sum(block.shape[2] for _, block in net.stream(parts, frames_per_chunk=chunk))
    took = time.perf_counter() - start
    print(f"{resident('VmHWM') - before:.0f} MiB over {before:.0f}, {length} cells, {took / seconds:.3f} s a second")


def memory(args):
    """Measure each case in a process of its own."""
    print("| network | width | " + " | ".join(f"{s:g} s" for s in args.seconds) + " |", flush=True)
    for name in args.network:
        cells = []
        for seconds in args.seconds:
            command = [sys.executable, __file__, "one", "--network", name, "--seconds", str(seconds)]
            command += ["--width", str(args.width)]
            cells.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        print(f"| {name} | {args.width:g} | " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "memory", "one"))
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--seconds", nargs="+", type=float)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=float, default=0.125)
    args = parser.parse_args()
    args.seconds = args.seconds or ([1.0] if args.what == "speed" else [10.0, 60.0, 600.0])
    if args.what == "one":
        one(args.network[0], args.seconds[0], args.width)
    else:
        {"speed": speed, "memory": memory}[args.what](args)


if __name__ == "__main__":
    main()
