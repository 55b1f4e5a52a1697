"""The checkpoints that are part of the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def default_checkpoint() -> Path:
    """
    Give the small video autoencoder that the package ships.

    Its layout is that of LTX-2 2.0 with every kind of block, narrow: 128 latent channels, 8 frames of 32 x 32 pixels to
    a latent cell, about 6 million parameters in bfloat16. It was trained on a few clips for under an hour, so that
    every example can encode and decode real video without a download; its pictures are soft, and its latents mean
    nothing to other models.

    Returns
    -------
    pathlib.Path
        A safetensors file with the official keys and metadata, for `load_video_encoder` and `load_video_decoder`.

    Raises
    ------
    FileNotFoundError
        If the package is not installed as files in a folder, or was installed without its data.

    Examples
    --------
    >>> from ltx_models import default_checkpoint
    >>> default_checkpoint().name
    'tiny-video-vae.safetensors'
    """
    return _embedded("tiny-video-vae.safetensors")


def default_pipeline() -> Path:
    """
    Give the toy that `LTX2Pipeline` runs where no checkpoint is named: everything from a prompt to a video with sound.

    Its layout is that of LTX-2.3 in the official files: a distilled checkpoint with transformer, connectors, video and
    audio autoencoders and vocoder; a spatial upsampler; a Gemma 3 with a tokenizer of some seventy words. Together they
    have 7 million parameters. It was trained for about an hour of one processor core on drawn circles, squares and
    triangles that move and sound, and **it knows nothing else**. It shows that the machinery works, without a download.

    Returns
    -------
    pathlib.Path
        A folder, for `LTX2Pipeline.from_pretrained` and ``ltx-models generate --checkpoint-path``.

    Raises
    ------
    FileNotFoundError
        If the package is not installed as files in a folder, or was installed without its data.

    Examples
    --------
    >>> from ltx_models import default_pipeline
    >>> sorted(path.name for path in default_pipeline().iterdir())
    ['gemma', 'toy-distilled.safetensors', 'toy-spatial-upscaler-x2.safetensors']
    """
    return _embedded("toy")


def toy_checkpoint() -> Path:
    """Give the file of that folder in which the toy's transformer and autoencoders are."""
    return default_pipeline() / "toy-distilled.safetensors"


def _embedded(name: str) -> Path:
    path = Path(str(files("ltx_models"))) / "data" / name
    if not path.exists():
        msg = f"{path}: the embedded checkpoint is missing; install the package again, unpacked, or pass a checkpoint"
        raise FileNotFoundError(msg)
    return path
