"""Comparing the ways to decode the latents of a run: what is forecast, the run that does it, and what is shown."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from ltx_models.byte_sizes import format_bytes, parse_bytes
from ltx_models.cli.clips import SPACE, TIME
from ltx_models.cli.comparing.forecast import Expected, expected, read_config
from ltx_models.cli.comparing.shown import FACTOR
from ltx_models.cli.comparing.slider import slider
from ltx_models.cli.machine import memory_bytes
from ltx_models.cli.network import checkpoint_of
from ltx_models.cli.plan import plan_for
from ltx_models.cli.web.folder import LATENTS
from ltx_models.cli.web.runs import Run
from ltx_models.cli.web.wish import path_text
from ltx_models.media import MediaError, SavedLatents, read_latents

# What the slider shows: a name, the pictures on both sides, and what is written on them.
PAIRS: Mapping[str, tuple[str, str, str, str]] = {
    f"difference from the whole, {FACTOR} times": ("blended_difference", "exact_difference", "blended", "exact"),
    "blended and exact": ("blended", "exact", "blended", "exact"),
    "blended and whole": ("blended", "whole", "blended", "whole"),
    "exact and whole": ("exact", "whole", "exact", "whole"),
}
FLOAT32 = 4


class Comparing:
    """
    Decodes that are compared.

    Parameters
    ----------
    args : Namespace
        Of ``ltx-models serve``, with the flags of networks and machine.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = argparse.Namespace(
            checkpoint=args.checkpoint_path, video_vae_path=args.video_vae_path, audio_vae_path=None
        )
        given = {"--checkpoint": args.checkpoint_path, "--video-vae-path": args.video_vae_path}
        machine = {"--backend": args.backend, "--device": args.device}
        self._network = [f"{flag}={path_text(value)}" for flag, value in (given | machine).items() if value is not None]

    def forecast(self, latents: Path, tiling: str, memory: str) -> list[Expected]:
        """
        Forecast the three ways, from headers and latents alone.

        Parameters
        ----------
        latents : Path
            Of a run.
        tiling : str
            Of the blended decode, as the command line takes it.
        memory : str
            Budget of the exact one; empty for none.

        Returns
        -------
        list of Expected
            Whole, blended, exact.

        Raises
        ------
        ValueError
            If the tiling is none, or the whole decode would not fit this machine.
        MediaError
            If the latents cannot be read.
        """
        saved = read_latents(latents)
        budget = parse_bytes(memory) if memory.strip() else None
        config = read_config(self._decoder(latents, saved))
        try:
            made = plan_for(pixels_of(saved), tiling)
        except argparse.ArgumentTypeError as error:
            msg = f"blended tiles: {error}"
            raise ValueError(msg) from error
        found = expected(config, made, itemsize=FLOAT32, memory_bytes=budget)
        room = memory_bytes()
        if room is not None and found[0].peak_bytes > room:
            msg = (
                f"whole: this decode would need {format_bytes(found[0].peak_bytes)}, and this machine has "
                f"{format_bytes(room)}; compare a smaller or shorter video"
            )
            raise ValueError(msg)
        return found

    def _decoder(self, latents: Path, saved: SavedLatents) -> Path:
        self._args.latents = latents
        return checkpoint_of(self._args, saved).of("video_decoder")

    def flags(self, source: str, tiling: str, memory: str, backend: str = "") -> list[str]:
        """Give the flags of ``ltx-models seams`` for the latents of a run beside that of the comparison."""
        found = [str(Path("..", source, LATENTS)), "--pictures=pictures", f"--tiling={tiling}", *self._network]
        found += [f"--backend={backend}"] if backend else []
        found += ["--device=auto"] if backend == "mlx" else []  # that of the server is one of torch
        return [*found, *([f"--memory={memory.strip()}"] if memory.strip() else [])]


def pixels_of(saved: SavedLatents) -> tuple[int, int, int]:
    """Give frames, height and width of the video that latents stand for."""
    _, _, f, h, w = saved.latents.shape
    return 1 + (f - 1) * TIME, h * SPACE, w * SPACE


def usual_tiling(latents: Path) -> str:
    """
    Give a tiling that cuts a video: the default one, or smaller tiles where that leaves it whole.

    Parameters
    ----------
    latents : Path
        Of a run.

    Returns
    -------
    str
        As the command line takes it.
    """
    frames, height, width = pixels_of(read_latents(latents))
    for tiling in ("default", "256/64", "128/64", "64/32"):
        if len(plan_for((frames, height, width), tiling).tiles) > 1:
            return tiling
    return "default"


def forecast_view(found: list[Expected]) -> str:
    """Show what the three ways are expected to take."""
    rows = "".join(
        f'<tr><th scope="row">{one.way}</th><td>{format_bytes(one.peak_bytes)}</td><td>{one.work:.2f}x</td>'
        f"<td>{one.seams}</td></tr>"
        for one in found
    )
    head = "<tr><th></th><th>expected peak</th><th>work</th><th>seams</th></tr>"
    return f'<div class="ltx-scroll"><table class="ltx-table">{head}{rows}</table></div>'


def compared_view(run: Run, shown: str) -> str:
    """
    Show what a comparison found: the slider, the map of the seams, and what each way took.

    Parameters
    ----------
    run : Run
        That is done.
    shown : str
        Of `PAIRS`.

    Returns
    -------
    str
        HTML.
    """
    if shown not in PAIRS:
        msg = f"shown: got {shown[:40]!r}, allowed are {', '.join(PAIRS)}"
        raise MediaError(msg)
    left, right, *names = PAIRS[shown]
    base = f"/runs/{run.name}/pictures"
    pulled = slider(
        {"left": f"{base}/{left}.png", "right": f"{base}/{right}.png"},
        dict(zip(("left", "right"), names, strict=True)),
        "a frame",
    )
    pull = "this.previousElementSibling.style.setProperty('--at', this.value + '%')"
    line = f'<input class="ltx-pull" type="range" min="0" max="100" value="50" aria-label="the line" oninput="{pull}">'
    picture = f'<img class="ltx-map" alt="map of the seams" src="{base}/seams.png">'
    return f'<div class="ltx-compared">{pulled}{line}</div>{_took(run.facts.get("ways", {}))}{picture}'


def _took(ways: Mapping[str, Any]) -> str:
    """Lay what was measured out as a table."""
    rows = []
    for way, one in ways.items():
        off = f"{one['largest_difference']:.2g}" if "largest_difference" in one else "-"
        cells = f"{one['seconds']:.1f} s", format_bytes(one["live_bytes"]), f"{one['work']:.2f}x", off
        rows.append(f'<tr><th scope="row">{escape(way)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    head = "<tr><th></th><th>took</th><th>peak of arrays</th><th>work</th><th>off by, of 2</th></tr>"
    return f'<div class="ltx-scroll"><table class="ltx-table">{head}{"".join(rows)}</table></div>'


def asked_of(source: Run, found: list[Expected]) -> dict[str, Any]:
    """Remember what a comparison was of."""
    return {"source": source.name, "ways": [asdict(one) for one in found]}
