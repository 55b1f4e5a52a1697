"""``ltx-models vocode | audio-roundtrip | upscale-latents``: sound from spectrograms, and larger latents."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import ltx_models
from ltx_models.cli import options, report
from ltx_models.cli.machine import taken
from ltx_models.cli.meter import Meter
from ltx_models.cli.network import array_for, checkpoint_of, files_of, named
from ltx_models.cli.stopping import look
from ltx_models.defaults import toy_checkpoint
from ltx_models.media import MediaError, read_audio, read_latents, refuse_same, refuse_unwritable, write_latents
from ltx_models.media._places import LATENTS
from ltx_models.pipelines.belonging import check_present
from ltx_models.pipelines.files import Files

SECONDS = 1 << 16  # samples of a waveform at once


def add(verbs: Any) -> None:
    """Declare the verbs."""
    _add_vocode(verbs)
    _add_roundtrip(verbs)
    _add_upscale(verbs)


def _add_vocode(verbs: Any) -> None:
    text = "turn a log-mel spectrogram into a wav file, in constant memory"
    parser = verbs.add_parser("vocode", help=text, description=f"{text.capitalize()}.")
    parser.add_argument("mel", type=Path, metavar="MEL", help="safetensors file with a tensor 'mel', (1, 2, T, 64)")
    _add_output(parser, "sound.wav")
    _add_network(parser)
    parser.set_defaults(run=vocode)


def _add_roundtrip(verbs: Any) -> None:
    text = "pass sound through spectrogram, autoencoder and vocoder, back to a wav file"
    parser = verbs.add_parser("audio-roundtrip", help=text, description=f"{text.capitalize()}.")
    parser.add_argument("file", type=Path, metavar="FILE", help="wav, flac, mp3, or a clip with sound")
    parser.add_argument(
        "--channels", type=int, nargs=2, metavar=("LEFT", "RIGHT"), help="of a file with more than two, counted from 0"
    )
    _add_output(parser, "roundtrip.wav")
    _add_network(parser)
    parser.set_defaults(run=roundtrip)


def _add_upscale(verbs: Any) -> None:
    text = "enlarge latents with a latent upsampler"
    parser = verbs.add_parser("upscale-latents", help=text, description=f"{text.capitalize()}.")
    parser.add_argument("latents", type=Path, metavar="LATENTS", help="a file of 'ltx-models encode'")
    parser.add_argument(
        "--upsampler", type=Path, required=True, metavar="PATH", help="safetensors file of the upsampler"
    )
    _add_output(parser, "upscaled.safetensors")
    options.add_model(parser)
    group = parser.add_argument_group("tiles")
    for name in ("frames", "height", "width"):
        group.add_argument(
            f"--tile-{name}", type=options.positive, metavar="N", help=f"most {name} of a tile in latents; default: all"
        )
    options.add_debug(parser)
    parser.set_defaults(run=upscale)


def _add_output(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("-o", "--output", type=Path, default=Path(default), metavar="FILE", help=f"default: {default}")


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Declare networks of sound; the package ships those of the toy."""
    options.add_model(parser, pictures=False, sound=True)
    parser.add_argument(
        "--frames-per-chunk", type=options.positive, default=100, metavar="N", help="mel frames at once; default: 100"
    )
    options.add_debug(parser)


def vocode(args: argparse.Namespace) -> None:
    """Make the sound of a spectrogram."""
    from ltx_models.sound_files import read_mel

    refuse_unwritable(args.output, suffixes=(".wav",))
    refuse_same(args.output, [args.mel, *named(args)])
    vocoder = _load(args, "vocoder")
    mels = (array_for(vocoder, mel, args) for mel in read_mel(args.mel, args.frames_per_chunk))
    _write(args, vocoder, mels, [])


def roundtrip(args: argparse.Namespace) -> None:
    """Pass sound through everything that the transformer's sound passes through."""
    from ltx_models.audio_vae import mel_stream

    refuse_unwritable(args.output, suffixes=(".wav",))
    refuse_same(args.output, [args.file, *named(args)])
    samples, rate = read_audio(args.file)
    samples, notes = stereo(args.file, samples, args.channels)
    encoder, decoder, vocoder = (_load(args, name) for name in ("audio_encoder", "audio_decoder", "vocoder"))
    chunk = args.frames_per_chunk
    nn = encoder.nn

    def waves() -> Iterator[Any]:
        for start in range(0, samples.shape[2], SECONDS):
            yield nn.cast(nn.asarray(samples[:, :, start : start + SECONDS]), nn.float32, taken(args)[1])

    config = encoder.config
    mels = mel_stream(waves(), rate, mel_bins=config.mel_bins, target_rate=config.sample_rate)
    latents = encoder.stream((mel for _, mel in mels), frames_per_chunk=max(chunk, config.factor))
    decoded = decoder.stream((x for _, x in latents), frames_per_chunk=max(1, chunk // config.factor))
    _write(args, vocoder, (mel for _, mel in decoded), notes)


def stereo(path: Path, samples: Any, chosen: list[int] | None) -> tuple[Any, list[str]]:
    """Give left and right, and what was done to have them."""
    count = samples.shape[1]
    if chosen is not None:
        if not all(0 <= channel < count for channel in chosen):
            msg = f"--channels: got {chosen}, {path} has channels 0 to {count - 1}"
            raise ValueError(msg)
        return samples[:, chosen], []
    if count == 1:
        return np.concatenate([samples, samples], axis=1), [f"{path} is mono; both sides are the same"]
    if count != 2:
        msg = f"{path}: has {count} channels, the networks take two; choose with --channels LEFT RIGHT, such as 0 1"
        raise MediaError(msg)
    return samples, []


def upscale(args: argparse.Namespace) -> None:
    """Enlarge latents and save them."""
    refuse_unwritable(args.output, suffixes=LATENTS)
    refuse_same(args.output, [args.latents, args.upsampler, *named(args)])
    saved = read_latents(args.latents)
    path = checkpoint_of(args, saved).of("statistics")
    backend, device = taken(args)
    upsampler = ltx_models.load_upsampler(args.upsampler, backend=backend, dtype=args.dtype, device=device)
    statistics = ltx_models.load_statistics(path, backend=backend, device=device)
    latents = array_for(upsampler, saved.latents, args)
    tiles = {name: getattr(args, f"tile_{name}") for name in ("frames", "height", "width")}
    tiles = {name: size for name, size in tiles.items() if size is not None}
    with Meter() as meter:
        large = ltx_models.upsample_latent(upsampler, latents, statistics, **tiles)
        upsampler.nn.synchronize(large)
    fps = saved.fps * 2 if upsampler.config.kind == "temporal" else saved.fps
    write_latents(
        args.output,
        large,
        fps=fps,
        source=saved.source,
        audio=saved.audio,
        pixel_aspect=saved.pixel_aspect,
        space=saved.space,
        audio_space=saved.audio_space,
    )
    facts = {"output": str(args.output), "shape": list(large.shape), "fps": str(fps)}
    _tell(args, facts, meter, [], f"{tuple(saved.latents.shape)} became {tuple(large.shape)} at {fps} fps")


def _load(args: argparse.Namespace, name: str) -> Any:
    files = files_of(args) or Files(toy_checkpoint())
    check_present(files, name)
    path = files.of(name)
    load = getattr(ltx_models, f"load_{name}")
    backend, device = taken(args)
    return load(path, backend=backend, dtype=args.dtype, device=device)


def _write(args: argparse.Namespace, vocoder: Any, mels: Iterator[Any], notes: list[str]) -> None:
    from ltx_models.sound_files import wav_writer

    rate = vocoder.sample_rate
    with Meter() as meter, wav_writer(args.output, rate) as file:
        for _, block in vocoder.stream(mels, frames_per_chunk=args.frames_per_chunk):
            look()
            file.write(block)
    facts = {"output": str(args.output), "samples": file.samples, "rate": rate}
    _tell(args, facts, meter, notes, f"{file.samples / rate:.2f} s of sound at {rate} Hz")


def _tell(args: argparse.Namespace, facts: dict[str, Any], meter: Meter, notes: list[str], text: str) -> None:
    if args.json:
        print(json.dumps(facts | {"seconds": meter.seconds, "peak_bytes": meter.peak_bytes, "notes": notes}))
        return
    for note in notes:
        print(note)
    print(f"{args.output}: {text}, in {meter.seconds:.1f} s, {report.size_of(meter.peak_bytes)}")
