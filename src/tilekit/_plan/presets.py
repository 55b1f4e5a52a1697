"""Geometries of published autoencoders, each with the source of its factors; check them against your checkpoint."""

from tilekit._plan.geometry import Axis, Geometry
from tilekit._plan.laws import Causal, Law, Linear


def _video(name: str, frames: Law, side: int) -> Geometry:
    return Geometry(name, (Axis("frames", 2, frames), Axis("height", 3, Linear(side)), Axis("width", 4, Linear(side))))


def _image(name: str, side: int) -> Geometry:
    return Geometry(name, (Axis("height", 2, Linear(side)), Axis("width", 3, Linear(side))))


def _mel(name: str, time: Law, bands: int) -> Geometry:
    return Geometry(name, (Axis("time", 2, time), Axis("mel", 3, Linear(bands))))


LTX2_VIDEO = _video("ltx2-video", Causal(8), 32)
"""
LTX-Video, LTX-2 and LTX-2.3: (B, C, F, H, W), 8 frames and 32x32 pixels a latent, the first latent one frame.

Source: Lightricks/LTX-2, ``SpatioTemporalScaleFactors.default()`` and ``map_temporal_slice``.
"""

WAN_VIDEO = _video("wan-video", Causal(4), 8)
"""
Wan 2.1 and Qwen-Image: (B, C, F, H, W), 4 frames and 8x8 pixels a latent, the first latent one frame.

Source: diffusers ``AutoencoderKLWan`` (``scale_factor_temporal=4``, ``scale_factor_spatial=8``).
"""

WAN22_VIDEO = _video("wan2.2-video", Causal(4), 16)
"""
Wan 2.2 TI2V-5B: as Wan 2.1 with 16x16 pixels a latent (8 and a 2x2 patch).

Source: the configuration of that checkpoint for diffusers ``AutoencoderKLWan`` (``patch_size=2``).
"""

HUNYUAN_VIDEO = _video("hunyuan-video", Causal(4), 8)
"""
HunyuanVideo: (B, C, F, H, W), 4 frames and 8x8 pixels a latent, the first latent one frame.

Source: diffusers ``AutoencoderKLHunyuanVideo`` (``temporal_compression_ratio=4``, ``spatial_compression_ratio=8``).
"""

HUNYUAN15_VIDEO = _video("hunyuan-1.5-video", Causal(4), 16)
"""
HunyuanVideo 1.5: (B, C, F, H, W), 4 frames and 16x16 pixels a latent, the first latent one frame.

Source: diffusers ``AutoencoderKLHunyuanVideo15`` (``temporal_compression_ratio=4``, ``spatial_compression_ratio=16``).
"""

COGVIDEOX_VIDEO = _video("cogvideox-video", Causal(4), 8)
"""
CogVideoX: (B, C, F, H, W), 4 frames and 8x8 pixels a latent, the first latent one frame (49 frames are 13 latents).

Source: diffusers ``AutoencoderKLCogVideoX`` (``temporal_compression_ratio=4``, three of four blocks halve the sides).
"""

MOCHI_VIDEO = _video("mochi-video", Causal(6), 8)
"""
Mochi 1: (B, C, F, H, W), 6 frames and 8x8 pixels a latent, the first latent one frame.

Source: diffusers ``MochiPipeline`` (``vae_temporal_scale_factor=6``, ``vae_spatial_scale_factor=8``).
"""

COSMOS_VIDEO = _video("cosmos-video", Causal(8), 8)
"""
Cosmos 1.0 tokenizer CV8x8x8: (B, C, F, H, W), 8 frames and 8x8 pixels a latent, the first latent one frame.

Source: diffusers ``AutoencoderKLCosmos`` (``temporal_compression_ratio=8``, ``spatial_compression_ratio=8``).
"""

SD_IMAGE = _image("sd-image", 8)
"""
Stable Diffusion 1 to 3, SDXL, FLUX.1 and TAESD: (B, C, H, W), 8x8 pixels a latent.

Source: diffusers ``AutoencoderKL`` (four ``block_out_channels``, of which three halve the sides), ``AutoencoderTiny``.
"""

FLUX2_IMAGE = _image("flux2-image", 16)
"""
FLUX.2 latents in their 2x2 patched form: (B, C, H, W), 16x16 pixels a latent.

Source: diffusers ``AutoencoderKLFlux2`` (8, and ``patch_size=(2, 2)``).
"""

AUDIOLDM_MEL = _mel("audioldm-mel", Linear(4), 4)
"""
AudioLDM, AudioLDM 2, MusicLDM: (B, C, T, mel), 4 mel frames and 4 mel bands a latent.

Source: diffusers ``AudioLDM2Pipeline`` (``vae_scale_factor``: two of three blocks halve the sides).
"""

LTX2_AUDIO_MEL = _mel("ltx2-audio-mel", Causal(4), 4)
"""
LTX-2 audio autoencoder: (B, C, T, mel), 4 mel frames and 4 mel bands a latent, the first latent one frame.

Source: Lightricks/LTX-2, audio decoder (T latents give 4T - 3 mel frames of 64 bands).
"""

OOBLECK_AUDIO = Geometry("oobleck-audio", (Axis("time", 2, Linear(2048)),))
"""
Stable Audio Open: (B, C, N), 2048 samples a latent (2 * 4 * 4 * 8 * 8).

Source: diffusers ``AutoencoderOobleck`` (``downsampling_ratios``).
"""
