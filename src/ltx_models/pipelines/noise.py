"""Noise that a caller gives in place of the seed's: checked before a run, and put where a stage begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ltx_models.conditioning import patchify
from ltx_models.media import as_float32
from ltx_models.nn import Array, Backend, backend_of
from ltx_models.pipelines.request import Request
from ltx_models.transformer import TransformerConfig

AUDIO_CHANNELS = 8
KEYWORDS = {"video": "latents", "audio": "audio_latents"}


def latent_shapes(request: Request, config: TransformerConfig) -> Mapping[str, tuple[int, ...]]:
    """
    Give the shapes of the latents that the first stage begins with.

    Parameters
    ----------
    request : Request
        What is generated.
    config : TransformerConfig
        Of the transformer.

    Returns
    -------
    mapping of str to tuple of int
        For each stream of the run: (1, C, f, h, w) of the video, (1, 8, T, mel) of the sound.
    """
    size = request.size.half if request.recipe.two_stages else request.size
    shapes: dict[str, tuple[int, ...]] = {}
    if config.video is not None:
        shapes["video"] = (1, config.video.in_channels, *size.latent)
    if config.audio is not None:
        shapes["audio"] = (1, AUDIO_CHANNELS, size.audio_frames, config.audio.in_channels // AUDIO_CHANNELS)
    return {name: shape for name, shape in shapes.items() if name in request.streams}


def check_noise(request: Request, config: TransformerConfig, nn: Backend) -> None:
    """
    Refuse given noise that has no place in the run, before anything is computed.

    Parameters
    ----------
    request : Request
        What is generated.
    config : TransformerConfig
        Of the transformer.
    nn : Backend
        The framework of the pipeline.

    Raises
    ------
    ValueError
        If the stream is not generated, the length is not known, or shape, dtype or values do not fit.
    """
    for stream, given in request.noise.items():
        name = KEYWORDS[stream]
        why = _out_of_place(request, stream)
        if why is not None:
            msg = f"{name}: {why}"
            raise ValueError(msg)
        _check_array(name, given, latent_shapes(request, config)[stream], nn)


def _out_of_place(request: Request, stream: str) -> str | None:
    """Say why a stream takes no noise of the caller's."""
    if stream not in request.streams:
        return f"there is no {stream} in this run; leave it out, or name the stream in streams="
    if request.draw is not None:
        return "draw= gives all noise; give one of the two"
    if stream == "audio" and request.sound is not None:
        return "the sound is given by audio=, and nothing of it is generated; leave one of the two out"
    if request.duration is not None:
        return "the prompt decides how long the video is; give num_frames= beside it"
    return None


def _check_array(name: str, given: Any, shape: tuple[int, ...], nn: Backend) -> None:
    """Refuse what is no array of noise of a shape."""
    if not (nn.is_array(given) or isinstance(given, np.ndarray)):
        kind = type(given)
        msg = (
            f"{name}: got a {kind.__module__.partition('.')[0]}.{kind.__name__}, expected an array of the pipeline's "
            "framework or of NumPy"
        )
        raise ValueError(msg)
    if tuple(given.shape) != shape:
        msg = (
            f"{name}: got shape {tuple(given.shape)}, the first stage begins with {shape}: noise of one video, "
            "as channels, latent frames, rows and columns, not packed to tokens"
            if name == "latents"
            else f"{name}: got shape {tuple(given.shape)}, the first stage begins with {shape}: noise of one sound, "
            "as channels, latent frames and mel bins, not packed to tokens"
        )
        raise ValueError(msg)
    if "float" not in str(given.dtype):
        msg = f"{name}: got {given.dtype}, expected floating-point numbers: standard normal noise"
        raise ValueError(msg)
    if not np.isfinite(as_float32(given)).all():
        msg = f"{name}: holds NaN or infinity, expected standard normal noise"
        raise ValueError(msg)


def beginning(tokens: Array, draw: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """
    Put given noise in place of what is drawn first.

    Parameters
    ----------
    tokens : array, shape (1, N, C)
        Noise of the latents, as tokens.
    draw : callable
        Gives noise in the shape, dtype and on the device of an array. It is asked as often as without given noise, so
        that what is drawn afterwards is the same.

    Returns
    -------
    callable
        Gives `tokens`, and drawn noise for what is appended to them.
    """

    def drawn(like: Array) -> Array:
        nn, rest = backend_of(like), draw(like)
        first = nn.on_device(nn.cast(tokens, like.dtype), like)
        return nn.xp.concat([first, rest[:, tokens.shape[1] :, ...]], axis=1)

    return drawn


def given_tokens(noise: Any, nn: Backend) -> Array:
    """Give noise of a caller as tokens of the framework, in float32."""
    return patchify(nn.cast(noise if nn.is_array(noise) else nn.asarray(noise), nn.float32))
