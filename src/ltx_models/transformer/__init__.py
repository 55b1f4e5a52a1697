"""
The LTX-2 transformer: from noisy tokens of video and audio to their velocities.

`ltx_models.load_transformer` loads one from a checkpoint. The files: `config` (its embedded configuration),
`modality` (what a call is given), `rope` and `modulation` (positions and noise levels), `attention` and `block`,
`model` (the whole) and `loading` (weights).
"""

from ltx_models.transformer.config import StreamConfig, TransformerConfig
from ltx_models.transformer.loading import load_transformer, save_transformer
from ltx_models.transformer.modality import Modality
from ltx_models.transformer.model import Transformer
from ltx_models.transformer.modulation import Timesteps

__all__ = [
    "Modality",
    "StreamConfig",
    "Timesteps",
    "Transformer",
    "TransformerConfig",
    "load_transformer",
    "save_transformer",
]
