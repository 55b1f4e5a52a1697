"""Whether files are what they were given for and belong together: from their headers, before any long work."""

from __future__ import annotations

from pathlib import Path

from ltx_models.checkpoints import CheckpointError, open_checkpoint
from ltx_models.checkpoints.contents import contents_of, spoken, version_by_header, version_text
from ltx_models.pipelines.files import Files
from ltx_models.pipelines.settings import version_of
from ltx_models.text.folder import check_folder
from ltx_models.text.gemma4 import TextEncoderFile, check_pair

FLAGS = {
    "transformer": "path= (--checkpoint-path) or transformer= (--transformer-path)",
    "text": "text_encoder= (--text-encoder-path)",
    "connectors": "transformer= (--transformer-path)",
    "video_vae": "video_vae= (--video-vae-path)",
    "audio_vae": "audio_vae= (--audio-vae-path)",
    "upsampler": "upsampler= (--spatial-upsampler-path)",
    "duration_head": "duration_head= (--duration-head-path)",
}
# components of the networks of a pipeline that a checkpoint of everything holds
COMPONENTS = {
    "connectors": "connectors",
    "video_encoder": "video_vae",
    "video_decoder": "video_vae",
    "statistics": "video_vae",
    "audio_encoder": "audio_vae",
    "audio_decoder": "audio_vae",
    "vocoder": "audio_vae",
}
# parts of keys of weights that only the tools which wrote them compute with
FOREIGN = {".comfy_quant": "ComfyUI's rotated int8", ".weight_scale_2": "NVFP4"}


def check_files(files: Files) -> None:
    """
    Refuse files that are something else than they were given for, or of another version than the transformer.

    Parameters
    ----------
    files : Files
        Of a pipeline.

    Raises
    ------
    CheckpointError
        If a file is broken, holds another component, or is of another version.
    ValueError
        If the language model does not belong to the transformer.
    """
    given = {
        "transformer": files.transformer,
        "video_vae": files.video_vae,
        "audio_vae": files.audio_vae,
        "upsampler": files.upsampler,
        "duration_head": files.duration_head,
    }
    own = _version(files.transformer)
    for component, path in given.items():
        if path is not None:
            said = check_part(path, component)
            if said is not None and said != own:
                msg = (
                    f"{path}: is of LTX {version_text(said)}, and the transformer {files.transformer} is of "
                    f"{version_text(own)}; take all files of one version"
                )
                raise CheckpointError(msg)
    check_text_encoder(files)


def _version(transformer: Path) -> tuple[int, int]:
    """Tell of which version a transformer is; files of 2.0 do not say, or say something else."""
    major, minor, *_ = (*version_of(transformer), 0, 0)
    return (2, minor) if major == 2 else (2, 0)


def check_part(path: Path, component: str) -> tuple[int, int] | None:
    """
    Refuse a file that holds something else than it was given for.

    Parameters
    ----------
    path : Path
        A file or folder.
    component : str
        A key of `FLAGS`.

    Returns
    -------
    (int, int) or None
        The version that the file says it is of, if it does.

    Raises
    ------
    CheckpointError
        If it is broken, holds other components alone, or weights in a form that only other tools read.
    """
    with open_checkpoint(path, "numpy") as checkpoint:
        held = contents_of(checkpoint.files)
        if held and component not in held:
            msg = (
                f"{path}: no {spoken({component}).split(' ', 1)[1]} in it, but {spoken(held)}; give the file that "
                f"has one, by {FLAGS[component]}"
            )
            raise CheckpointError(msg)
        for part, name in FOREIGN.items():
            if key := next((key for key in checkpoint.files if key.endswith(part)), None):
                msg = f"{path}: holds weights in {name} ({key}), which is not read; take the file in bfloat16 (bf16)"
                raise CheckpointError(msg)
        return version_by_header(checkpoint.metadata)


def check_present(files: Files, network: str) -> None:
    """
    Refuse a run whose transformer comes alone, in a file without the network that is needed.

    Parameters
    ----------
    files : Files
        Of a pipeline.
    network : str
        As `Components` names it.

    Raises
    ------
    CheckpointError
        If no file of it was given, and the transformer's file does not hold it; the text names the flag.
    """
    component = COMPONENTS.get(network)
    if component is None or files.of(network) != files.transformer:
        return
    with open_checkpoint(files.transformer, "numpy") as checkpoint:
        held = contents_of(checkpoint.files)
    if component not in held:
        what = spoken({component}).split(" ", 1)[1]
        msg = f"{files.transformer}: holds no {what}, and no file of one was given; give {FLAGS[component]}"
        raise CheckpointError(msg)


def check_text_encoder(files: Files) -> None:
    """
    Refuse a language model that does not belong to the transformer, or lacks a part.

    Parameters
    ----------
    files : Files
        Of a pipeline; nothing is checked where it has no language model.

    Raises
    ------
    CheckpointError
        If the text encoder's file is broken or lacks a part.
    ValueError
        If the language model is another than the one that the transformer was trained with.
    """
    path = files.text_encoder
    if path is None:
        return
    gemma = TextEncoderFile.read(path).config if path.is_file() else check_folder(path)
    with open_checkpoint(files.transformer, "numpy") as checkpoint:
        said = {"model_version": ".".join(map(str, version_of(files.transformer)))}
        check_pair(
            (said if said["model_version"] else {}) | checkpoint.metadata, gemma, f"{files.transformer} and {path}"
        )
        own = set(checkpoint.files)
    if path.is_dir():
        return
    for place in (path, files.connectors):
        if place is not None:
            with open_checkpoint(place, "numpy") as checkpoint:
                own |= set(checkpoint.files)
    if not any(key.startswith("text_embedding_projection.") for key in own):
        msg = (
            f"{path}: holds no projections of the language model's states (text_embedding_projection.*), nor does the "
            "transformer's file; take the text encoder's file that has them (with-proj)"
        )
        raise CheckpointError(msg)
