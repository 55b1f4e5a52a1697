"""The checkpoint that is part of the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def default_checkpoint() -> Path:
    """
    Give the small video autoencoder that the package ships.

    Its layout is that of LTX-2 2.0 with every kind of block, narrow: 128 latent channels, 8 frames of 32 x 32 pixels to
    a latent cell, about 3 million parameters in bfloat16. It was trained on a few clips for under an hour, so that
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
    path = Path(str(files("ltx_models"))) / "data" / "tiny-video-vae.safetensors"
    if not path.is_file():
        msg = f"{path}: the embedded checkpoint is missing; install the package again, unpacked, or pass a checkpoint"
        raise FileNotFoundError(msg)
    return path
