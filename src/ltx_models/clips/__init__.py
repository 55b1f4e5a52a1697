"""Data sets of clips to latents: a task for each clip, in buckets of size and length, restartable."""

from ltx_models.clips.buckets import Bucket
from ltx_models.clips.driver import ClipsError, encode_clips
from ltx_models.clips.fitting import FittedClip, fit_clip
from ltx_models.clips.sources import find_clips
from ltx_models.clips.task import ClipResult, ClipSettings

__all__ = ["Bucket", "ClipResult", "ClipSettings", "ClipsError", "FittedClip", "encode_clips", "find_clips", "fit_clip"]
