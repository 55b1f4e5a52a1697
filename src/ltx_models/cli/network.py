"""The network of a verb, and arrays on their way to it."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import ltx_models
from ltx_models.cli.options import backend_name


def checkpoint(args: argparse.Namespace) -> Path:
    """Give the checkpoint asked for, or the small one that the package ships."""
    return args.checkpoint if args.checkpoint is not None else Path(ltx_models.default_checkpoint())


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
