"""Many clips to latents: a task for each, on any executor, restartable."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ltx_models.audio_vae import load_audio_encoder
from ltx_models.checkpoints import BackendName, DType, keys_of_half, without_weights
from ltx_models.checkpoints.digest import network_digest
from ltx_models.clips.buckets import Bucket
from ltx_models.clips.fitting import Fit
from ltx_models.clips.results import LAYOUTS, Layout
from ltx_models.clips.sources import Source, find_clips
from ltx_models.clips.task import AnyTiling, ClipResult, ClipSettings, encode_clip
from ltx_models.clips.text import TextSettings, encode_caption
from ltx_models.defaults import default_checkpoint
from ltx_models.media import DiskError, refuse_unwritable
from ltx_models.progress import Progress, reported
from ltx_models.video_vae import load_video_encoder
from tilekit import BackendError

IN_FLIGHT = 64  # clips that an executor knows of, at least; four for each worker where it says how many it has
MOST_NAMED = 20  # clips that failed, in the text of an error


class ClipsError(ValueError):
    """
    Some clips could not be encoded; the others were.

    Attributes
    ----------
    results : tuple of ClipResult
        What became of every clip.
    """

    def __init__(self, message: str, results: Sequence[ClipResult] = ()) -> None:
        super().__init__(message)
        self.results = tuple(results)


def encode_clips(
    paths: Iterable[str | Path],
    folder: str | Path,
    *,
    executor: Any = None,
    checkpoint: str | Path | None = None,
    backend: BackendName = "torch",
    dtype: DType = "float32",
    devices: Sequence[str | None] = (None,),
    tiling: AnyTiling | None = None,
    memory_bytes: int | None = None,
    tile_batch_size: int = 1,
    frames: int | None = None,
    fit: Fit = "crop",
    buckets: Iterable[Bucket | str] = (),
    sound: bool = False,
    layout: Layout = "plain",
    text_encoder: str | Path | None = None,
    media_column: str = "media_path",
    caption_column: str = "caption",
    progress: Progress = None,
    on_clip: Callable[[ClipResult], object] | None = None,
) -> list[ClipResult]:
    """
    Encode many clips, each into a file of latents: a task for each clip, on any executor.

    A clip whose latents are there, made of the same file by the same network with the same settings, is not encoded
    again; so a run that was ended goes on when it is started again, and changed clips are made anew.

    Parameters
    ----------
    paths : iterable of path
        Video files, folders that are searched for them, and tables of clips, .csv, .json or .jsonl.
    folder : path
        Where latents go, made where it is not there; those of a folder's clips lie as these do.
    executor : concurrent.futures.Executor, optional
        What runs the tasks: threads, processes, Dask's ``client.get_executor(pure=False)``, mpi4py's. Every process
        loads the encoder once. None encodes here, one clip after the other.
    checkpoint : path, optional
        The networks; by default the small ones of this package. Workers read it, so they must see it by this name.
    backend, dtype : optional
        As `ltx_models.load_video_encoder` takes them.
    devices : sequence of str or None
        Devices of torch that the tasks of a process take in turn, each with an encoder of its own.
    tiling : Tiling, TilingConfig or callable, optional
        Blended tiles, or what gives them for (frames, height, width), of which `str` tells what it does; by default
        clips are encoded exactly.
    memory_bytes : int, optional
        Budget of exact work.
    tile_batch_size : int
        Most tiles of one call.
    frames : int, optional
        Frames from the beginning, 1 + 8k; by default all, as far as they are 1 + 8k.
    fit : {"crop", "refuse"}
        What happens to sizes off the grid of 32 pixels.
    buckets : iterable of Bucket or str
        Sizes and lengths ``WxHxF``, of which each clip is brought to the one that suits it best.
    sound : bool
        Encode the sound of clips that have some, too, as long as their frames.
    layout : {"plain", "trainer"}
        A file of safetensors for each clip, which ``ltx-models decode`` reads; or the folders ``latents`` and
        ``audio_latents`` in ``.precomputed``, as the official trainer reads them.
    text_encoder : path, optional
        The language model; captions become text embeddings then, after all clips: ``NAME.text.safetensors`` as
        pipelines take them, or the trainer's ``conditions``, which are those before the connectors.
    media_column, caption_column : str
        Of tables among `paths`: which columns have the clips and their captions.
    progress : bool or callable, optional
        True for a bar, or called as ``progress(clips_done, clips_in_all)``.
    on_clip : callable, optional
        Called with each `ClipResult`, in the order of the clips.

    Returns
    -------
    list of ClipResult
        In the order of the clips.

    Raises
    ------
    ClipsError
        If clips could not be encoded: at the end, with the name and error of each. All others are encoded.
    ValueError
        If there are no clips, or results of two would have one name; before any work.
    CheckpointError
        If the checkpoint has no encoder; before any work.
    DiskError
        If the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> from ltx_models import encode_clips
    >>> from ltx_models.media import sample_clip
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = encode_clips([sample_clip()], folder, buckets=["96x64x9"])
    ...     again = encode_clips([sample_clip()], folder, buckets=["96x64x9"])
    ...     first[0].state, first[0].shape, again[0].state
    ('made', (1, 128, 2, 2, 3), 'kept')
    """
    folder, sources = Path(folder), find_clips(paths, media_column=media_column, caption_column=caption_column)
    if layout not in LAYOUTS:
        msg = f"layout: got {layout!r}, allowed are {', '.join(LAYOUTS)}"
        raise ValueError(msg)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        msg = f"executor: got a {type(executor).__qualname__}, expected an object with submit(function, ...)"
        raise BackendError(msg)
    path = Path(default_checkpoint() if checkpoint is None else checkpoint)
    chosen = tuple(b if isinstance(b, Bucket) else Bucket.read(b) for b in buckets)
    settings = ClipSettings(
        path, backend, dtype, tuple(devices), tiling, memory_bytes, tile_batch_size, frames, fit, chosen, sound, layout
    )
    settings = settings.ready(_checked(settings))
    text = None
    if text_encoder is not None:
        if not any(source.caption for source in sources):
            msg = f"text_encoder: no clip has a caption; give a table with the column {caption_column!r}"
            raise ValueError(msg)
        text = TextSettings.of(Path(text_encoder), path, backend, dtype, settings.devices[0], layout)
    folder.mkdir(parents=True, exist_ok=True)
    refuse_unwritable(folder / "latents.safetensors")
    results = []
    with reported(progress, "encode", "clip") as report:
        for result in _results(executor, sources, folder, settings):
            results.append(result)
            report(len(results), len(sources))
            if on_clip is not None:
                on_clip(result)
    if text is not None:
        results = _captioned(executor, sources, folder, settings, text, results)
    _tell(results)
    return results


def _captioned(
    executor: Any,
    sources: Sequence[Source],
    folder: Path,
    settings: ClipSettings,
    text: TextSettings,
    results: Sequence[ClipResult],
) -> list[ClipResult]:
    """Encode the captions; a clip whose caption failed has failed."""
    before = (*settings.encoders, *settings.audio_encoders)
    work = [(source, folder, text, before) for source in sources if source.caption]
    errors: dict[Path, str] = {}
    submitted = [None if executor is None else executor.submit(encode_caption, *args) for args in work]
    try:
        for args, future in zip(work, submitted, strict=True):
            error = encode_caption(*args) if future is None else future.result()
            if error is not None:
                errors[args[0].path] = f"{args[0].path}: its caption: {error}"
    finally:
        for future in submitted:
            if future is not None:
                future.cancel()
    text.encoder.release()
    text.connectors.release()
    return [replace(r, state="failed", error=errors[r.path]) if r.path in errors else r for r in results]


def _checked(settings: ClipSettings) -> tuple[tuple[str, str], ...]:
    """Load what must be there without its weights; give the digests of the networks."""
    with without_weights():
        load_video_encoder(settings.checkpoint, backend=settings.backend, dtype=settings.dtype)
        if settings.sound:
            load_audio_encoder(settings.checkpoint, backend=settings.backend, dtype="float32")
    if settings.layout == "trainer" and find_spec("torch") is None:
        msg = "layout: the trainer's files are of torch; install it with: pip install 'tilekit-vae[torch]'"
        raise ImportError(msg)
    sections = {"video_encoder": "vae"} | ({"audio_encoder": "audio_vae"} if settings.sound else {})
    return tuple(
        (name, network_digest(settings.checkpoint, keys_of_half(section, "encoder"), section))
        for name, section in sections.items()
    )


def _results(executor: Any, sources: Sequence[Source], folder: Path, settings: ClipSettings) -> Iterator[ClipResult]:
    """Run the tasks; give their results in the order of the clips."""
    if executor is None:
        for source in sources:
            yield encode_clip(source, folder, settings)
        return
    workers = getattr(executor, "_max_workers", 0)
    most = max(IN_FLIGHT, 4 * workers if isinstance(workers, int) else 0)
    waiting: deque[tuple[Source, Any]] = deque()
    try:
        for source in sources:
            waiting.append((source, executor.submit(encode_clip, source, folder, settings)))
            if len(waiting) == most:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())
    finally:
        for _, future in waiting:
            future.cancel()


def _finished(source: Source, future: Any) -> ClipResult:
    try:
        result: ClipResult = future.result()
    except (BrokenExecutor, DiskError) as error:
        error.add_note(f"while {source.path} was encoded; what is done is kept: run again, and it goes on from there")
        raise
    except Exception as error:  # what an executor says of a worker that was lost with this clip
        return ClipResult(source.path, "failed", error=f"{type(error).__name__}: {error}")
    return result


def _tell(results: Sequence[ClipResult]) -> None:
    failed = [result for result in results if result.state == "failed"]
    if not failed:
        return
    rows = [r.error if str(r.path) in r.error else f"{r.path}: {r.error}" for r in failed[:MOST_NAMED]]
    more = f"; and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
    msg = f"{len(failed)} of {len(results)} clips could not be encoded, the others are: {'; '.join(rows)}{more}"
    raise ClipsError(msg, results)
