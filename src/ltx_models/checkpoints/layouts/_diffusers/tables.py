"""Tables of configuration keys, and how a configuration is renamed by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = dict[str, Any]
Table = tuple[tuple[str, str], ...]
"""Pairs of an official key and that of diffusers, whose values are the same."""


def to_official(table: Table, section: Mapping[str, Any]) -> Config:
    """Rename the keys of diffusers that are there."""
    return {official: section[other] for official, other in table if other in section}


def to_diffusers(table: Table, section: Mapping[str, Any]) -> Config:
    """Rename the official keys that are there."""
    return {other: section[official] for official, other in table if official in section}
