"""
The video autoencoder of LTX-2 and LTX-2.3: pixels to latents and back, whole or as an exact stream in time.

Encoder and decoder are sequences of `Unit`. A whole pass runs each unit once, on a piece that is first and last; a
stream pushes pieces through them (`ltx_models.nn.stream`).
"""

from ltx_models.video_vae.config import LTX2, LTX2_3, VideoVAEConfig
from ltx_models.video_vae.decoder import VideoDecoder
from ltx_models.video_vae.encoder import VideoEncoder
from ltx_models.video_vae.exact import decode_exact, encode_exact, plan_exact, stream_decode, stream_encode
from ltx_models.video_vae.exact_plan import ExactPlan
from ltx_models.video_vae.loading import load_video_decoder, load_video_encoder
from tilekit import Strips

__all__ = [
    "LTX2",
    "LTX2_3",
    "ExactPlan",
    "Strips",
    "VideoDecoder",
    "VideoEncoder",
    "VideoVAEConfig",
    "decode_exact",
    "encode_exact",
    "load_video_decoder",
    "load_video_encoder",
    "plan_exact",
    "stream_decode",
    "stream_encode",
]
