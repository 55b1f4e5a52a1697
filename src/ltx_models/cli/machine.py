"""What runs the networks: the framework and the device that were asked for, or that ``auto`` finds here."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from importlib.util import find_spec

from ltx_models.nn import BackendName
from ltx_models.nn import backend as load_backend

BACKENDS = ("auto", "torch", "mlx")
BACKEND_HELP = "default: auto, which is mlx on Apple silicon, torch elsewhere, and the other where it is not installed"
DEVICE_HELP = (
    "of torch, such as cuda:1, or several for tiles and clips, such as cuda:0,cuda:1; default: auto, which is cuda, "
    "else mps, else cpu"
)


def add_machine(group: argparse._ArgumentGroup, more: str = "") -> None:
    """Declare framework and device."""
    group.add_argument("--backend", choices=BACKENDS, default="auto", help=BACKEND_HELP)
    group.add_argument("--device", default="auto", metavar="DEVICE", help=f"{DEVICE_HELP}{more}")


def backend_name(chosen: str | None) -> BackendName:
    """
    Give the framework asked for, or the one that suits this machine.

    Parameters
    ----------
    chosen : {"auto", "torch", "mlx"} or None
        None is ``auto``.

    Returns
    -------
    str
        ``"torch"`` or ``"mlx"``.

    Raises
    ------
    ImportError
        If neither is installed.
    """
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    order: tuple[BackendName, ...] = ("mlx", "torch") if apple else ("torch", "mlx")
    for name in order:
        if name == chosen or (chosen in {"auto", None} and find_spec(name) is not None):
            return name
    msg = "no backend is installed; pip install 'tilekit-vae[torch]' or 'tilekit-vae[mlx]'"
    raise ImportError(msg)


def memory_bytes() -> int | None:
    """Give the bytes of this machine's memory, None where the system does not tell, such as on Windows."""
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(getattr(os, "sysconf_names", {})):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def torch_device() -> str:
    """Give the fastest device that torch has here: ``"cuda"``, ``"mps"`` or ``"cpu"``."""
    load_backend("torch")  # says what to install
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def taken(args: argparse.Namespace, say: Callable[[str], object] | None = None) -> tuple[BackendName, str | None]:
    """
    Give framework and device, and say once what ``auto`` took.

    Parameters
    ----------
    args : Namespace
        With ``backend``, ``device``, ``dtype`` and ``json``; what is found replaces ``auto`` in it.
    say : callable, optional
        Takes the line; where absent it is printed, unless lines of JSON are wanted.

    Returns
    -------
    pair of (str, str or None)
        Framework; device of torch, None for the one that MLX uses.
    """
    if say is None:
        say = (lambda text: None) if args.json else print
    asked = "auto" in {args.backend, args.device}
    args.backend = backend_name(args.backend)
    if args.device == "auto":
        args.device = torch_device() if args.backend == "torch" else None
    if asked:
        place = args.device or "its default device"
        say(f"runs with {args.backend} on {place} in {args.dtype} (--backend, --device, --dtype)")
    return args.backend, args.device
