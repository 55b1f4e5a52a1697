"""The public names, and where each of them is; `__init__.py` reads this file too."""

from . import conditioning as conditioning
from . import sampling as sampling
from .audio_vae import load_audio_decoder as load_audio_decoder
from .audio_vae import load_audio_encoder as load_audio_encoder
from .audio_vae import log_mel as log_mel
from .audio_vae import mel_stream as mel_stream
from .checkpoints import CheckpointError as CheckpointError
from .clips import encode_clips as encode_clips
from .defaults import default_checkpoint as default_checkpoint
from .defaults import default_pipeline as default_pipeline
from .pipelines import LTX2Pipeline as LTX2Pipeline
from .sound_tiles import decode_audio_tiled as decode_audio_tiled
from .sound_tiles import vocode_tiled as vocode_tiled
from .text import load_connectors as load_connectors
from .text import load_text_encoder as load_text_encoder
from .text.duration import duration_frames as duration_frames
from .text.duration import load_duration_head as load_duration_head
from .transformer import Modality as Modality
from .transformer import load_transformer as load_transformer
from .transformer import save_transformer as save_transformer
from .upsampler import load_statistics as load_statistics
from .upsampler import load_upsampler as load_upsampler
from .upsampler import upsample_latent as upsample_latent
from .video_vae import ExactPlan as ExactPlan
from .video_vae import Strips as Strips
from .video_vae import decode_exact as decode_exact
from .video_vae import encode_exact as encode_exact
from .video_vae import load_video_decoder as load_video_decoder
from .video_vae import load_video_encoder as load_video_encoder
from .video_vae import plan_exact as plan_exact
from .video_vae import stream_decode as stream_decode
from .video_vae import stream_encode as stream_encode
from .vocoder import load_vocoder as load_vocoder

__version__: str

__all__ = [
    "CheckpointError",
    "ExactPlan",
    "LTX2Pipeline",
    "Modality",
    "Strips",
    "conditioning",
    "decode_audio_tiled",
    "decode_exact",
    "default_checkpoint",
    "default_pipeline",
    "duration_frames",
    "encode_clips",
    "encode_exact",
    "load_audio_decoder",
    "load_audio_encoder",
    "load_connectors",
    "load_duration_head",
    "load_statistics",
    "load_text_encoder",
    "load_transformer",
    "load_upsampler",
    "load_video_decoder",
    "load_video_encoder",
    "load_vocoder",
    "log_mel",
    "mel_stream",
    "plan_exact",
    "sampling",
    "save_transformer",
    "stream_decode",
    "stream_encode",
    "upsample_latent",
    "vocode_tiled",
]
