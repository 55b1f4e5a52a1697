"""Where the files of a pipeline lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

Lora = tuple[Path, float]


@dataclass(frozen=True, slots=True)
class Files:
    """
    Where the parts of a pipeline lie.

    Attributes
    ----------
    transformer : Path
        A whole checkpoint, or the transformer with its text connectors.
    text_encoder : Path or None
        The folder of the Gemma 3 model, or the text encoder's file, which holds the projections too (2.5).
    connectors, video_vae, audio_vae : Path or None
        Where these are files of their own; otherwise they are in `transformer`.
    upsampler : Path or None
        The latent upsampler of two-stage pipelines.
    distilled_lora : Path or None
        What turns a dev checkpoint into a distilled one in the second stage.
    loras : tuple of (Path, float)
        LoRAs of every stage, with their strengths.
    duration_head : Path or None
        What says how long the clip of a prompt should be (2.5).
    prompt_enhancer : Path or None
        The folder of an instruction-tuned Gemma that writes prompts out, where the text encoder is not to.
    """

    transformer: Path
    text_encoder: Path | None = None
    connectors: Path | None = None
    video_vae: Path | None = None
    audio_vae: Path | None = None
    upsampler: Path | None = None
    distilled_lora: Path | None = None
    loras: tuple[Lora, ...] = ()
    duration_head: Path | None = None
    prompt_enhancer: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files and folders that are read."""
        own = (self.transformer, self.text_encoder, self.connectors, self.video_vae, self.audio_vae, self.upsampler)
        others = (self.distilled_lora, self.duration_head, self.prompt_enhancer)
        named = (*own, *others, *(file for file, _ in self.loras))
        return tuple(path for path in named if path is not None)

    @property
    def projections(self) -> Path | None:
        """Where the projections of the text connectors are, unless they are beside the connectors."""
        return self.text_encoder if self.text_encoder is not None and self.text_encoder.is_file() else None

    def of(self, name: str) -> Path:
        """Give the file that holds a network."""
        own = {
            "connectors": self.connectors,
            "video_encoder": self.video_vae,
            "video_decoder": self.video_vae,
            "statistics": self.video_vae,
            "audio_encoder": self.audio_vae,
            "audio_decoder": self.audio_vae,
            "vocoder": self.audio_vae,
            "upsampler": self.upsampler,
            "text_encoder": self.text_encoder,
            "duration_head": self.duration_head,
            "prompt_enhancer": self.prompt_enhancer,
        }
        found = own.get(name) or (None if name in MISSING else self.transformer)
        if found is None:
            msg = MISSING[name]
            raise ValueError(msg)
        return found


MISSING = {
    "upsampler": (
        "upsampler: a two-stage pipeline needs the spatial upsampler's file; give upsampler=, "
        "or use a one-stage pipeline"
    ),
    "text_encoder": (
        "text_encoder: no language model was given, the folder of Gemma 3 or, for 2.5, the text encoder's file; give "
        "text_encoder= (--text-encoder-path, --gemma-root), or prompt_embeds="
    ),
    "duration_head": (
        "duration_head: no file of it was given; give duration_head= (--duration-head-path), or the number of frames"
    ),
    "prompt_enhancer": (
        "prompt_enhancer: no folder of an instruction-tuned Gemma was given; give prompt_enhancer= "
        "(--prompt-enhancer-gemma-root)"
    ),
}
