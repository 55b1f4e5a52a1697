"""What the page shows of runs and plans, as HTML; whatever users or files said is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ltx_models.byte_sizes import format_bytes
from ltx_models.cli.web.desk import Outlook
from ltx_models.cli.web.folder import LATENTS, VIDEO
from ltx_models.cli.web.runs import Run
from ltx_models.video_vae import ExactPlan

SNAP = "move sizes to the nearest that fit"
TALL = 150  # pixels of the drawn picture
STATES = {
    "waiting": "waits for its turn",
    "running": "is at work",
    "done": "is done",
    "failed": "ended with an error",
    "cancelled": "was cancelled",
    "stopped": "was killed",
}


def refused(text: str) -> str:
    """Show why something is not done, in the words of the page."""
    text = text.replace("snap=True (--snap) takes the nearest", f"'{SNAP}' takes the nearest")
    return f'<div class="ltx-error" role="alert">{escape(text)}</div>'


def lacking_view(lacking: Mapping[str, str]) -> str:
    """
    Say which pipelines are not offered, and why.

    Parameters
    ----------
    lacking : mapping of str to str
        Reasons by the names of pipelines.

    Returns
    -------
    str
        HTML.
    """
    rows = "".join(f"<li><b>{escape(name)}</b>: {escape(why)}</li>" for name, why in lacking.items())
    told = f"not offered with these files: {escape(', '.join(lacking))}"
    return f'<details class="ltx-lacking"><summary>{told}</summary><ul>{rows}</ul></details>'


def run_view(run: Run, ahead: int) -> str:
    """
    Show a run: how far it is, its last preview, what it said and, at its end, the video.

    Parameters
    ----------
    run : Run
        What is known of it.
    ahead : int
        Runs before it.

    Returns
    -------
    str
        HTML.
    """
    state = STATES[run.state]
    if run.state == "waiting":
        state += f": {ahead} {'run' if ahead == 1 else 'runs'} before it" if ahead else ": it begins now"
    parts = [
        f'<p class="ltx-state" data-state="{run.state}" data-run="{run.name}"><b>{escape(run.title)}</b> {state}</p>'
    ]
    if run.state == "running":
        parts.append(_progress(run))
    if run.error:
        parts.append(refused(run.error))
    if run.state == "done" and run.verb == "generate":
        parts.append(_video(run))
    elif run.preview:
        parts.append(
            f'<figure><img class="ltx-preview" alt="the middle frame so far" src="/runs/{run.name}/previews/'
            f'{escape(run.preview)}"><figcaption>the middle frame, as predicted so far</figcaption></figure>'
        )
    if run.over:
        parts.append(_measured(run))
    parts += [f'<p class="ltx-note">{escape(note)}</p>' for note in run.notes]
    return "".join(parts)


def _progress(run: Run) -> str:
    """Show how far a run is."""
    share = run.done / run.total if run.total else 0.0
    left = "" if not run.seconds_left else f", about {run.seconds_left:.0f} s left of it"
    peak = "" if run.peak_bytes is None else f", peak so far {format_bytes(run.peak_bytes)}"
    told = f"{run.phase} {run.done} of {run.total}{left}{peak}" if run.phase else "begins"
    return f'<progress max="1" value="{share:.3f}"></progress><p class="ltx-phase">{escape(told)}</p>'


def _video(run: Run) -> str:
    """Show the result, playing, with its sound."""
    base = f"/runs/{run.name}"
    return (
        f'<video class="ltx-video" controls loop playsinline preload="auto" src="{base}/{VIDEO}"></video>'
        f'<p class="ltx-files"><a href="{base}/{VIDEO}" download="{run.name}.mp4">video</a> '
        f'<a href="{base}/{LATENTS}" download="{run.name}.safetensors">latents</a></p>'
    )


def _measured(run: Run) -> str:
    """Set what was measured beside what was forecast."""
    facts = [] if run.seconds is None else [f"{run.seconds:.1f} s"]
    facts += [] if run.peak_bytes is None else [f"measured peak of the process {format_bytes(run.peak_bytes)}"]
    peaks: Mapping[str, int] = run.asked.get("peaks", {})
    if peaks:
        step = max(peaks, key=lambda name: peaks[name])
        facts.append(f"forecast {format_bytes(peaks[step])} ({step}), without what Python and the framework take")
    return f'<p class="ltx-measured">{escape(", ".join(facts))}</p>' if facts else ""


def outlook_view(outlook: Outlook, memory_bytes: int | None) -> str:
    """
    Draw what a wish would take: the peak of each step, and how the decode is cut.

    Parameters
    ----------
    outlook : Outlook
        What was forecast.
    memory_bytes : int or None
        The budget, drawn as a line.

    Returns
    -------
    str
        HTML.
    """
    size = f"{outlook.width}x{outlook.height}, {outlook.frames} frames, {outlook.frames / outlook.fps:.2f} s"
    notes = "".join(f'<p class="ltx-note">{escape(note)}</p>' for note in outlook.notes)
    return (
        f'<div class="ltx-plan"><p><b>{size}</b></p>{_bars(outlook.peaks, memory_bytes)}'
        f"{_drawn(outlook)}<pre>{escape(str(outlook.decode))}</pre>{notes}</div>"
    )


def _bars(peaks: Mapping[str, int], memory_bytes: int | None) -> str:
    """Draw the expected peak of each step, without what the framework takes."""
    most = max([*peaks.values(), memory_bytes or 0, 1])
    rows = []
    for name, n_bytes in peaks.items():
        over = " ltx-over" if memory_bytes is not None and n_bytes > memory_bytes else ""
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="ltx-wide"><div class="ltx-bar{over}" style="width:'
            f'{100 * n_bytes / most:.1f}%"></div></td><td>{format_bytes(n_bytes)}</td></tr>'
        )
    told = "" if memory_bytes is None else f", of a budget of {format_bytes(memory_bytes)}"
    return f'<table class="ltx-bars"><caption>expected peak of each step{told}</caption>{"".join(rows)}</table>'


def _drawn(outlook: Outlook) -> str:
    """Draw the clip: the picture with its tiles, and the pieces along time, of which one is made after the other."""
    plan: Any = outlook.decode
    down, across = plan.tiles if isinstance(plan, ExactPlan) else (1, 1)
    piece = plan.frames if isinstance(plan, ExactPlan) and plan.frames else outlook.frames
    wide = max(40, min(300, TALL * outlook.width // outlook.height))
    pieces = -(-outlook.frames // piece)
    lines = [_line(wide * k / across, 0, wide * k / across, TALL) for k in range(1, across)]
    lines += [_line(0, TALL * k / down, wide, TALL * k / down) for k in range(1, down)]
    lines += [
        _line(wide * k / pieces, TALL + 10, wide * k / pieces, TALL + 24) for k in range(1, min(pieces, wide // 2))
    ]
    picture = "the picture whole" if down * across == 1 else f"{down} x {across} tiles"
    told = f"{picture}, the clip {'whole' if pieces == 1 else f'in {pieces} pieces of time'}"
    return (
        f'<svg class="ltx-drawn" role="img" aria-label="{told}" width="{wide + 2}" height="{TALL + 44}" '
        f'viewBox="-1 -1 {wide + 2} {TALL + 44}"><rect width="{wide}" height="{TALL}"/>'
        f'<rect y="{TALL + 10}" width="{wide}" height="14"/>{"".join(lines)}'
        f'<text x="0" y="{TALL + 40}">{told}</text></svg>'
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
