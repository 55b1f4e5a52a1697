"""The files that somebody names for a pipeline: which are looked for, which are fetched, and whether they belong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ltx_models.defaults import default_pipeline
from ltx_models.lora import check_lora
from ltx_models.pipelines.belonging import check_files
from ltx_models.pipelines.duration import with_own_head
from ltx_models.pipelines.files import Files
from ltx_models.pipelines.finding import find_file, find_files, find_text_encoder
from ltx_models.pipelines.listing import Criteria
from ltx_models.pipelines.settings import Recipe
from ltx_models.text.enhancer import check_enhancer

Place = str | Path | None
ALONE = ("text_encoder", "upsampler", "distilled_lora", "video_vae", "audio_vae", "duration_head")


@dataclass(frozen=True, slots=True)
class Given:
    """
    What `LTX2Pipeline.from_pretrained` is told about files; None where they are to be looked for.

    Attributes
    ----------
    path, transformer, text_encoder, prompt_enhancer : path, str or None
        The checkpoint, and networks that may lie elsewhere; `text_encoder` is False where none is needed.
    upsampler, distilled_lora, video_vae, audio_vae, duration_head : path, str or None
        Files of their own.
    loras : tuple of (path, float)
        With their strengths.
    """

    path: Place
    transformer: Place
    text_encoder: str | Path | Literal[False] | None
    upsampler: Place
    distilled_lora: Place
    loras: tuple[tuple[str | Path, float], ...]
    video_vae: Place
    audio_vae: Place
    duration_head: Place
    prompt_enhancer: Place

    def find(
        self,
        pipeline: str | None,
        *,
        fp8: bool,
        token: str | None,
        revision: str | None,
        say: Callable[[str], object] | None,
    ) -> tuple[Recipe, Files]:
        """Find or fetch all files of a pipeline, and refuse those that are missing or do not belong together."""
        criteria = Criteria(pipeline, fp8, **{name: getattr(self, name) is None for name in ALONE})
        recipe, files = find_files(self._first(), criteria, token=token, say=say, revision=revision)
        files = with_own_head(self._in_place(files, token, say))
        _check(recipe, files)
        return recipe, files

    def _first(self) -> str | Path:
        """Give the checkpoint, or the transformer's own file, or the embedded toy."""
        if self.path is not None and self.transformer is not None:
            msg = (
                f"path: got {self.path} and transformer={self.transformer}; give a checkpoint, folder or repository as "
                "the one (--checkpoint-path), or the transformer's own file as the other (--transformer-path)"
            )
            raise ValueError(msg)
        first = self.transformer if self.path is None else self.path
        return self._toy() if first is None else first

    def _toy(self) -> Path:
        """Give the embedded toy, unless files were given that are parts of another checkpoint."""
        if names := [name for name in ALONE if getattr(self, name)]:
            msg = (
                f"path: no checkpoint was given, but {', '.join(names)}; say which checkpoint they belong to "
                "(--checkpoint-path): the embedded toy is never mixed with other files"
            )
            raise ValueError(msg)
        return default_pipeline()

    def _in_place(self, files: Files, token: str | None, say: Callable[[str], object] | None) -> Files:
        """Put what was named in the place of what was found."""
        find, find_text = partial(find_file, token=token, say=say), partial(find_text_encoder, token=token, say=say)
        single = ("upsampler", "distilled_lora", "video_vae", "audio_vae", "duration_head")
        changed: dict[str, Any] = {name: find(value) for name in single if (value := getattr(self, name)) is not None}
        if self.text_encoder:
            changed["text_encoder"] = find_text(self.text_encoder)
        return replace(
            files,
            **changed,
            prompt_enhancer=None if self.prompt_enhancer is None else find_text(self.prompt_enhancer),
            loras=tuple((find(file), float(strength)) for file, strength in self.loras),
        )


def refuse_clashes(torch_dtype: Any, memory_bytes: int | None, chosen: bool) -> None:
    """Refuse the name that diffusers has for ``dtype``, and a budget beside what a budget chooses."""
    if torch_dtype is not None:
        msg = f"torch_dtype: got {torch_dtype}; here it is dtype=, as text for either framework, such as 'bfloat16'"
        raise TypeError(msg)
    if memory_bytes is not None and chosen:
        msg = "memory_bytes: chooses quantize and offload itself; leave those out, or leave memory_bytes out"
        raise ValueError(msg)


def _check(recipe: Recipe, files: Files) -> None:
    """Refuse files that are missing or do not belong to the transformer."""
    check_files(files)
    if files.prompt_enhancer is not None:
        check_enhancer(files.prompt_enhancer)
    if recipe.two_stages:
        files.of("upsampler")
    if recipe.needs_lora and files.distilled_lora is None:
        msg = f"distilled_lora: the pipeline {recipe.name!r} needs the distilled LoRA's file"
        raise ValueError(msg)
    distilled = [files.distilled_lora] if recipe.needs_lora and files.distilled_lora is not None else []
    for lora in [*(file for file, _ in files.loras), *distilled]:
        check_lora(lora, files.transformer)
