"""
Prompts to text embeddings: Gemma 3 from the ecosystem, and the text connectors of a checkpoint.

The language model itself is not part of this project: on torch it comes from ``transformers``, on MLX from ``mlx-lm``
(which uses the tokenizer of ``transformers`` too). Both are imported when an encoder is loaded, and not before.
"""

from ltx_models.text.connectors import ConnectorConfig, TextConnectors, is_second_extractor, load_connectors
from ltx_models.text.encoder import ENHANCER, Contexts, TextEncoder, Tokens, clean, load_text_encoder

__all__ = [
    "ENHANCER",
    "ConnectorConfig",
    "Contexts",
    "TextConnectors",
    "TextEncoder",
    "Tokens",
    "clean",
    "is_second_extractor",
    "load_connectors",
    "load_text_encoder",
]
