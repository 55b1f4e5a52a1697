"""The network of a verb, and arrays on their way to it."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import ltx_models
from ltx_models.checkpoints import CheckpointError
from ltx_models.checkpoints.latent_space import Kind, latent_space
from ltx_models.cli.machine import taken
from ltx_models.defaults import toy_checkpoint
from ltx_models.media import LatentSpace, SavedLatents
from ltx_models.pipelines.belonging import check_part, check_present
from ltx_models.pipelines.files import Files
from ltx_models.pipelines.finding import find_file, find_files, repository
from ltx_models.pipelines.listing import Criteria, SourceError, local_listing
from ltx_models.pipelines.split import split_transformers


def named(args: argparse.Namespace) -> list[Path]:
    """List the files and folders of networks that the arguments name."""
    names = (getattr(args, name, None) for name in ("checkpoint", "video_vae_path", "audio_vae_path"))
    return [path for path in names if path is not None]


def files_of(args: argparse.Namespace) -> Files | None:
    """
    Give the files that the arguments name.

    Parameters
    ----------
    args : Namespace
        With ``checkpoint``, and ``video_vae_path`` and ``audio_vae_path`` where the verb has them.

    Returns
    -------
    Files or None
        On this machine; None where no argument names any.

    Raises
    ------
    CheckpointError
        If a file holds something else than it was given for.
    """
    given: dict[str, Any] = {}
    for part in ("video_vae", "audio_vae"):
        path = getattr(args, f"{part}_path", None)
        if path is not None:
            given[part] = find_file(path)
            check_part(given[part], part)
    if args.checkpoint is None and not given:
        return None
    base = Files(next(iter(given.values()))) if args.checkpoint is None else found(args.checkpoint)
    return replace(base, **given)


def checkpoint(args: argparse.Namespace) -> Path:
    """Give the file of the video autoencoder asked for, or the small one that the package ships."""
    files = files_of(args)
    return Path(ltx_models.default_checkpoint()) if files is None else files.of("video_decoder")


def checkpoint_of(args: argparse.Namespace, saved: SavedLatents, *, sound: bool = False) -> Files:
    """
    Give the files whose autoencoders latents belong to: those asked for, or the one of ours that is theirs.

    Parameters
    ----------
    args : Namespace
        With ``checkpoint``, its like, and ``latents``, their file.
    saved : SavedLatents
        What the latents say of themselves.
    sound : bool
        Whether those of sound are decoded too.

    Returns
    -------
    Files
        On this machine.

    Raises
    ------
    CheckpointError
        If the latents belong to another autoencoder, or do not say to which, or there is none for their sound.
    """
    theirs: dict[Kind, LatentSpace | None] = {"video": saved.space}
    if sound:
        theirs["audio"] = saved.audio_space
    files = files_of(args)
    if files is not None:
        for kind, space in theirs.items():
            _check_space(args, files.of(f"{kind}_decoder"), kind, space)
        if sound:
            check_present(files, "audio_decoder")
        return files
    if saved.space is None:
        msg = f"{args.latents}: does not say which autoencoder its latents belong to; name it with --checkpoint"
        raise CheckpointError(msg)
    for path in (ltx_models.default_checkpoint(), toy_checkpoint()):
        if all(_is_of(path, kind, space) for kind, space in theirs.items()):
            return Files(path)
    msg = (
        f"{args.latents}: its latents belong to the autoencoder of {saved.space.name!r}, which is none of ours; name "
        "its file with --checkpoint"
    )
    raise CheckpointError(msg)


def _check_space(args: argparse.Namespace, path: Path, kind: Kind, space: LatentSpace | None) -> None:
    """Refuse an autoencoder that latents do not belong to."""
    other = latent_space(path, kind)
    if space is not None and other is not None and other.digest != space.digest:
        msg = (
            f"{args.latents}: its {kind} latents belong to the autoencoder of {space.name!r}, and {path} has "
            "another; name that file with --checkpoint"
        )
        raise CheckpointError(msg)


def _is_of(path: Path, kind: Kind, space: LatentSpace | None) -> bool:
    own = latent_space(path, kind)
    return own is not None and space is not None and own.digest == space.digest


def found(path: Path) -> Files:
    """
    Find a checkpoint, and fetch that of a repository: dev and distilled have the same autoencoders.

    Parameters
    ----------
    path : Path
        A file, a folder, or what names a repository or a file in one.

    Returns
    -------
    Files
        On this machine.
    """
    apart = path.is_dir() and bool(split_transformers(local_listing(path)))
    if not apart and (path.exists() or repository(str(path)) is None):
        return Files(path)
    criteria = Criteria("distilled", upsampler=False, distilled_lora=False, text_encoder=False, duration_head=False)
    try:
        return find_files(path, criteria)[1]
    except SourceError:
        return find_files(path, replace(criteria, pipeline="dev"))[1]


def load_encoder(args: argparse.Namespace) -> Any:
    """Load the encoder that the arguments name."""
    path, (backend, device) = checkpoint(args), taken(args)
    return ltx_models.load_video_encoder(path, backend=backend, dtype=args.dtype, device=device)


def load_decoder(args: argparse.Namespace, path: Path | None = None) -> Any:
    """Load the decoder that the arguments name, or that of another checkpoint."""
    path, (backend, device) = path or checkpoint(args), taken(args)
    return ltx_models.load_video_decoder(path, backend=backend, dtype=args.dtype, device=device)


def array_for(model: Any, values: npt.NDArray[np.float32], args: argparse.Namespace) -> Any:
    """Make an array of the model's library, dtype and device."""
    nn = model.nn
    return nn.cast(nn.asarray(values), nn.dtype(args.dtype), taken(args)[1])
