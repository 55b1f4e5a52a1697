"""A command that several processes run together, under torchrun or mlx.launch: one decode, shared as strips."""

import argparse
import os
from typing import Any

from ltx_models.cli import options
from ltx_models.cli.machine import taken
from tilekit import Strips
from tilekit.backends import backend_of

__all__ = ["first_frame", "strips_of"]

TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def strips_of(args: argparse.Namespace) -> Strips | None:
    """
    Join the group that the process was started in.

    Parameters
    ----------
    args : Namespace
        Of the verb; where ``--device cuda`` names no card, each process on a machine takes its own.

    Returns
    -------
    Strips or None
        None where the process was started alone.

    Raises
    ------
    ValueError
        If the decode is not exact, or names several devices.
    """
    many = all(name in os.environ for name in TORCHRUN) and int(os.environ["WORLD_SIZE"]) > 1
    if not many and "MLX_RANK" not in os.environ:
        return None
    backend, device = taken(args)
    if many and backend == "torch":
        _refuse(args, f"{os.environ['WORLD_SIZE']} processes of torchrun")
        return Strips(_torch_group(args, device or "cpu"), gather=True)
    if backend == "mlx":
        import mlx.core as mx

        group = mx.distributed.init(strict=True)
        if group.size() > 1:
            _refuse(args, f"{group.size()} processes of mlx.launch")
            return Strips(group, gather=True)
    return None


def _refuse(args: argparse.Namespace, started: str) -> None:
    if not options.exact(args):
        msg = f"--tiling: {started} share an exact decode; leave --tiling out, or start one process"
        raise ValueError(msg)
    if len(options.devices(args)) > 1:
        msg = f"--device: got {args.device!r} for each of {started}; give one, such as cuda, which takes a card each"
        raise ValueError(msg)


def _torch_group(args: argparse.Namespace, device: str) -> Any:
    """Begin a group: over NCCL where decodes run on cards, else over gloo."""
    import torch
    from torch import distributed

    on_cards = device.startswith("cuda")
    if on_cards:
        args.device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device
        torch.cuda.set_device(args.device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if on_cards else "gloo")
    return distributed.group.WORLD


def first_frame(strips: Strips, start: int, like: Any) -> int:
    """Give the frame with which rank 0 begins, which knows what was kept, to all."""
    given = backend_of(like).weights([float(n) for n in divmod(start, 1 << 8)], (2,), like.dtype, like)
    dtype = str(like.dtype).rpartition(".")[2]  # whole numbers up to 256 are exact in every one
    (told,) = strips.transport.everyone(given if strips.rank == 0 else None, [0], (2,), dtype, like)
    return int(told[0]) * (1 << 8) + int(told[1])
