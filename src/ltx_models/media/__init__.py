"""Video, sound and picture files, through PyAV and Pillow, which are imported when first used.

Video is ``(1, 3, F, H, W)`` float32 in [-1, 1], sound ``(1, channels, N)`` float32 in [-1, 1].
Whatever is written goes to a temporary name in the target's folder and is renamed when complete:
a file under its final name is always complete.
"""

from ltx_models.media._files import DiskError, MediaError, as_float32, replacing, unfinished
from ltx_models.media._frames import MediaWarning
from ltx_models.media._places import refuse_same, refuse_unwritable
from ltx_models.media.audio import read_audio, write_audio
from ltx_models.media.latents import LatentSpace, SavedLatents, read_latents, write_latents
from ltx_models.media.pictures import contact_sheet, write_picture
from ltx_models.media.reader import Clip, VideoInfo, iter_frames, probe_video, read_video, sample_clip
from ltx_models.media.tracks import OriginalAudio
from ltx_models.media.writer import VideoWriter, write_video

__all__ = [
    "Clip",
    "DiskError",
    "LatentSpace",
    "MediaError",
    "MediaWarning",
    "OriginalAudio",
    "SavedLatents",
    "VideoInfo",
    "VideoWriter",
    "as_float32",
    "contact_sheet",
    "iter_frames",
    "probe_video",
    "read_audio",
    "read_latents",
    "read_video",
    "refuse_same",
    "refuse_unwritable",
    "replacing",
    "sample_clip",
    "unfinished",
    "write_audio",
    "write_latents",
    "write_picture",
    "write_video",
]
