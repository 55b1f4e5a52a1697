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
from ltx_models.cli.options import backend_name
from ltx_models.defaults import toy_checkpoint
from ltx_models.media import LatentSpace, SavedLatents


def checkpoint(args: argparse.Namespace) -> Path:
    """Give the checkpoint asked for, or the small one that the package ships."""
    return found(args.checkpoint) if args.checkpoint is not None else Path(ltx_models.default_checkpoint())


def checkpoint_of(args: argparse.Namespace, saved: SavedLatents, *, sound: bool = False) -> Path:
    """
    Give the checkpoint whose autoencoders latents belong to: the one asked for, or the one of ours that is theirs.

    Parameters
    ----------
    args : Namespace
        With ``checkpoint`` and ``latents``, their file.
    saved : SavedLatents
        What the latents say of themselves.
    sound : bool
        Whether those of sound are decoded too.

    Returns
    -------
    Path
        On this machine.

    Raises
    ------
    CheckpointError
        If the latents belong to another autoencoder, or do not say to which.
    """
    theirs: dict[Kind, LatentSpace | None] = {"video": saved.space}
    if sound:
        theirs["audio"] = saved.audio_space
    if args.checkpoint is not None:
        path = found(args.checkpoint)
        for kind, space in theirs.items():
            other = latent_space(path, kind)
            if space is not None and other is not None and other.digest != space.digest:
                msg = (
                    f"{args.latents}: its {kind} latents belong to the autoencoder of {space.name!r}, and {path} has "
                    "another; name that file with --checkpoint"
                )
                raise CheckpointError(msg)
        return path
    if saved.space is None:
        msg = f"{args.latents}: does not say which autoencoder its latents belong to; name it with --checkpoint"
        raise CheckpointError(msg)
    for path in (ltx_models.default_checkpoint(), toy_checkpoint()):
        if all(_is_of(path, kind, space) for kind, space in theirs.items()):
            return path
    msg = (
        f"{args.latents}: its latents belong to the autoencoder of {saved.space.name!r}, which is none of ours; name "
        "its file with --checkpoint"
    )
    raise CheckpointError(msg)


def _is_of(path: Path, kind: Kind, space: LatentSpace | None) -> bool:
    own = latent_space(path, kind)
    return own is not None and space is not None and own.digest == space.digest


def found(path: Path) -> Path:
    """
    Give a path as it is, or fetch the checkpoint of a repository: dev and distilled have the same autoencoders.

    Parameters
    ----------
    path : Path
        A file, a folder, or what names a repository or a file in one.

    Returns
    -------
    Path
        On this machine.
    """
    from ltx_models.pipelines.finding import find_files, repository
    from ltx_models.pipelines.listing import Criteria, SourceError

    if path.exists() or repository(str(path)) is None:
        return path
    criteria = Criteria("distilled", upsampler=False, distilled_lora=False, text_encoder=False)
    try:
        return find_files(path, criteria)[1].transformer
    except SourceError:
        return find_files(path, replace(criteria, pipeline="dev"))[1].transformer


def load_encoder(args: argparse.Namespace) -> Any:
    """Load the encoder that the arguments name."""
    return ltx_models.load_video_encoder(
        checkpoint(args), backend=backend_name(args.backend), dtype=args.dtype, device=args.device
    )


def load_decoder(args: argparse.Namespace, path: Path | None = None) -> Any:
    """Load the decoder that the arguments name, or that of another checkpoint."""
    return ltx_models.load_video_decoder(
        path or checkpoint(args), backend=backend_name(args.backend), dtype=args.dtype, device=args.device
    )


def array_for(model: Any, values: npt.NDArray[np.float32], args: argparse.Namespace) -> Any:
    """Make an array of the model's library, dtype and device."""
    nn = model.nn
    return nn.cast(nn.asarray(values), nn.dtype(args.dtype), args.device)
