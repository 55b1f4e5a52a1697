"""
The vocoders of LTX-2 (HiFi-GAN, 24 kHz) and LTX-2.3 (BigVGAN with bandwidth extension, 48 kHz), whole or streamed.

Both are generators: a convolution, then stages that each lengthen time by a transposed convolution and pass through
three residual branches side by side. In 2.3 the activations of the branches are applied at twice the rate, between
filters, and a second generator makes from the first one's waveform what is missing above 8 kHz.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from ltx_models.checkpoints import DTYPES, BackendName, Checkpoint, DType, load_component, open_checkpoint, prefixed
from ltx_models.nn import Array, Backend, Module
from ltx_models.nn.stream import Flow, Pipeline, Unit, run
from ltx_models.sound_layers import Filter, cap, check_sound, convolve, held, hold, placed, whole, window
from ltx_models.video_stream import chunks_of
from ltx_models.vocoder_config import BandwidthConfig, GeneratorConfig, read_config

SLOPE, LAST_SLOPE = 0.1, 0.01  # of the leaky rectifiers of HiFi-GAN; the last one keeps PyTorch's default
FLOOR = 1e-5  # the least magnitude of a band

# of the two halves of a cell the earlier weighs three cells before to two after it, the later two before to three after
UP = Filter([[11, 9, 7, 5, 3, 1, -1], [-1, 10, 8, 6, 4, 2, 0]], step=1)
DOWN = Filter([[-1, *range(12)]], step=2)
REACH = 6  # cells that an anti-aliased activation reaches to either side: three for each filter


class SnakeBeta(Module):
    """
    The activation x + sin(a x)**2 / b with a rate and a height for each channel, stored as logarithms.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    height : bool
        Whether there is a height; otherwise 1 / a.
    """

    def __init__(self, nn: Any, channels: int, height: bool) -> None:
        super().__init__()
        self.alpha = nn.parameter((channels,))
        if height:
            self.beta = nn.parameter((channels,))

    def forward(self, x: Array) -> Array:
        """Map (B, T, C), which nobody else holds."""
        xp = self.nn.xp
        rate = xp.exp(self.alpha)
        height = xp.exp(self.beta) if hasattr(self, "beta") else rate
        return self.nn.snake_(x, rate, 1 / (height + 1e-9))


class Taps(Module):
    """
    A stored filter of twelve taps.

    Parameters
    ----------
    nn : Backend
        The framework.
    """

    filter: Array

    def __init__(self, nn: Any) -> None:
        super().__init__()
        nn.buffer(self, "filter", nn.xp.zeros((1, 1, 12), dtype=nn.float32))


class LowPass(Module):
    """
    Holder that spells the official key ``downsample.lowpass.filter``.

    Parameters
    ----------
    nn : Backend
        The framework.
    """

    def __init__(self, nn: Any) -> None:
        super().__init__()
        self.lowpass = Taps(nn)


class Activation(Module):
    """
    An activation at twice the rate, so that the harmonics it makes do not fold back into the band.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    height : bool
        Of the `SnakeBeta`.
    """

    def __init__(self, nn: Any, channels: int, height: bool) -> None:
        super().__init__()
        self.act = SnakeBeta(nn, channels, height)
        self.upsample = Taps(nn)
        self.downsample = LowPass(nn)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, T, C)."""
        nn = self.nn
        cells = x.shape[1] + REACH * ((1 if flow.first else 2) + (1 if flow.last else 0))
        given = cells - 2 * REACH
        x = window(flow, self, x, REACH, REACH, edge="replicate", spare=UP.needs(given + UP.groups) - cells)
        x = self.act(UP(nn, x, 2 * self.upsample.filter.reshape(-1)))
        # beyond the ends of the clip lie copies of the outermost halves
        if flow.first:
            x[:, :REACH] = x[:, REACH : REACH + 1]
        if flow.last:
            end = 2 * cells - 3 * REACH
            x[:, end : end + REACH] = x[:, end - 1 : end]
        return DOWN(nn, x, self.downsample.lowpass.filter.reshape(-1))[:, :given]


class ResBlock(Module):
    """
    Three times: activation, dilated convolution, activation, convolution, added to the input.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels, size : int
        Channels in and out, and cells of the windows.
    dilations : sequence of int
        Of the first convolution of each turn.
    activation : {"snake", "snakebeta", None}
        The anti-aliased activation (2.3), or leaky rectifiers (2.0).
    """

    def __init__(self, nn: Any, channels: int, size: int, dilations: tuple[int, ...], activation: str | None) -> None:
        super().__init__()
        self.reaches = [(size - 1) * dilation // 2 for dilation in dilations]
        self.reach = (size - 1) // 2
        self.lag = sum(self.reaches) + len(dilations) * self.reach
        self.convs1 = nn.ModuleList(
            [
                nn.Conv1d(channels, channels, size, padding=reach, dilation=dilation)
                for reach, dilation in zip(self.reaches, dilations, strict=True)
            ]
        )
        self.convs2 = nn.ModuleList([nn.Conv1d(channels, channels, size, padding=self.reach) for _ in dilations])
        if activation is not None:
            height = activation == "snakebeta"
            self.acts1 = nn.ModuleList([Activation(nn, channels, height) for _ in dilations])
            self.acts2 = nn.ModuleList([Activation(nn, channels, height) for _ in dilations])
            self.lag += 2 * REACH * len(dilations)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, T, C)."""
        nn = self.nn
        for i, (conv1, conv2) in enumerate(zip(self.convs1, self.convs2, strict=True)):
            h = self.acts1[i](x, flow) if hasattr(self, "acts1") else nn.leaky_relu(x, SLOPE)
            h = convolve(flow, conv1, h, self.reaches[i])
            h = self.acts2[i](h, flow) if hasattr(self, "acts2") else nn.leaky_relu_(h, SLOPE)
            h = convolve(flow, conv2, h, self.reach)
            x = nn.add_(h, [hold(flow, conv2, x, h.shape[1])])
        return x


class Generator(Module):
    """
    From a spectrogram to a waveform.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : GeneratorConfig
        The stages and channels.
    """

    def __init__(self, nn: Any, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv_pre = nn.Conv1d(config.mel_channels * config.mel_bins, width, 7, padding=3)
        ups, blocks = [], []
        for rate, size in zip(config.rates, config.sizes, strict=True):
            ups.append(nn.ConvTranspose1d(width, width // 2, size, stride=rate, padding=(size - rate) // 2))
            width //= 2
            for taps, dilations in zip(config.branch_sizes, config.dilations, strict=True):
                blocks.append(ResBlock(nn, width, taps, dilations, config.activation))
        self.ups = nn.ModuleList(ups)
        self.resblocks = nn.ModuleList(blocks)
        if config.activation is not None:
            self.act_post = Activation(nn, width, height=True)
        self.conv_post = nn.Conv1d(width, config.mel_channels, 7, padding=3, bias=config.bias)

    def units(self, chunk: int | None = None) -> list[Unit]:
        """List the steps of the network, from (B, T, channels * bins) to samples (B, N, channels)."""
        units = [Unit(self.start, lag=3, **cap(chunk, 3))]
        scale, branches = 1, len(self.config.branch_sizes)
        for i, rate in enumerate(self.config.rates):
            blocks = list(self.resblocks)[i * branches : (i + 1) * branches]
            stage = Stage(self.ups[i], blocks, self.config, i)
            units.append(Unit(stage, lag=stage.lag, **cap(chunk and chunk * scale, stage.lag)))
            scale *= rate
        lag = 3 + (REACH if self.config.activation is not None else 0)
        return [*units, Unit(self.finish, lag=lag, **cap(chunk and chunk * scale, lag))]

    def start(self, x: Array, flow: Flow) -> Array:
        """Convolve the spectrogram."""
        return convolve(flow, self.conv_pre, x, 3)

    def finish(self, x: Array, flow: Flow) -> Array:
        """Map the last stage to samples."""
        nn = self.nn
        x = nn.leaky_relu_(x, LAST_SLOPE) if self.config.activation is None else self.act_post(x, flow)
        x = convolve(flow, self.conv_post, x, 3)
        if not self.config.bounded:
            return x
        return nn.xp.tanh(x) if self.config.tanh else clamp(nn.xp, x)


def clamp(xp: Any, x: Array) -> Array:
    """Limit to [-1, 1]."""
    return xp.minimum(xp.maximum(x, xp.full_like(x, -1)), xp.full_like(x, 1))


class Stage:
    """One stage of a generator as a unit: a transposed convolution, then the mean of the branches."""

    def __init__(self, up: Any, blocks: list[Any], config: GeneratorConfig, index: int) -> None:
        self.up, self.blocks = up, blocks
        self.rate, size = config.rates[index], config.sizes[index]
        self.rectified = config.activation is None
        self.pad = (size - self.rate) // 2
        self.reach = (size - 1 - self.pad) // self.rate  # cells before and after that one cell's samples depend on
        self.lag = self.reach + ceil((max(block.lag for block in blocks) + 1) / self.rate) - 1

    def __call__(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, T, C)."""
        nn = flow.nn
        x = nn.leaky_relu_(x, SLOPE) if self.rectified else x
        if flow.first and flow.last:
            x = self.up(x)
        else:
            x = window(flow, self.up, x, self.reach, self.reach)
            x = self.up(x, padding=self.pad + self.reach * self.rate)
        outs = [block(x, flow) for block in self.blocks]
        cells = min(out.shape[1] + held(flow, block) for block, out in zip(self.blocks, outs, strict=True))
        parts = [hold(flow, block, out, cells) for block, out in zip(self.blocks, outs, strict=True)]
        total = parts[0]
        for part in parts[1:]:
            total = nn.add_(total, [part])
        return total * (1 / len(self.blocks))


class Vocoder(Generator):
    """
    The vocoder of LTX-2.0: 24 kHz.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : GeneratorConfig
        The stages and channels.
    """

    @property
    def sample_rate(self) -> int:
        """Samples a second of the waveform."""
        return self.config.sample_rate

    def forward(self, mel: Array) -> Array:
        """
        Make the waveform of a whole spectrogram.

        Parameters
        ----------
        mel : array, shape (B, 2, T, 64)
            Natural logarithm of the mel spectrogram of left and right, 100 frames a second.

        Returns
        -------
        array, shape (B, 2, 240 T)
            Samples in [-1, 1], `sample_rate` a second, in the dtype of the weights.

        Raises
        ------
        ValueError
            If the shape or dtype does not fit, or a value is not finite.
        """
        return self.nn.xp.permute_dims(whole(self.nn, self.units(), self.enter(mel)), (0, 2, 1))

    def stream(self, mel: Array | Iterable[Array], *, frames_per_chunk: int = 50) -> Iterator[tuple[int, Array]]:
        """
        Make the waveform piece by piece: equal to the whole, in memory that does not grow with the length.

        Parameters
        ----------
        mel : array, shape (B, 2, T, 64), or iterable of such arrays
            The spectrogram; an iterable gives it in parts that follow one another, and ends when it ends.
        frames_per_chunk : int
            Mel frames that go through the network at once, at least 1.

        Yields
        ------
        start : int
            The first sample of the block.
        samples : array, shape (B, 2, n)
            Finished samples, in order, each once.

        Raises
        ------
        ValueError
            As for the whole, or if `frames_per_chunk` is not at least 1.
        """
        chunks = chunks_of(self.nn, "mel", mel, frames_per_chunk)
        blocks = run([Pipeline(self.nn, self.units(frames_per_chunk))], map(self.enter, chunks))
        return placed(self.nn, (self.nn.xp.permute_dims(block, (0, 2, 1)) for block in blocks))

    def enter(self, mel: Array) -> Array:
        """Check the spectrogram and lay its channels side by side: (B, T, 128)."""
        return side_by_side(self.nn, mel, self.config, self.conv_pre.weight.dtype)


def side_by_side(nn: Any, mel: Array, config: GeneratorConfig, dtype: Any) -> Array:
    """Check (B, C, T, bins) and rearrange it as (B, T, C * bins)."""
    check_sound(nn, "mel", mel, config.mel_channels, config.mel_bins)
    mel = nn.xp.permute_dims(nn.cast(mel, dtype), (0, 2, 1, 3))
    return mel.reshape(*mel.shape[:2], -1)


class Basis(Module):
    """
    The windows of a Fourier transform, as convolutions that a checkpoint brings along.

    Parameters
    ----------
    nn : Backend
        The framework.
    n_fft : int
        Samples of a window.
    """

    forward_basis: Array

    def __init__(self, nn: Any, n_fft: int) -> None:
        super().__init__()
        shape = (2 * (n_fft // 2 + 1), 1, n_fft)
        nn.buffer(self, "forward_basis", nn.xp.zeros(shape, dtype=nn.float32))
        nn.buffer(self, "inverse_basis", nn.xp.zeros(shape, dtype=nn.float32))


class MelTransform(Module):
    """
    The spectrogram between the two generators, which looks back only.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : BandwidthConfig
        Its sizes.
    """

    mel_basis: Array

    def __init__(self, nn: Any, config: BandwidthConfig) -> None:
        super().__init__()
        self.hop, self.n_fft = config.hop, config.n_fft
        nn.buffer(self, "mel_basis", nn.xp.zeros((config.mel_bins, config.n_fft // 2 + 1), dtype=nn.float32))
        self.stft_fn = Basis(nn, config.n_fft)

    def forward(self, x: Array, flow: Flow) -> Array:
        """Map a piece of samples (B, N, C) to the frames (B, T, C * bins) that it completes."""
        nn, xp = self.nn, self.nn.xp
        batch, _, channels = x.shape
        lead = self.n_fft - self.hop
        cells = x.shape[1] + (lead if flow.first else flow.kept[id(self)].shape[1])
        frames = max(0, (cells - lead) // self.hop)
        x = window(flow, self, x, lead, 0, keep=cells - frames * self.hop)
        if not frames:
            return xp.zeros_like(xp.broadcast_to(x[:, :0, :1], (batch, 0, channels * self.mel_basis.shape[0])))
        lines = xp.permute_dims(x, (0, 2, 1)).reshape(batch * channels, -1, 1)
        waves = xp.matmul(nn.windows(lines, self.n_fft, self.hop)[..., 0], self.stft_fn.forward_basis[:, 0].T)
        bands = waves.shape[-1] // 2
        mel = xp.matmul(xp.sqrt(waves[..., :bands] ** 2 + waves[..., bands:] ** 2), self.mel_basis.T)
        mel = xp.log(xp.maximum(mel, xp.full_like(mel, FLOOR)))
        return xp.permute_dims(mel.reshape(batch, channels, -1, mel.shape[-1]), (0, 2, 1, 3)).reshape(
            batch, -1, channels * mel.shape[-1]
        )


class Resampler:
    """Raises the rate by a whole number: a Hann-windowed sinc between repeated ends. It has no weights of its own."""

    zeros, rolloff, reach = 6, 0.99, 7

    def __init__(self, ratio: int) -> None:
        self.ratio = ratio
        taps = 2 * self.reach * ratio + 1
        time = np.clip((np.arange(taps) / ratio - self.reach) * self.rolloff, -self.zeros, self.zeros)
        self.taps = np.sinc(time) * np.cos(time * np.pi / (2 * self.zeros)) ** 2 * self.rolloff
        # sample q of a cell weighs the cell `reach - i` after it by tap q + i * ratio
        cells = range(2 * self.reach, -1, -1)
        index = [[q + i * ratio if q + i * ratio < taps else -1 for i in cells] for q in range(ratio)]
        self.filter = Filter(index, step=1)

    def __call__(self, x: Array, flow: Flow) -> Array:
        """Map a piece (B, N, C)."""
        cells = x.shape[1] + self.reach * ((1 if flow.first else 2) + (1 if flow.last else 0))
        given = cells - 2 * self.reach
        spare = self.filter.needs(given) - cells
        x = window(flow, self, x, self.reach, self.reach, edge="replicate", spare=spare)
        return self.filter(flow.nn, x, flow.nn.asarray(self.taps, x))[:, : given * self.ratio]


class BandwidthVocoder(Module):
    """
    The vocoder of LTX-2.3: 16 kHz by one generator, extended to 48 kHz by another. It holds and computes in float32.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : BandwidthConfig
        Both generators and the spectrogram between them.
    """

    def __init__(self, nn: Any, config: BandwidthConfig) -> None:
        super().__init__()
        self.config = config
        self.vocoder = Generator(nn, config.vocoder)
        self.bwe_generator = Generator(nn, config.extension)
        self.mel_stft = MelTransform(nn, config)

    @property
    def sample_rate(self) -> int:
        """Samples a second of the waveform."""
        return self.config.sample_rate

    def forward(self, mel: Array) -> Array:
        """
        Make the waveform of a whole spectrogram.

        Parameters
        ----------
        mel : array, shape (B, 2, T, 64)
            Natural logarithm of the mel spectrogram of left and right, 100 frames a second.

        Returns
        -------
        array, shape (B, 2, 480 T)
            Samples in [-1, 1], `sample_rate` a second, in the dtype of `mel`.

        Raises
        ------
        ValueError
            If the shape or dtype does not fit, or a value is not finite.
        """
        nn = self.nn
        low = whole(nn, self.vocoder.units(), self.enter(mel))
        samples = low.shape[1] * self.config.ratio
        low = nn.pad(low, ((0, 0), (0, -low.shape[1] % self.config.hop), (0, 0)))
        wide = whole(nn, [Unit(self.mel_stft), *self.bwe_generator.units()], low)
        wide = clamp(nn.xp, nn.add_(wide, [Resampler(self.config.ratio)(low, Flow(nn))]))[:, :samples]
        return nn.cast(nn.xp.permute_dims(wide, (0, 2, 1)), mel.dtype)

    def stream(self, mel: Array | Iterable[Array], *, frames_per_chunk: int = 50) -> Iterator[tuple[int, Array]]:
        """
        Make the waveform piece by piece: equal to the whole, in memory that does not grow with the length.

        Parameters
        ----------
        mel : array, shape (B, 2, T, 64), or iterable of such arrays
            The spectrogram; an iterable gives it in parts that follow one another, and ends when it ends.
        frames_per_chunk : int
            Mel frames that go through the network at once, at least 1.

        Yields
        ------
        start : int
            The first sample of the block.
        samples : array, shape (B, 2, n)
            Finished samples, in order, each once.

        Raises
        ------
        ValueError
            As for the whole, or if `frames_per_chunk` is not at least 1.
        """
        return placed(self.nn, self._blocks(chunks_of(self.nn, "mel", mel, frames_per_chunk), frames_per_chunk))

    def _blocks(self, chunks: Iterator[Array], chunk: int) -> Iterator[Array]:
        head = next(chunks)
        dtype, extension = head.dtype, Extension(self, chunk)
        stages = [Pipeline(self.nn, self.vocoder.units(chunk)), extension]
        mels = map(self.enter, chain([head], chunks))
        del head
        for block in run(stages, mels):
            yield self.nn.cast(self.nn.xp.permute_dims(block, (0, 2, 1)), dtype)

    def enter(self, mel: Array) -> Array:
        """Check the spectrogram and lay its channels side by side: (B, T, 128)."""
        return side_by_side(self.nn, mel, self.config.vocoder, self.vocoder.conv_pre.weight.dtype)


class Extension:
    """
    The way from 16 to 48 kHz as a stage of a stream: the resampled waveform waits for what the generator adds to it.

    Parameters
    ----------
    vocoder : BandwidthVocoder
        The network.
    chunk : int
        Mel frames of the first generator at once.
    """

    def __init__(self, vocoder: BandwidthVocoder, chunk: int) -> None:
        self.nn, self.config = vocoder.nn, vocoder.config
        hop, resample = self.config.hop, Resampler(self.config.ratio)
        frames = max(1, chunk * self.config.vocoder.factor // hop)
        transform = Unit(vocoder.mel_stft, **cap(frames * hop, hop))
        self.upper = Pipeline(self.nn, [transform, *vocoder.bwe_generator.units(frames)])
        self.lower = Pipeline(self.nn, [Unit(resample, lag=resample.reach, **cap(frames * hop, resample.reach))])
        self.waiting: list[Array] = []
        self.taken = self.given = 0

    def push(self, x: Array, *, last: bool) -> Iterator[tuple[Array, bool]]:
        """Put samples (B, n, C) in and take out what they complete, as `Pipeline.push`."""
        self.taken += x.shape[1]
        if last:  # zeros fill the last hop; what is made of them is left out
            x = self.nn.pad(x, ((0, 0), (0, -self.taken % self.config.hop), (0, 0)))
        self.waiting += [block for block, _ in self.lower.push(x, last=last)]
        for upper, ends in self.upper.push(x, last=last):
            block = clamp(self.nn.xp, self.nn.add_(self._take(upper.shape[1]), [upper]))
            block = block[:, : self.taken * self.config.ratio - self.given] if last else block
            self.given += block.shape[1]
            yield block, ends

    def _take(self, cells: int) -> Array:
        parts: list[Array] = []
        while cells:
            part = self.waiting.pop(0)
            if part.shape[1] > cells:
                self.waiting.insert(0, part[:, cells:])
                part = part[:, :cells]
            cells -= part.shape[1]
            parts.append(part)
        return self.nn.join(parts)


def load_vocoder(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load the vocoder of a checkpoint.

    Parameters
    ----------
    path : path
        A safetensors file (whole checkpoint or one component), or a folder of shards.
    backend : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of the weights. A vocoder with bandwidth extension (2.3) holds and computes in float32 all the same,
        as half precision is audible there.
    device : optional
        A torch device.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, or its section ``vocoder``.

    Returns
    -------
    Vocoder or BandwidthVocoder
        A `torch.nn.Module` or an `mlx.nn.Module`, ready for inference; the configuration decides which.

    Raises
    ------
    CheckpointError
        If the file is no whole safetensors file, or its tensors do not fit the configuration.
    ValueError
        If the configuration, backend or dtype is not known.

    Examples
    --------
    >>> vocoder = load_vocoder("ltx-2.3.safetensors", backend="mlx")  # doctest: +SKIP
    """
    with open_checkpoint(path, "numpy") as checkpoint:
        found = read_config(_section(checkpoint.config if config is None else config))
    wide = isinstance(found, BandwidthConfig)

    def make(nn: Backend, checkpoint: Checkpoint) -> Any:
        return BandwidthVocoder(nn, found) if isinstance(found, BandwidthConfig) else Vocoder(nn, found)

    if dtype not in DTYPES:
        msg = f"dtype: got {dtype!r}, allowed are {', '.join(map(repr, DTYPES))}"
        raise ValueError(msg)
    kept: DType = "float32" if wide else dtype
    return load_component(path, make, prefixed(("vocoder.", "")), backend_name=backend, dtype=kept, device=device)


def _section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the description of the vocoder in a whole configuration, or in that section alone."""
    inner = config.get("vocoder", config)
    # the section of 2.3 has a part of the same name
    return config if "bwe" in config else inner
