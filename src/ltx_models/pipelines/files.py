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
        The folder of the Gemma model.
    connectors, video_vae, audio_vae : Path or None
        Where these are files of their own; otherwise they are in `transformer`.
    upsampler : Path or None
        The latent upsampler of two-stage pipelines.
    distilled_lora : Path or None
        What turns a dev checkpoint into a distilled one in the second stage.
    loras : tuple of (Path, float)
        LoRAs of every stage, with their strengths.
    """

    transformer: Path
    text_encoder: Path | None = None
    connectors: Path | None = None
    video_vae: Path | None = None
    audio_vae: Path | None = None
    upsampler: Path | None = None
    distilled_lora: Path | None = None
    loras: tuple[Lora, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files and folders that are read."""
        own = (self.transformer, self.text_encoder, self.connectors, self.video_vae, self.audio_vae, self.upsampler)
        named = (*own, self.distilled_lora, *(file for file, _ in self.loras))
        return tuple(path for path in named if path is not None)

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
        }
        found = own.get(name) or (None if name in {"upsampler", "text_encoder"} else self.transformer)
        if found is None:
            msg = MISSING[name]
            raise ValueError(msg)
        return found


MISSING = {
    "upsampler": (
        "upsampler: a two-stage pipeline needs the spatial upsampler's file; give upsampler=, "
        "or use a one-stage pipeline"
    ),
    "text_encoder": "text_encoder: no folder of the Gemma model was given; give text_encoder=, or prompt_embeds=",
}
