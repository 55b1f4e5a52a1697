"""
The text connectors of LTX-2 and LTX-2.3: hidden states of the language model to what the transformer attends to.

First a feature extractor joins all layers of a token and projects them; then, for video and for audio, a small
transformer in which learned registers take the place of padding.
"""

from ltx_models.text.connectors.config import ConnectorConfig, is_second_extractor
from ltx_models.text.connectors.loading import load_connectors
from ltx_models.text.connectors.model import TextConnectors

__all__ = ["ConnectorConfig", "TextConnectors", "is_second_extractor", "load_connectors"]
