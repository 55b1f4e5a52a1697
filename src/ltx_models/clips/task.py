"""One clip to its latents: what an executor runs, anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from ltx_models.audio_vae import load_audio_encoder
from ltx_models.checkpoints import BackendName, DType
from ltx_models.clips.buckets import Bucket
from ltx_models.clips.fitting import Fit, FittedClip, fit_clip
from ltx_models.clips.marks import Mark, file_digest
from ltx_models.clips.results import Layout, write_clip
from ltx_models.clips.sound import sound_latents
from ltx_models.clips.sources import Source
from ltx_models.media import DiskError, MediaError
from ltx_models.nn import Array
from ltx_models.video_vae import encode_exact, load_video_encoder
from tilekit import Loaded, Tiling, TilingConfig, encode_tiled

State = Literal["made", "kept", "failed"]
AnyTiling = Tiling | TilingConfig | Callable[[tuple[int, int, int]], Tiling | TilingConfig | None]


@dataclass(frozen=True, slots=True)
class ClipSettings:
    """
    How clips are encoded; the same for all.

    Attributes
    ----------
    checkpoint : Path
        The networks.
    backend : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        Of the weights.
    devices : tuple of str or None
        Where the encoder is loaded, once for each; tasks of one process take turns.
    tiling : Tiling, TilingConfig, callable or None
        Blended tiles, or what gives them for (frames, height, width); None encodes exactly.
    memory_bytes : int or None
        Budget of exact work.
    tile_batch_size : int
        Most tiles of one call.
    frames : int or None
        Frames from the beginning; None for all.
    fit : {"crop", "refuse"}
        What happens to sizes off the grid.
    buckets : tuple of Bucket
        Sizes and lengths to choose from.
    sound : bool
        Whether the sound is encoded too, in float32.
    layout : {"plain", "trainer"}
        How results lie.
    digests : tuple of (str, str)
        Names of networks and their digests, by which results of others are known.
    encoders, audio_encoders : tuple of Loaded
        What loads the encoders on each device.
    """

    checkpoint: Path
    backend: BackendName = "torch"
    dtype: DType = "float32"
    devices: tuple[str | None, ...] = (None,)
    tiling: AnyTiling | None = None
    memory_bytes: int | None = None
    tile_batch_size: int = 1
    frames: int | None = None
    fit: Fit = "crop"
    buckets: tuple[Bucket, ...] = ()
    sound: bool = False
    layout: Layout = "plain"
    digests: tuple[tuple[str, str], ...] = ()
    encoders: tuple[Loaded, ...] = field(default=(), repr=False)
    audio_encoders: tuple[Loaded, ...] = field(default=(), repr=False)

    def ready(self, digests: tuple[tuple[str, str], ...]) -> ClipSettings:
        """Add the digests, and what loads the encoder on each device, once in each process."""
        load = {"backend": self.backend, "dtype": self.dtype}
        encoders = (Loaded(load_video_encoder, self.checkpoint, **load, device=device) for device in self.devices)
        heard = {"backend": self.backend, "dtype": "float32"}
        audio = (Loaded(load_audio_encoder, self.checkpoint, **heard, device=device) for device in self.devices)
        encoders_of_sound = tuple(audio) if self.sound else ()
        return replace(self, digests=digests, encoders=tuple(encoders), audio_encoders=encoders_of_sound)

    def key(self) -> dict[str, Any]:
        """Give what results depend on, as JSON values."""
        tiling = None if self.tiling is None else [str(self.tiling), self.tile_batch_size]
        return {
            "networks": dict(self.digests),
            "dtype": self.dtype,
            "tiling": tiling,
            "frames": self.frames,
            "fit": self.fit,
            "buckets": sorted(map(str, self.buckets)),
            "sound": self.sound,
            "layout": self.layout,
        }


@dataclass(frozen=True, slots=True)
class ClipResult:
    """
    What became of a clip.

    Attributes
    ----------
    path : Path
        The file.
    state : {"made", "kept", "failed"}
        Whether it was encoded now, had been before, or could not be.
    shape : tuple of int
        Of its latents, where they were made now.
    notes : tuple of str
        What was done to make it fit.
    error : str
        Why it failed.
    """

    path: Path
    state: State
    shape: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""


def encode_clip(source: Source, folder: Path, settings: ClipSettings) -> ClipResult:
    """
    Encode a clip, unless its latents are there and made of the same.

    Parameters
    ----------
    source : Source
        The clip.
    folder : Path
        Where results go.
    settings : ClipSettings
        How.

    Returns
    -------
    ClipResult
        Errors of the clip are in it: one clip that cannot be read must not end the work on the others.

    Raises
    ------
    DiskError
        If the disk is full, which is the end for the others too.
    """
    try:
        mark = Mark(folder, source.name, settings.key() | {"file": file_digest(source.path)})
        if mark.fits():
            return ClipResult(source.path, "kept")
        mark.remove()
        clip = fit_clip(source.path, frames=settings.frames, fit=settings.fit, buckets=settings.buckets)
        with _network(settings.encoders) as encoder:
            latents = encoded(encoder.get(), clip, settings)
        sound: tuple[Any, float] = (None, 0.0)
        if settings.sound:
            with _network(settings.audio_encoders) as encoder:
                sound = _heard(clip, encoder.get())
        write = (folder, source.name, latents, clip, settings.checkpoint, sound, settings.layout)
        mark.write(write_clip(*write))
        return ClipResult(source.path, "made", tuple(latents.shape), clip.notes)
    except DiskError:
        raise
    except Exception as error:  # the result tells it; the other clips go on
        notes = "; ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])
        known = isinstance(error, (MediaError, ValueError, OSError))
        return ClipResult(source.path, "failed", error=notes if known else f"{type(error).__name__}: {notes}")


def encoded(encoder: Any, clip: FittedClip, settings: ClipSettings) -> Array:
    """Give the latents of a clip, of the encoder's library."""
    nn = encoder.nn
    video = nn.cast(nn.asarray(clip.video), nn.dtype(settings.dtype), _device_of(encoder))
    if settings.tiling is None:
        latents = encode_exact(encoder, video, memory_bytes=settings.memory_bytes)
    else:
        _, _, frames, height, width = clip.video.shape
        tiling = settings.tiling((frames, height, width)) if callable(settings.tiling) else settings.tiling
        latents = encode_tiled(encoder, video, tiling, tile_batch_size=settings.tile_batch_size)
    nn.synchronize(latents)
    return latents


def _heard(clip: FittedClip, encoder: Any) -> tuple[Array | None, float]:
    return sound_latents(clip.path, clip.video.shape[2], clip.fps, encoder, _device_of(encoder))


def _device_of(encoder: Any) -> Any:
    """Give the device of a module of torch; None for one of MLX."""
    parameters = encoder.parameters()
    return None if isinstance(parameters, dict) else next(iter(parameters)).device


_free: dict[tuple[Loaded, ...], SimpleQueue[Loaded]] = {}


@contextmanager
def _network(copies: Sequence[Loaded]) -> Iterator[Loaded]:
    """Give a copy that no other task of this process uses; each process begins with another one."""
    queue = SimpleQueue[Loaded]()
    first = worker_number() % len(copies)
    for copy in (*copies[first:], *copies[:first]):
        queue.put(copy)
    queue = _free.setdefault(tuple(copies), queue)
    copy = queue.get()
    try:
        yield copy
    finally:
        queue.put(copy)


def worker_number() -> int:
    """Number the processes of a pool; 0 in any other."""
    from multiprocessing import current_process

    identity: tuple[int, ...] = getattr(current_process(), "_identity", ())
    return identity[-1] - 1 if identity else 0
