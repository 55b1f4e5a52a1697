"""A node, said once for both schemas of the host."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["LATENT", "VAE", "IMAGE", "AUDIO", "VIDEO", "FLOAT", "INT", "STRING"]


@dataclass(frozen=True)
class Input:
    """One input; an optional one has a default of None."""

    name: str
    kind: Kind
    tooltip: str
    options: dict[str, Any] = field(default_factory=dict)
    optional: bool = False


@dataclass(frozen=True)
class Output:
    """One output."""

    name: str
    kind: Kind
    tooltip: str


@dataclass(frozen=True)
class Node:
    """
    A node.

    `run` gets the inputs by name and gives a tuple of outputs, and beside it what the host's page shows, or None.
    """

    name: str
    display: str
    description: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    run: Callable[..., tuple[tuple[Any, ...], Any]]
    ends: bool = False
    """Whether it is the end of a workflow, as one that saves is."""
    category: str = "latent/tilekit"
