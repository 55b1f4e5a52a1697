"""One network on several devices, whose tiles are computed side by side."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ltx_models.cli import options
from ltx_models.cli.machine import taken
from tilekit import Replicas


@dataclass(frozen=True, slots=True)
class Computing:
    """
    What computes tiles.

    Attributes
    ----------
    network : module
        The network, on the first device.
    function : callable
        From a tile to its result, on whichever device is free.
    options : dict
        For `decode_tiled` and its kin: the executor, where there are several devices.
    """

    network: Any
    function: Any
    options: dict[str, Any] = field(default_factory=dict)


@contextmanager
def computing(args: argparse.Namespace, load: Callable[[argparse.Namespace], Any]) -> Iterator[Computing]:
    """
    Load a network on every device that was asked for.

    Parameters
    ----------
    args : Namespace
        With ``--device``.
    load : callable
        Loads the network on the one device of such arguments.

    Yields
    ------
    Computing
        A thread for each device, where there are several.
    """
    taken(args)  # says what auto took, once
    devices = options.devices(args)
    networks = [load(one_device(args, device)) for device in devices]
    if len(networks) == 1:
        yield Computing(networks[0], networks[0])
        return
    with ThreadPoolExecutor(len(networks)) as pool:
        yield Computing(networks[0], Replicas(networks, devices=devices), {"executor": pool})


def one_device(args: argparse.Namespace, device: str | None = None) -> argparse.Namespace:
    """Give the arguments with one device, the first where none is said."""
    return argparse.Namespace(**vars(args) | {"device": device or options.devices(args)[0]})


def refuse_several_for_exact(args: argparse.Namespace) -> None:
    """Refuse several devices for work that goes from frame to frame."""
    if options.exact(args) and len(options.devices(args)) > 1:
        msg = (
            f"--device: got {args.device!r}, but exact work goes from frame to frame on one device; give --tiling, "
            "whose tiles go to all devices, or one device"
        )
        raise ValueError(msg)
