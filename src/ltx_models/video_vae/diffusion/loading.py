"""Loading the diffusion decoder: its keys, and the gates of older files, which are folded into the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ltx_models.checkpoints import BackendName, Checkpoint, DType, Source, load_component
from ltx_models.nn import Array, Backend
from ltx_models.video_vae.diffusion.config import DiffusionDecoderConfig
from ltx_models.video_vae.diffusion.decoder import DiffusionDecoder

# what older distilled files and files for decoding keyframes hold beside the network
_UNUSED = ("coarse_", "type_emb")
_GATES = {"attn.proj": "gate_msa", "mlp.w_down": "gate_mlp", "context_proj": "gate_ctx"}


def load_diffusion_decoder(
    path: Source,
    section: Mapping[str, Any],
    names: Callable[[str], str | None],
    *,
    backend: BackendName,
    dtype: DType,
    device: Any,
) -> Any:
    """
    Load a diffusion decoder; `load_video_decoder` calls this where the configuration says so.

    Parameters
    ----------
    path : path or mapping
        A safetensors file, a folder of shards, or a state dict.
    section : mapping
        ``config["vae"]``.
    names : callable
        From checkpoint keys to those of a video decoder.
    backend, dtype, device
        As `load_video_decoder` takes them.

    Returns
    -------
    DiffusionDecoder
        A native module, ready for inference.
    """
    config = DiffusionDecoderConfig.read(section)

    def own(key: str) -> str | None:
        name = names(key)
        if name is None or name.startswith(_UNUSED) or name.rpartition(".")[2] in _GATES.values():
            return None
        return name

    return load_component(
        path,
        lambda nn, checkpoint: DiffusionDecoder(nn, config),
        own,
        backend=backend,
        dtype=dtype,
        device=device,
        change=partial(_fold, names),
    )


def _fold(names: Callable[[str], str | None], nn: Backend, checkpoint: Checkpoint, name: str, x: Array) -> Array:
    """Multiply the rows of a weight or bias by the gate that older files hold for them."""
    for layer, gate in _GATES.items():
        block, found, _ = name.rpartition(f".{layer}.")
        if found and block.startswith("diff_blocks."):
            key = next((key for key in checkpoint.keys if names(key) == f"{block}.{gate}"), None)
            if key is None:
                return x
            factor = nn.cast(checkpoint.tensor(key), nn.float32)
            # rounded to what is stored, as the official reader does
            return nn.cast(nn.cast(x, nn.float32) * (factor[:, None] if x.ndim == 2 else factor), x.dtype)
    return x
