"""
The audio autoencoder of LTX-2 and LTX-2.3: log-mel spectrograms to latents and back, whole or as an exact stream.

Pictures of sound: height is time, width is frequency. Along time the official networks look back only, over zeros.
"""

from ltx_models.audio_vae.config import AudioVAEConfig
from ltx_models.audio_vae.decoder import AudioDecoder
from ltx_models.audio_vae.encoder import AudioEncoder
from ltx_models.audio_vae.loading import load_audio_decoder, load_audio_encoder
from ltx_models.audio_vae.mel import log_mel, mel_filters, mel_stream

__all__ = [
    "AudioDecoder",
    "AudioEncoder",
    "AudioVAEConfig",
    "load_audio_decoder",
    "load_audio_encoder",
    "log_mel",
    "mel_filters",
    "mel_stream",
]
