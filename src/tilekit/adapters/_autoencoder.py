"""AutoencoderKL in tiles, equal to the plain call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NoReturn

from tilekit._errors import BackendError, PlanError
from tilekit._progress import Progress
from tilekit.adapters._exact_method import Place, Untiled
from tilekit.backends import Array, backend_of
from tilekit.backends.kinds import check_same_kind, empty_like
from tilekit.norms import NormMode, Offload, QueuePlan
from tilekit.norms._modes import Modes

Direction = Literal["decode", "encode"]
DIRECTIONS: tuple[Direction, ...] = ("decode", "encode")
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
        `ltx_models.autoencoder_kl.AutoencoderKL` on torch or MLX. It is followed as `tilekit.exact` follows functions;
        nothing in it is changed.
    tile : int, (height, width), or None
        The most pixels (mel frames and mel bins for sound) that are made at once, given as the sides of a tile, for
        encode and decode alike; None for an axis that is not cut. For long sound: ``(1024, None)``. They go in strips
        of as many cells as such a tile has, except with ``norm="tile"``.
    norm : {"exact", "fast", "tile"}
        Which statistics a group normalisation uses: those of the whole array (equal to the plain call up to
        rounding); on large arrays an estimate from a subsampled copy; or those of the tile, which is blended with the
        next as in ordinary tiling.
    offload : {"host", "disk"} or None
        Where arrays are kept between two norms: in host memory, on disk, or on the device (None).

    Returns
    -------
    TiledAutoencoder
        With ``decode`` and ``encode``.

    Raises
    ------
    BackendError
        If `vae` is of another class.

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
    if "AutoencoderKL" not in {kind.__name__ for kind in type(vae).__mro__}:
        refuse(vae, "autoencoder", "an AutoencoderKL; use tilekit.exact(lambda z: vae.decode(z)[0])")
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
        self._modes = {
            direction: Modes(_function(vae, direction), (2, 3), ("height", "width"), 1) for direction in DIRECTIONS
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
            If the size of a tile is none.
        InputError
            If `z` has NaN or infinity, or a layer gives one; the text names the layer and the cells.
        BackendError
            If `z` is on another device, or of another library or dtype, than the network.
        TraceError
            If the network cannot be followed: it drops cells at random, or reads what it computes.
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
        PlanError, InputError, BackendError, TraceError
            As `decode`.
        """
        return self._run("encode", x, progress)

    def plan(self, shape: Sequence[int], direction: Direction = "decode") -> QueuePlan:
        """
        Plan the tiles of an array of this shape, with the expected peak memory.

        Parameters
        ----------
        shape : sequence of int
            (B, C, h, w) to decode, (B, C, H, W) to encode.
        direction : {"decode", "encode"}
            Which way.

        Returns
        -------
        QueuePlan
            Printable.
        """
        return self._modes[direction].plan(self._example(shape, direction), self.tile, self.norm, self.offload)

    def best_tile(self, shape: Sequence[int], memory_bytes: int, direction: Direction = "decode") -> int | None:
        """
        Find the largest square tile whose expected peak memory fits a budget.

        Parameters
        ----------
        memory_bytes : int
            Budget for arrays; weights and the input are not counted.
        shape, direction
            As for `plan`.

        Returns
        -------
        int or None
            Side in pixels; None if the array fits whole.

        Raises
        ------
        PlanError
            If none fits; the text gives the smallest budget that does.
        """
        return self._modes[direction].fit(self._example(shape, direction), memory_bytes, self.norm, self.offload)

    def _example(self, shape: Sequence[int], direction: Direction) -> Array:
        half = self.vae.decoder if direction == "decode" else self.vae.encoder
        return empty_like(half.conv_norm_out.weight, _checked(shape))

    def _run(self, direction: Direction, x: Array, progress: Progress) -> Array:
        self._check(direction, x)
        with no_gradients(x):
            x = x.detach() if hasattr(x, "detach") else x
            return self._modes[direction].run(x, self.tile, self.norm, self.offload, progress)

    def _check(self, direction: Direction, x: Array) -> None:
        backend_of(x)
        _checked(x.shape)
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


def _function(vae: Any, direction: Direction) -> Any:
    """Give the half of an autoencoder as a function of one array."""
    if type(vae).__module__.startswith("diffusers."):
        return Untiled(Place(vae, vae, f"_{direction}", direction), None)
    return getattr(vae, direction)


def _checked(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) != 4:
        msg = f"input: got shape {tuple(shape)}, expected 4 axes (batch, channels, height, width)"
        raise PlanError(msg)
    return tuple(int(n) for n in shape)


def refuse(module: Any, name: str, expected: str) -> NoReturn:
    """Raise for a module of another class."""
    msg = f"{name}: {type(module).__module__}.{type(module).__qualname__} is not supported: expected {expected}"
    raise BackendError(msg)


def no_gradients(x: Array) -> AbstractContextManager[object]:
    """Give a context in which nothing is recorded for differentiation, which would keep every tile alive."""
    if backend_of(x).name != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()
