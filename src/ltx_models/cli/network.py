"""The network of a verb, and arrays on their way to it."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import ltx_models
from ltx_models.cli.options import backend_name


def checkpoint(args: argparse.Namespace) -> Path:
    """Give the checkpoint asked for, or the small one that the package ships."""
    return found(args.checkpoint) if args.checkpoint is not None else Path(ltx_models.default_checkpoint())


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
    from ltx_models.pipelines.sources import SourceError, Wish

    if path.exists() or repository(str(path)) is None:
        return path
    wish = Wish("distilled", upsampler=False, distilled_lora=False, text_encoder=False)
    try:
        return find_files(path, wish)[1].transformer
    except SourceError:
        return find_files(path, replace(wish, pipeline="dev"))[1].transformer


def load_encoder(args: argparse.Namespace) -> Any:
    """Load the encoder that the arguments name."""
    return ltx_models.load_video_encoder(
        checkpoint(args), backend=backend_name(args.backend), dtype=args.dtype, device=args.device
    )


def load_decoder(args: argparse.Namespace) -> Any:
    """Load the decoder that the arguments name."""
    return ltx_models.load_video_decoder(
        checkpoint(args), backend=backend_name(args.backend), dtype=args.dtype, device=args.device
    )


def array_for(model: Any, values: npt.NDArray[np.float32], args: argparse.Namespace) -> Any:
    """Make an array of the model's library, dtype and device."""
    nn = model.nn
    return nn.cast(nn.asarray(values), nn.dtype(args.dtype), args.device)
