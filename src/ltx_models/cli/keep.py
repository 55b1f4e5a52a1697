"""``--keep FOLDER``: finished blocks on disk, so that a run that was killed goes on and gives the same file."""

from __future__ import annotations

import argparse
import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ltx_models.byte_sizes import format_bytes
from ltx_models.checkpoints import keys_of_half
from ltx_models.checkpoints.digest import network_digest
from ltx_models.cli import options
from ltx_models.cli.machine import taken
from ltx_models.media import MediaError
from tilekit import Kept

HELP = (
    "keep finished blocks in this folder, so that a run that is killed goes on where it was when it is started again, "
    "and gives the same file; remove the folder afterwards"
)


def add_keep(parser: argparse._ActionsContainer) -> None:
    """Declare where finished blocks are kept."""
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help=HELP)


def refuse_inside(folder: Path | None, files: list[Path]) -> None:
    """Refuse to write results among the kept blocks."""
    for file in files:
        inside = folder is not None and Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))
        if inside:
            msg = f"--keep: {file} would lie in {folder}, which is for blocks alone; choose another folder"
            raise MediaError(msg)


def refuse_foreign(folder: Path | None, names: set[str]) -> None:
    """Refuse a folder that holds something else than these."""
    if folder is None or not folder.is_dir():
        return
    foreign = sorted({path.name for path in folder.iterdir()} - names)
    if foreign:
        msg = f"--keep: {folder} holds {foreign[0]!r}, which is none of this verb's; give a folder of its own"
        raise MediaError(msg)


def kept_blocks(
    args: argparse.Namespace, folder: Path, latents: Any, checkpoint: Path, plan: str, seed: int | None
) -> Kept:
    """
    Open the folder of a decode's blocks.

    Parameters
    ----------
    args : Namespace
        With the flags of the network.
    folder : Path
        Of these blocks alone.
    latents : ndarray
        What is decoded.
    checkpoint : Path
        Whose decoder decodes.
    plan : str
        How the decode is cut.
    seed : int or None
        Of the noise that the decoder is given.

    Returns
    -------
    Kept
        What there is.

    Raises
    ------
    InputError
        If the folder is of another decode, or damaged.
    """
    key = {
        "plan": plan,
        "input": array_digest(latents),
        "network": network_digest(checkpoint, keys_of_half("vae", "decoder"), "vae"),
        "backend": taken(args)[0],
        "dtype": args.dtype,
        "device": sorted({(name or "cpu").partition(":")[0] for name in options.devices(args)}),
        "seed": seed,
    }
    kept = Kept(folder, key)
    if kept.start:
        print(f"ltx-models: {folder}: {kept.start} frames are kept; goes on after them", file=sys.stderr)
    return kept


def array_digest(array: Any) -> str:
    """Give the digest of an array's numbers."""
    values = np.ascontiguousarray(array)
    return sha256(f"{values.dtype.str} {values.shape}".encode() + values.tobytes()).hexdigest()[:16]


def size_note(kept: Kept) -> str:
    """Say how much is kept, and until when."""
    return f"{kept.folder} holds {format_bytes(kept.n_bytes)} of blocks; remove it when the file is all you need"
