"""Two pictures in one place and a line between them that can be pulled, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib import resources


def slider(sources: Mapping[str, str], names: Mapping[str, str], what: str) -> str:
    """
    Lay one picture over another, up to a line; the property ``--at`` says where that stands.

    Parameters
    ----------
    sources : mapping of str to str
        Addresses of the pictures ``"left"`` and ``"right"``.
    names : mapping of str to str
        What is written on each.
    what : str
        What both show, for those who cannot see it.

    Returns
    -------
    str
        HTML, which needs `slider_rules`.
    """
    left, right = (escape(names[side]) for side in ("left", "right"))
    return (
        '<div class="pulled" style="--at: 50%">'
        f'<span class="tag left">{left}</span><span class="tag right">{right}</span>'
        f'<img alt="{escape(what)}, {right}" src="{escape(sources["right"])}">'
        f'<img class="over" alt="{escape(what)}, {left}" src="{escape(sources["left"])}"></div>'
    )


def slider_rules() -> str:
    """Give the rules of style that `slider` needs."""
    return (resources.files("ltx_models.cli.comparing") / "slider.css").read_text()
