"""The expected peak memory of each step of a pipeline, computed from headers before any weights are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ltx_models.byte_sizes import format_bytes
from ltx_models.checkpoints import open_checkpoint, section_of
from ltx_models.checkpoints.layouts._names import component_of
from ltx_models.pipelines.grid import Size
from ltx_models.pipelines.memory import BITS, _Weights
from ltx_models.text.memory import size_of
from ltx_models.transformer import TransformerConfig
from ltx_models.video_vae import ExactPlan, VideoVAEConfig, plan_exact
from ltx_models.video_vae.config import is_diffusion
from ltx_models.video_vae.diffusion import DiffusionDecoderConfig, DiffusionPlan
from ltx_models.video_vae.diffusion.exact import Costs
from ltx_models.video_vae.diffusion.geometry import Sizes

if TYPE_CHECKING:
    from ltx_models.pipelines.components import Components
    from ltx_models.pipelines.settings import Recipe

# Live copies of a stream's tokens at the peak of a block: see docs/how-to/memory.md, where this is measured.
COPIES = 16


def forecast(
    components: Components, recipe: Recipe, size: Size, config: TransformerConfig, decode_bytes: int
) -> dict[str, int]:
    """
    Forecast the peak of each step, without what the framework itself takes.

    Parameters
    ----------
    components : Components
        Which networks, in which form.
    recipe : Recipe
        The pipeline.
    size : Size
        Of the result.
    config : TransformerConfig
        Of the transformer.
    decode_bytes : int
        The budget of the decode.

    Returns
    -------
    dict of str to int
        Bytes by step, in order. The largest is what the run needs.

    Raises
    ------
    CheckpointError
        If a file is missing or broken.
    ValueError
        If the decode does not fit its budget.
    """
    itemsize = 4 if components.dtype == "float32" else 2
    peaks: dict[str, int] = {}
    if components.files.text_encoder is not None:
        bits = None if components.text_quantize is None else BITS[components.text_quantize]
        model = size_of(components.files.text_encoder, itemsize, bits)[1 if components.text_offload else 0]
        places = {components.files.of("connectors"), components.files.projections}
        connectors = sum(_bytes(path, ("connectors",), itemsize) for path in places if path is not None)
        peaks["text"] = max(model, connectors)
    weights = _Weights.read(components.files.transformer)
    model = (weights.in_turn if components.offload else weights.bytes)(components.quantize, itemsize)
    stages = [size.half, size] if recipe.two_stages else [size]
    for number, stage in enumerate(stages):
        peaks["denoise" if len(stages) == 1 else f"stage {number + 1}"] = model + _tokens(stage, config) * itemsize
    if recipe.two_stages:
        upsampler = _bytes(components.files.of("upsampler"), ("", "upsampler"), itemsize)
        peaks["upsample"] = model + upsampler
    decoder = Decode.read(components.files.of("video_decoder"), size, itemsize)
    peaks["decode"] = decoder.beside + decoder.plan(decode_bytes).peak_bytes
    order = ["text", "denoise", "stage 1", "upsample", "stage 2", "decode"]
    return {name: peaks[name] for name in order if name in peaks}


@dataclass(frozen=True, slots=True)
class Decode:
    """
    A decode that is to come, from the header of its file alone.

    Attributes
    ----------
    config : VideoVAEConfig or DiffusionDecoderConfig
        The decoder.
    shape : tuple of int
        Of the latents.
    itemsize : int
        Bytes of a number.
    weights : int
        Bytes of the decoder's.
    noise, result : int
        Bytes of the noise that a diffusion decoder begins with, and of the video that its pieces are put together to; 0
        for others, which give frames as they are done.
    """

    config: VideoVAEConfig | DiffusionDecoderConfig
    shape: tuple[int, int, int, int, int]
    itemsize: int
    weights: int
    noise: int = 0
    result: int = 0

    @classmethod
    def read(cls, path: Path, size: Size, itemsize: int) -> Self:
        """Read the configuration in a file, and count."""
        with open_checkpoint(path, "numpy") as checkpoint:
            section = section_of(checkpoint, None, "vae")
        config = DiffusionDecoderConfig.read(section) if is_diffusion(section) else VideoVAEConfig.read(section)
        return cls.of(config, size, itemsize, _bytes(path, ("video_vae",), itemsize, "decoder."))

    @classmethod
    def of(cls, config: VideoVAEConfig | DiffusionDecoderConfig, size: Size, itemsize: int, weights: int = 0) -> Self:
        """Count for a configuration."""
        shape = (1, config.latent_channels, *size.latent)
        if not isinstance(config, DiffusionDecoderConfig):
            return cls(config, shape, itemsize, weights)
        sizes = Sizes(config, size.latent)
        noise, result = (itemsize * config.out_channels * math.prod(video) for video in (sizes.video, sizes.result))
        return cls(config, shape, itemsize, weights, noise, result)

    @property
    def beside(self) -> int:
        """What is in memory beside what the plan counts."""
        return self.weights + self.noise + self.result

    @property
    def least(self) -> int:
        """The least that a diffusion decode can be planned with; 0 for others, which have ways for any budget."""
        if not isinstance(self.config, DiffusionDecoderConfig):
            return 0
        costs = Costs(self.config, self.shape, self.itemsize)
        return min(costs.peak(axis, 1) for axis in range(3))

    def budget(self, room: int) -> int:
        """
        Give what the plan may count of a room that a diffusion decoder's weights and noise are to fit into as well.

        Parameters
        ----------
        room : int
            Bytes; those of convolutional decoders are beside the weights, which are smaller than what is spared.

        Returns
        -------
        int
            Bytes.

        Raises
        ------
        ValueError
            If nothing is left.
        """
        if not self.noise:
            return room
        if room <= self.beside:
            given, needed = format_bytes(room), format_bytes(self.beside, up=True)
            msg = (
                f"memory: the decode has {given}, and the decoder's weights, noise and video of this size take "
                f"{needed}; give more, a smaller picture, fewer frames or the convolutional decoder (--video-vae-path)"
            )
            raise ValueError(msg)
        return room - self.beside

    def check_frame(self, size: Size, previewed: Size | None = None) -> None:
        """
        Refuse frames that the decoder cannot mirror.

        Parameters
        ----------
        size : Size
            Of the result.
        previewed : Size, optional
            Of the first of two stages, whose previews are decoded.

        Raises
        ------
        ValueError
            If they are too small.
        """
        if isinstance(self.config, DiffusionDecoderConfig):
            return
        frame = size if previewed is None else previewed
        try:
            self.config.check_cells(*frame.latent[1:])
        except ValueError as error:
            told = f"size: got {size.width}x{size.height}"
            if previewed is None:
                msg = f"{told}; {error}"
            else:
                msg = (
                    f"{told}, of which the first of two stages makes {frame.width}x{frame.height}, too small for "
                    f"previews; {error}, or leave the previews out (--preview-every)"
                )
            raise ValueError(msg) from error

    def plan(self, memory_bytes: int) -> ExactPlan | DiffusionPlan:
        """Choose how to decode within a budget, or raise ValueError."""
        return _planned(self, memory_bytes)


@lru_cache(maxsize=8)
def _planned(decode: Decode, memory_bytes: int) -> ExactPlan | DiffusionPlan:
    # asked for before the run, for the forecast and for the budget, and large clips have many ways to be tried
    try:
        return plan_exact(decode.config, decode.shape, itemsize=decode.itemsize, memory_bytes=memory_bytes)
    except ValueError as error:
        if not decode.noise:
            raise
        msg = f"{error}; or take the convolutional decoder, which reads the same latents (--video-vae-path)"
        raise ValueError(msg) from error


def _tokens(size: Size, config: TransformerConfig) -> int:
    """Count the numbers of what is live in a block."""
    frames, rows, columns = size.latent
    counts = ((config.video, frames * rows * columns), (config.audio, size.audio_frames))
    return COPIES * sum(count * stream.width for stream, count in counts if stream is not None)


def _bytes(path: Path, names: tuple[str, ...], itemsize: int, start: str = "") -> int:
    """Count the bytes of a component in memory."""
    with open_checkpoint(path, "numpy") as checkpoint:
        return itemsize * sum(
            math.prod(checkpoint.shape(key))
            for key in checkpoint.keys
            for component, name in [component_of(key)]
            if component in names and name.startswith(start)
        )


def describe_forecast(peaks: Mapping[str, int], text: str = "forecast of the peaks") -> str:
    """
    Write a forecast for people.

    Parameters
    ----------
    peaks : mapping of str to int
        What `forecast` gave.
    text : str
        Put before it.

    Returns
    -------
    str
        One line.

    Examples
    --------
    >>> describe_forecast({"denoise": 3 * 2**30, "decode": 2**30})
    'forecast of the peaks: denoise 3.0 GiB, decode 1.0 GiB'
    """
    return f"{text}: " + ", ".join(f"{name} {format_bytes(n_bytes)}" for name, n_bytes in peaks.items())
