"""
The vocoders of LTX-2 (HiFi-GAN, 24 kHz) and LTX-2.3 (BigVGAN with bandwidth extension, 48 kHz), whole or streamed.

Both are generators: a convolution, then stages that each lengthen time by a transposed convolution and pass through
three residual branches side by side. In 2.3 the activations of the branches are applied at twice the rate, between
filters, and a second generator makes from the first one's waveform what is missing above 8 kHz.
"""

from ltx_models.vocoder.bandwidth import BandwidthVocoder
from ltx_models.vocoder.config import BandwidthConfig, GeneratorConfig, read_config
from ltx_models.vocoder.loading import load_vocoder
from ltx_models.vocoder.model import Vocoder

__all__ = [
    "BandwidthConfig",
    "BandwidthVocoder",
    "GeneratorConfig",
    "Vocoder",
    "load_vocoder",
    "read_config",
]
