"""Exact decoding and encoding within a memory budget: one call that makes a plan and streams the result."""

from ltx_models.video_vae.exact.decode import decode_exact, draws_noise, stream_decode
from ltx_models.video_vae.exact.encode import encode_exact, stream_encode
from ltx_models.video_vae.exact.planning import plan_exact

__all__ = ["decode_exact", "draws_noise", "encode_exact", "plan_exact", "stream_decode", "stream_encode"]
