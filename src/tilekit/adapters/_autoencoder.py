"""AutoencoderKL in tiles, equal to the untiled one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from tilekit._errors import BackendError, PlanError
from tilekit._progress import Progress
from tilekit.adapters import _layers as layers
from tilekit.backends import Array, backend_of
from tilekit.norms import NormMode, Offload, QueuePlan, Task, TaskQueue
from tilekit.norms._arrays import check_same_kind

Direction = Literal["decode", "encode"]
TileSize = int | tuple[int | None, int | None]


def autoencoder_kl(
    vae: Any, *, tile: TileSize | None, norm: NormMode = "exact", offload: Offload | None = None
) -> TiledAutoencoder:
    """
    Decode and encode with an AutoencoderKL in tiles.

    Parameters
    ----------
    vae : AutoencoderKL
        That of diffusers (Stable Diffusion, SDXL, Flux, AudioLDM, AudioLDM2, ...), or
        `ltx_models.autoencoder_kl.AutoencoderKL` on torch or MLX. Its layers are called; nothing in it is changed.
    tile : int, (height, width), or None
        Largest tile in pixels (mel frames and mel bins for sound), for encode and decode alike; None for an axis that
        is not tiled. For long sound: ``(1024, None)``.
    norm : {"exact", "fast", "tile"}
        Which statistics a group normalisation uses: those of the whole array (equal to the untiled network up to
        rounding); an estimate from a subsampled copy; or those of the tile.
    offload : {"host", "disk"} or None
        Where tiles are kept between two norms: in host memory, on disk, or on the device (None).

    Returns
    -------
    TiledAutoencoder
        With ``decode`` and ``encode``.

    Raises
    ------
    BackendError
        If a module of `vae` is not supported; the text names it.

    Notes
    -----
    Structure: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022; module names are
    those of diffusers.

    Examples
    --------
    >>> from ltx_models import nn
    >>> from ltx_models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
    >>> config = AutoencoderKLConfig(block_out_channels=(8, 8), norm_num_groups=4)
    >>> vae = AutoencoderKL(nn.backend("torch"), config)
    >>> import torch
    >>> tiled = autoencoder_kl(vae, tile=32)
    >>> tiled.decode(torch.zeros(1, 4, 40, 24)).shape
    torch.Size([1, 3, 80, 48])
    """
    if "AutoencoderKL" not in layers.kinds(vae):
        layers.refuse(vae, "autoencoder", "expected an AutoencoderKL")
    return TiledAutoencoder(vae, tile, norm, offload)


class TiledAutoencoder:
    """
    An AutoencoderKL that runs in tiles; made by `autoencoder_kl`.

    Parameters
    ----------
    vae : AutoencoderKL
        The network.
    tile, norm, offload
        See `autoencoder_kl`.
    """

    def __init__(self, vae: Any, tile: TileSize | None, norm: NormMode, offload: Offload | None) -> None:
        self.vae, self.tile, self.norm, self.offload = vae, tile, norm, offload
        self._last = bool(getattr(vae, "channels_last", False))
        axes, channel_axis = ((1, 2), 3) if self._last else ((2, 3), 1)
        makers = {"decode": decoder_tasks, "encode": encoder_tasks}
        self._queues = {
            direction: TaskQueue(list(make(vae)), axes=axes, channel_axis=channel_axis)
            for direction, make in makers.items()
        }

    def decode(self, z: Array, *, progress: Progress = None) -> Array:
        """
        Decode latents.

        Parameters
        ----------
        z : array, shape (B, C, h, w)
            What ``vae.decode`` takes: latents divided by the scaling factor, where the model has one.
        progress : bool, callable or None
            True shows a bar; a callable gets (done, total). Raise an error in it to cancel.

        Returns
        -------
        array, shape (B, C', H, W)
            The image, or the mel spectrogram (time, mel).

        Raises
        ------
        PlanError
            If the tiles are smaller than the reach of the network; the text gives the least size.
        InputError
            If `z` has NaN or infinity, or a layer gives one; the text names the tile and the layer.
        BackendError
            If `z` is on another device, or of another library or dtype, than the network.
        """
        return self._run("decode", z, progress)

    def encode(self, x: Array, *, progress: Progress = None) -> Array:
        """
        Encode an image.

        Parameters
        ----------
        x : array, shape (B, C, H, W)
            The image, or the mel spectrogram (time, mel).
        progress : bool, callable or None
            As for `decode`.

        Returns
        -------
        array, shape (B, 2 * C', h, w)
            The moments of the latents: their mean, then the logarithm of their variance, along the channels.

        Raises
        ------
        PlanError, InputError, BackendError
            As `decode`.
        """
        return self._run("encode", x, progress)

    def plan(self, shape: Sequence[int], direction: Direction = "decode", *, itemsize: int = 4) -> QueuePlan:
        """
        Plan the tiles of an array of this shape, with the expected peak memory.

        Parameters
        ----------
        shape : sequence of int
            (B, C, h, w) to decode, (B, C, H, W) to encode.
        direction : {"decode", "encode"}
            Which way.
        itemsize : int
            Bytes of one value.

        Returns
        -------
        QueuePlan
            Printable; its shapes have the layout in which the network runs.
        """
        return self._queues[direction].plan(
            self._inner(shape), tile=self.tile, norm=self.norm, offload=self.offload, itemsize=itemsize
        )

    def best_tile(
        self, shape: Sequence[int], memory_bytes: int, direction: Direction = "decode", *, itemsize: int = 4
    ) -> int | None:
        """
        Find the largest square tile whose expected peak memory fits a budget.

        Parameters
        ----------
        memory_bytes : int
            Budget for arrays; weights and the scratch memory of convolutions are not counted.
        shape, direction, itemsize
            As for `plan`.

        Returns
        -------
        int or None
            Side in pixels; None if the array fits untiled.

        Raises
        ------
        PlanError
            If none fits; the text gives the smallest budget that does.
        """
        return self._queues[direction].fit(
            self._inner(shape), memory_bytes=memory_bytes, norm=self.norm, offload=self.offload, itemsize=itemsize
        )

    def _inner(self, shape: Sequence[int]) -> tuple[int, ...]:
        if len(shape) != 4:
            msg = f"input: got shape {tuple(shape)}, expected 4 axes (batch, channels, height, width)"
            raise PlanError(msg)
        batch, channels, height, width = (int(n) for n in shape)
        return (batch, height, width, channels) if self._last else (batch, channels, height, width)

    def _run(self, direction: Direction, x: Array, progress: Progress) -> Array:
        self._check(direction, x)
        xp = backend_of(x).namespace(x)
        with no_gradients(x):
            inner = xp.permute_dims(x, (0, 2, 3, 1)) if self._last else x
            out = self._queues[direction].run(
                inner, tile=self.tile, norm=self.norm, offload=self.offload, progress=progress
            )
            return xp.permute_dims(out, (0, 3, 1, 2)) if self._last else out

    def _check(self, direction: Direction, x: Array) -> None:
        backend_of(x)
        self._inner(x.shape)
        half = self.vae.decoder if direction == "decode" else self.vae.encoder
        # The weights of a norm have the dtype in which a network computes, also where others are stored in 8 bits.
        weight = getattr(half.conv_norm_out, "weight", None)
        if weight is not None:
            check_same_kind(x, weight, "input", dtype=True, of="the network")
        first = half.conv_in.weight
        channels = int(first.shape[-1] if self._last and not hasattr(half.conv_in, "in_channels") else first.shape[1])
        if int(x.shape[1]) != channels:
            msg = f"input: got {int(x.shape[1])} channels (shape {tuple(x.shape)}), the network takes {channels}"
            raise BackendError(msg)


def decoder_tasks(vae: Any) -> Iterator[Task]:
    """Make the tasks from latents to an image."""
    decoder = vae.decoder
    layers.expect(decoder, "decoder", "Decoder")
    quant = getattr(vae, "post_quant_conv", None)
    if quant is not None:
        yield layers.convolution(quant, "post_quant_conv")
    yield layers.convolution(decoder.conv_in, "decoder.conv_in")
    yield from layers.middle(decoder.mid_block, "decoder.mid_block")
    for i, block in enumerate(decoder.up_blocks):
        yield from layers.stage(block, f"decoder.up_blocks.{i}", "UpDecoderBlock2D")
    yield from _head(decoder, "decoder")


def encoder_tasks(vae: Any) -> Iterator[Task]:
    """Make the tasks from an image to the moments of its latents."""
    encoder = vae.encoder
    layers.expect(encoder, "encoder", "Encoder")
    yield layers.convolution(encoder.conv_in, "encoder.conv_in")
    for i, block in enumerate(encoder.down_blocks):
        yield from layers.stage(block, f"encoder.down_blocks.{i}", "DownEncoderBlock2D")
    yield from layers.middle(encoder.mid_block, "encoder.mid_block")
    yield from _head(encoder, "encoder")
    quant = getattr(vae, "quant_conv", None)
    if quant is not None:
        yield layers.convolution(quant, "quant_conv")


def _head(half: Any, path: str) -> Iterator[Task]:
    yield layers.norm(half.conv_norm_out, f"{path}.conv_norm_out")
    yield layers.activation(half.conv_act, f"{path}.conv_act")
    yield layers.convolution(half.conv_out, f"{path}.conv_out")


def no_gradients(x: Array) -> AbstractContextManager[object]:
    """Give a context in which nothing is recorded for differentiation, which would keep every tile alive."""
    if backend_of(x).name != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()
