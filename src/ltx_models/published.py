"""What is published: the official files by version and part, and which of them a pipeline needs."""

from __future__ import annotations

from dataclasses import dataclass

GEMMA = "google/gemma-3-12b-it-qat-q4_0-unquantized"
_SPLIT = "Lightricks/LTX-2.5"
TEXT = ("*.json", "model*.safetensors", "tokenizer.model")


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    Files of one repository.

    Attributes
    ----------
    repo : str
        As ``owner/name``.
    patterns : tuple of str
        Names with ``*``; each must fit at least one file.
    revision : str or None
        A branch, tag or commit; None for the default branch.
    """

    repo: str
    patterns: tuple[str, ...]
    revision: str | None = None


MODELS: dict[str, dict[str, Wanted]] = {
    "2.0": {
        "distilled": Wanted("Lightricks/LTX-2", ("ltx-2-19b-distilled.safetensors",)),
        "distilled-fp8": Wanted("Lightricks/LTX-2", ("ltx-2-19b-distilled-fp8.safetensors",)),
        "dev": Wanted("Lightricks/LTX-2", ("ltx-2-19b-dev.safetensors",)),
        "dev-fp8": Wanted("Lightricks/LTX-2", ("ltx-2-19b-dev-fp8.safetensors",)),
        "lora": Wanted("Lightricks/LTX-2", ("ltx-2-19b-distilled-lora-384.safetensors",)),
        "spatial-upsampler": Wanted("Lightricks/LTX-2", ("ltx-2-spatial-upscaler-x2-1.0.safetensors",)),
        "temporal-upsampler": Wanted("Lightricks/LTX-2", ("ltx-2-temporal-upscaler-x2-1.0.safetensors",)),
        "text-encoder": Wanted(GEMMA, TEXT),
    },
    "2.3": {
        "distilled": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-22b-distilled-1.1.safetensors",)),
        "distilled-fp8": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-22b-distilled-fp8.safetensors",)),
        "dev": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-22b-dev.safetensors",)),
        "dev-fp8": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-22b-dev-fp8.safetensors",)),
        "lora": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-22b-distilled-lora-384-1.1.safetensors",)),
        "spatial-upsampler": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-spatial-upscaler-x2-1.1.safetensors",)),
        "temporal-upsampler": Wanted("Lightricks/LTX-2.3", ("ltx-2.3-temporal-upscaler-x2-1.0.safetensors",)),
        "text-encoder": Wanted(GEMMA, TEXT),
    },
    "2.5": {
        "distilled": Wanted(_SPLIT, ("diffusion_models/ltx-2.5-22b-distilled-transformer-bf16.safetensors",)),
        "dev": Wanted(_SPLIT, ("diffusion_models/ltx-2.5-22b-dev-transformer-bf16.safetensors",)),
        "lora": Wanted(_SPLIT, ("loras/ltx-2.5-22b-distilled-lora-450-bf16.safetensors",)),
        "spatial-upsampler": Wanted(
            _SPLIT, ("latent_upscale_models/ltx-2.5-latent-spatial-upscaler-x2-bf16-1.0.safetensors",)
        ),
        "temporal-upsampler": Wanted(
            _SPLIT, ("latent_upscale_models/ltx-2.5-latent-temporal-upscaler-x2-bf16-1.0.safetensors",)
        ),
        "text-encoder": Wanted(_SPLIT, ("text_encoders/gemma4-12b-with-proj-ltx-2.5-bf16.safetensors",)),
        "video-vae": Wanted(_SPLIT, ("vae/ltx-2.5-video-vae-bf16.safetensors",)),
        "video-vae-conv": Wanted(_SPLIT, ("vae/ltx-2.5-video-vae-conv-bf16.safetensors",)),
        "audio-vae": Wanted(_SPLIT, ("vae/ltx-2.5-audio-vae-bf16.safetensors",)),
        "duration-head": Wanted(_SPLIT, ("model_patches/ltx-2.5-duration-head-bf16.safetensors",)),
    },
}
"""The official files, by version and part; from 2.5 on, each component is a file of its own."""

APART = ("video-vae", "audio-vae", "duration-head")
"""The parts that every pipeline needs besides, where they are files of their own."""

PIPELINES = {
    "distilled": ("distilled", "spatial-upsampler", "text-encoder"),
    "distilled-one-stage": ("distilled", "text-encoder"),
    "dev": ("dev", "text-encoder"),
    "dev-two-stage": ("dev", "lora", "spatial-upsampler", "text-encoder"),
    "dev-two-stage-hq": ("dev", "lora", "spatial-upsampler", "text-encoder"),
    "keyframes": ("dev", "lora", "spatial-upsampler", "text-encoder"),
}
"""The parts that each pipeline needs."""


def wanted_by(
    pipeline: str, *, version: str = "2.3", fp8: bool = False, text_encoder: bool = True, convolutional: bool = False
) -> tuple[Wanted, ...]:
    """
    List the files that a pipeline needs.

    Parameters
    ----------
    pipeline : str
        Its name, a key of `PIPELINES`.
    version : {"2.0", "2.3", "2.5"}
        Of the model.
    fp8 : bool
        Whether the transformer is the file of 8-bit floats; of 2.5 there is none.
    text_encoder : bool
        Whether the language model is among them.
    convolutional : bool
        Whether the video autoencoder is the one with the convolutional decoder, which takes less memory and work; of
        2.5, where there are two.

    Returns
    -------
    tuple of Wanted
        Files by repository.

    Raises
    ------
    ValueError
        If the pipeline or version is unknown, or the version has no such file.

    Examples
    --------
    >>> [file for wanted in wanted_by("distilled", text_encoder=False) for file in wanted.patterns]
    ['ltx-2.3-22b-distilled-1.1.safetensors', 'ltx-2.3-spatial-upscaler-x2-1.1.safetensors']
    """
    if pipeline not in PIPELINES:
        msg = f"pipeline: got {pipeline!r}, allowed are {', '.join(map(repr, PIPELINES))}"
        raise ValueError(msg)
    if version not in MODELS:
        msg = f"version: got {version!r}, allowed are {', '.join(map(repr, MODELS))}"
        raise ValueError(msg)
    own = MODELS[version]
    parts = [part for part in PIPELINES[pipeline] if text_encoder or part != "text-encoder"]
    parts += [part for part in APART if part in own]
    if fp8:
        parts = [f"{part}-fp8" if part in {"distilled", "dev"} else part for part in parts]
    if convolutional:
        parts = [f"{part}-conv" if part == "video-vae" else part for part in parts]
        parts += [] if "video-vae" in own else ["video-vae-conv"]
    if missing := [part for part in parts if part not in own]:
        msg = f"{missing[0]}: is not published for {version}; there are {', '.join(own)}" + (
            "; leave fp8 out, and quantise when the file is read (quantize='fp8', --quantization fp8)" if fp8 else ""
        )
        raise ValueError(msg)
    return tuple(own[part] for part in parts)
