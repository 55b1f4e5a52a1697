"""Which autoencoder latents belong to: a name for people, and a digest by which it is known again."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ltx_models.checkpoints.files import Checkpoint
from ltx_models.checkpoints.loading import open_checkpoint
from ltx_models.media.latents import LatentSpace

Kind = Literal["video", "audio"]
STATISTICS = ("mean-of-means", "std-of-means")
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_PREFIXES: dict[Kind, tuple[str, str]] = {"video": ("vae.", ""), "audio": ("audio_vae.", "")}


def latent_space(path: str | Path, kind: Kind = "video") -> LatentSpace | None:
    """
    Tell the space of latents of a checkpoint's autoencoder.

    Parameters
    ----------
    path : path
        A safetensors file or a folder, in any layout.
    kind : {"video", "audio"}
        Which autoencoder.

    Returns
    -------
    LatentSpace or None
        Its name is that of the file, or of the repository that it was fetched from; None where the checkpoint has no
        such autoencoder.

    Raises
    ------
    CheckpointError
        If the file is missing or broken.

    Notes
    -----
    The digest is that of the statistics by which latents are normalised, rounded to bfloat16: a checkpoint in another
    layout, dtype or quantisation has the same, and so has one whose decoder alone was trained further.

    Examples
    --------
    >>> from ltx_models import default_checkpoint
    >>> latent_space(default_checkpoint()).name
    'tiny-video-vae'
    """
    path = Path(path)
    with open_checkpoint(path, "numpy") as checkpoint:
        for prefix in _PREFIXES[kind]:
            keys = [f"{prefix}per_channel_statistics.{name}" for name in STATISTICS]
            if all(key in checkpoint.files for key in keys):
                digest = sha256(b"".join(_rounded(checkpoint, key).tobytes() for key in keys)).hexdigest()
                return LatentSpace(_name(path), digest[:16])
    return None


def _name(path: Path) -> str:
    """Name the repository whose cache a file lies in, else the file or folder."""
    repos = [part.removeprefix("models--").replace("--", "/") for part in path.parts if part.startswith("models--")]
    return repos[-1] if repos else path.resolve().name.removesuffix(".safetensors")


def _rounded(checkpoint: Checkpoint, key: str) -> npt.NDArray[np.uint16]:
    """Give the bits of a tensor in bfloat16."""
    data: Any = checkpoint.buffer(key)
    if checkpoint.dtype(key) == "BF16":
        return np.asarray(data.view("<u2"))
    bits = data.view(_FLOATS[checkpoint.dtype(key)]).astype(np.float32).view(np.uint32)
    return np.asarray((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, dtype=np.uint16)
