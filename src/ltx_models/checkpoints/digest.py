"""Which network a checkpoint holds, as a number: the same tensors and configuration have the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from ltx_models.checkpoints.loading import open_checkpoint


def network_digest(path: str | Path, names: Callable[[str], str | None], section: str) -> str:
    """
    Give the digest of one network of a checkpoint, of all its bytes.

    Parameters
    ----------
    path : path
        A safetensors file or a folder, in any layout.
    names : callable
        Maps a checkpoint key to the network's key, or to None where it belongs to another network.
    section : str
        The section of the configuration that describes the network.

    Returns
    -------
    str
        16 hexadecimal digits. The same network in another file or layout has the same, in another dtype or
        quantisation another.

    Raises
    ------
    CheckpointError
        If the file is missing or broken.

    Examples
    --------
    >>> from ltx_models import default_checkpoint
    >>> from ltx_models.checkpoints import keys_of_half
    >>> halves = [network_digest(default_checkpoint(), keys_of_half("vae", h), "vae") for h in ("encoder", "decoder")]
    >>> len(set(halves))
    2
    """
    with open_checkpoint(path, "numpy") as checkpoint:
        config = checkpoint.config
        digest = sha256(json.dumps(config.get(section, config), sort_keys=True).encode())
        keys = {name: key for key in checkpoint.keys if (name := names(key)) is not None}
        for name, key in sorted(keys.items()):
            digest.update(f"{name} {checkpoint.dtype(key)} {checkpoint.shape(key)}".encode())
            digest.update(checkpoint.buffer(key))
    return digest.hexdigest()[:16]
