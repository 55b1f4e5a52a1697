"""SpeechT5HifiGan in tiles of time, equal to the untiled one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Any

from tilekit._errors import PlanError
from tilekit._progress import Progress
from tilekit.adapters import _layers as layers
from tilekit.adapters._autoencoder import no_gradients
from tilekit.backends import Array
from tilekit.norms import Apply, Convolution, QueuePlan, Task, TaskQueue, Transposed
from tilekit.norms._arrays import check_same_kind


def hifigan(vocoder: Any, *, tile: int) -> TiledVocoder:
    """
    Turn long mel spectrograms into sound, in tiles of time.

    The vocoder has no norm and a finite reach, so each tile runs from end to end with its halo, and the result equals
    that of the untiled vocoder.

    Parameters
    ----------
    vocoder : SpeechT5HifiGan
        The class of transformers, which AudioLDM and AudioLDM2 use.
    tile : int
        Largest tile in mel frames.

    Returns
    -------
    TiledVocoder
        Called as the vocoder is.

    Raises
    ------
    BackendError
        If a module is not supported; the text names it.
    PlanError
        If `tile` is not a positive integer.
    """
    layers.expect(vocoder, "vocoder", "SpeechT5HifiGan")
    if type(tile) is not int or tile < 1:
        msg = f"tile: got {tile!r}, expected a positive number of mel frames"
        raise PlanError(msg)
    return TiledVocoder(vocoder, tile)


class TiledVocoder:
    """
    A vocoder that runs in tiles; made by `hifigan`.

    Parameters
    ----------
    vocoder : SpeechT5HifiGan
        The network.
    tile : int
        Largest tile in mel frames.
    """

    def __init__(self, vocoder: Any, tile: int) -> None:
        self.vocoder, self.tile = vocoder, tile
        self._queue = TaskQueue(list(vocoder_tasks(vocoder)), axes=(2,), names=("time",))
        self._samples = prod(int(up.stride[0]) for up in vocoder.upsampler)

    def plan(self, frames: int, *, itemsize: int = 4) -> QueuePlan:
        """
        Plan the tiles of a spectrogram, with the expected peak memory.

        Parameters
        ----------
        frames : int
            Mel frames.
        itemsize : int
            Bytes of one value.

        Returns
        -------
        QueuePlan
            Printable.
        """
        shape = (1, self.vocoder.conv_pre.in_channels, frames)
        return self._queue.plan(shape, tile=self.tile * self._samples, itemsize=itemsize)

    def __call__(self, spectrogram: Array, *, progress: Progress = None) -> Array:
        """
        Turn a spectrogram into sound.

        Parameters
        ----------
        spectrogram : array, shape (B, T, mel) or (T, mel)
            Logarithmic mel spectrogram.
        progress : bool, callable or None
            True shows a bar; a callable gets (done, total). Raise an error in it to cancel.

        Returns
        -------
        array, shape (B, N) or (N,)
            The waveform, between -1 and 1.

        Raises
        ------
        PlanError
            If the shape does not fit, or the tiles are smaller than the reach of the network.
        InputError
            If NaN or infinity occurs; the text names the tile and the layer.
        """
        bins = self.vocoder.conv_pre.in_channels
        if spectrogram.ndim not in {2, 3} or spectrogram.shape[-1] != bins:
            msg = f"spectrogram: got shape {tuple(spectrogram.shape)}, expected (batch, time, {bins}) or (time, {bins})"
            raise PlanError(msg)
        check_same_kind(spectrogram, self.vocoder.conv_pre.bias, "spectrogram", dtype=True, of="the network")
        with no_gradients(spectrogram):
            if self.vocoder.config.normalize_before:
                spectrogram = (spectrogram - self.vocoder.mean) / self.vocoder.scale
            single = spectrogram.ndim == 2
            x = (spectrogram[None] if single else spectrogram).swapaxes(1, 2)
            sound = self._queue.run(x, tile=self.tile * self._samples, progress=progress)[:, 0]
            return sound[0] if single else sound


def vocoder_tasks(vocoder: Any) -> Iterator[Task]:
    """Make the tasks from a normalised spectrogram (B, mel, T) to a waveform (B, 1, N)."""
    import torch
    from torch.nn import functional

    slope, width = vocoder.config.leaky_relu_slope, vocoder.num_kernels
    yield _convolution(vocoder.conv_pre, "conv_pre")
    for i, up in enumerate(vocoder.upsampler):
        yield Apply(f"leaky_relu.{i}", partial(functional.leaky_relu, negative_slope=slope))
        yield _transposed(up, f"upsampler.{i}")
        yield _parallel(list(vocoder.resblocks[i * width : (i + 1) * width]), f"resblocks.{i * width}")
    yield Apply("leaky_relu", functional.leaky_relu)
    yield _convolution(vocoder.conv_post, "conv_post")
    yield Apply("tanh", torch.tanh)


def _convolution(conv: Any, path: str) -> Apply:
    layers.expect(conv, path, "Conv1d")
    cells = (conv.kernel_size[0] - 1) * conv.dilation[0] + 1
    padding = conv.padding[0]
    return Apply(path, conv, Convolution(cells, conv.stride[0], padding, padding), conv.out_channels)


def _transposed(up: Any, path: str) -> Apply:
    layers.expect(up, path, "ConvTranspose1d")
    reach = Transposed(up.kernel_size[0], up.stride[0], up.padding[0], up.output_padding[0])
    return Apply(path, up, reach, up.out_channels)


def _parallel(blocks: list[Any], path: str) -> Apply:
    """Make one task of residual blocks whose mean is taken; it reaches as far as the widest of them."""

    def mean(x: Array) -> Array:
        total = blocks[0](x)
        for block in blocks[1:]:
            total = total + block(x)
        return total / len(blocks)

    half = max(_half_width(block, path) for block in blocks)
    return Apply(path, mean, Convolution(2 * half + 1, 1, half, half))


def _half_width(block: Any, path: str) -> int:
    layers.expect(block, path, "HifiGanResidualBlock")
    convs = [_convolution(conv, path) for conv in (*block.convs1, *block.convs2)]
    return sum(reach.before for conv in convs if isinstance(reach := conv.reach, Convolution))
