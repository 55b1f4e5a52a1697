"""Captions to text embeddings: as pipelines take them, or as the official trainer does, before the connectors."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import BackendName, DType
from ltx_models.clips.marks import Mark
from ltx_models.clips.results import Layout, write_text
from ltx_models.clips.sources import Source
from ltx_models.media import DiskError
from ltx_models.nn import Array
from ltx_models.text import load_connectors, load_text_encoder
from tilekit import Loaded


@dataclass(frozen=True, slots=True)
class TextSettings:
    """
    How captions are encoded; the same for all.

    Attributes
    ----------
    encoder, connectors : Loaded
        What loads the language model and the connectors, once in each process.
    digests : tuple of str
        Of both.
    dtype : {"bfloat16", "float16", "float32"}
        Of the weights.
    layout : {"plain", "trainer"}
        How results lie.
    """

    encoder: Loaded
    connectors: Loaded
    digests: tuple[str, ...]
    dtype: DType
    layout: Layout

    @classmethod
    def of(
        cls, text_encoder: Path, checkpoint: Path, backend: BackendName, dtype: DType, device: Any, layout: Layout
    ) -> TextSettings:
        """Say where the networks are."""
        from ltx_models.pipelines.kept import weights_digest  # sizes and samples: gigabytes would be read for long

        load: dict[str, Any] = {"backend": backend, "dtype": dtype, "device": device}
        loaded = Loaded(load_text_encoder, text_encoder, **load), Loaded(load_connectors, checkpoint, **load)
        return cls(*loaded, tuple(map(weights_digest, (text_encoder, checkpoint))), dtype, layout)


def encode_caption(source: Source, folder: Path, settings: TextSettings, before: tuple[Loaded, ...] = ()) -> str | None:
    """
    Encode the caption of a clip, unless that is done.

    Parameters
    ----------
    source : Source
        The clip, with a caption.
    folder : Path
        Where results go.
    settings : TextSettings
        How.
    before : tuple of Loaded
        Networks that this process needs no longer.

    Returns
    -------
    str or None
        Why it failed.

    Raises
    ------
    DiskError
        If the disk is full.
    """
    try:
        for network in before:
            network.release()
        text = str(source.caption)
        made_of = {"caption": sha256(text.encode()).hexdigest()[:16], "networks": settings.digests}
        name = source.name.with_name(f"{source.name.name}.caption")
        mark = Mark(folder, name, {**made_of, "dtype": settings.dtype, "layout": settings.layout})
        if not mark.fits():
            mark.remove()
            mark.write(write_text(folder, source.name, embeddings(text, settings), settings.layout))
    except DiskError:
        raise
    except Exception as error:  # the result tells it; the other captions go on
        return "; ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])
    return None


def embeddings(text: str, settings: TextSettings) -> dict[str, Array]:
    """Give the text embeddings of a caption, with a batch axis of 1."""
    encoder, connectors = settings.encoder.get(), settings.connectors.get()
    if settings.layout == "plain":
        contexts = encoder.encode([text], connectors)
        found = {"video": contexts.video, "audio": contexts.audio}
    else:
        hidden, mask = encoder.hidden_states(encoder.tokenize([text]))
        video, audio = connectors.features(hidden, mask, padding_side="left")
        found = {"video_prompt_embeds": video, "audio_prompt_embeds": audio, "prompt_attention_mask": mask}
    return {name: x for name, x in found.items() if x is not None}
