"""How long a clip should be: a small network that reads a prompt's text embeddings (2.5), and frames of seconds."""

from ltx_models.text.duration.frames import duration_frames
from ltx_models.text.duration.head import DurationConfig, DurationHead, load_duration_head

__all__ = ["DurationConfig", "DurationHead", "duration_frames", "load_duration_head"]
