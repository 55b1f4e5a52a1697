"""The part of the page that looks at one run: which one, how far it is, cancelling, going on, removing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from ltx_models.cli.web.comparing import compared_view
from ltx_models.cli.web.runs import Run
from ltx_models.cli.web.studio import Studio
from ltx_models.cli.web.views import refused, run_view

BEAT = 1.0  # seconds from one look at a run to the next
QUICK: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
LISTED = 100  # runs among which one can be chosen


@dataclass(frozen=True, slots=True)
class Watch:
    """
    What a tab of the page looks at.

    Attributes
    ----------
    name : gradio.State
        The name of the run; every tab of the browser has its own.
    """

    name: Any

    @classmethod
    def of(cls, gr: Any, blocks: Any, studio: Studio, verb: str, told: Any, pair: Any = None) -> Self:
        """
        Draw it, and let it look.

        Parameters
        ----------
        gr : module
            Gradio.
        blocks : gradio.Blocks
            The page.
        studio : Studio
            What the page can be asked to do.
        verb : str
            Of the runs among which one can be chosen.
        told : gradio.HTML
            Where refusals are said.
        pair : gradio.Radio, optional
            Which pictures of a comparison are shown.

        Returns
        -------
        Watch
            On the page.
        """
        name, shown = gr.State(""), gr.State("")
        chosen = gr.Dropdown([], label="shown run", elem_id=f"ltx-{verb}-shown")
        view = gr.HTML(elem_id=f"ltx-{verb}-run")
        with gr.Row():
            cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id=f"ltx-{verb}-cancel")
            go_on = gr.Button("Go on", visible=False, elem_id=f"ltx-{verb}-go-on")
            remove = gr.Button("Remove", visible=False, elem_id=f"ltx-{verb}-remove")
        pairs = [] if pair is None else [pair]

        def look(current: str, before: str, *pictures: str) -> tuple[Any, ...]:
            run = studio.find(current)
            now = "" if run is None else _view(run, studio.queue.ahead(current), *pictures)
            if now == before:
                return (gr.skip(),) * 6
            over, done = run is not None and run.over, run is not None and run.state == "done"
            seen = (run is not None and not over, over and not done, over)
            return now, now, gr.update(**_choices(studio, verb, current)), *(gr.update(visible=one) for one in seen)

        def begin() -> str:
            busy = studio.find(studio.queue.busy())
            return busy.name if busy is not None and busy.verb == verb else ""

        def again(current: str) -> str:
            return _done(studio.go_on, current)

        def away(current: str) -> tuple[str, str]:
            said = _done(studio.remove, current)
            return (current if said else ""), said

        outputs = [shown, view, chosen, cancel, go_on, remove]
        gr.Timer(BEAT).tick(look, [name, shown, *pairs], outputs, **QUICK)
        chosen.input(lambda one: one or "", [chosen], [name], **QUICK)
        cancel.click(studio.queue.cancel, [name], None, **QUICK)
        go_on.click(again, [name], [told], **QUICK)
        remove.click(away, [name], [name, told], **QUICK)
        blocks.load(begin, None, [name], **QUICK)
        blocks.load(lambda: gr.update(**_choices(studio, verb, "")), None, [chosen], **QUICK)
        return cls(name)


def _view(run: Run, ahead: int, *pictures: str) -> str:
    """Show a run, and what a comparison found."""
    found = compared_view(run, pictures[0]) if run.verb == "seams" and run.state == "done" else ""
    return run_view(run, ahead) + found


def _choices(studio: Studio, verb: str, current: str) -> dict[str, Any]:
    """Name the runs that are there, the newest first."""
    runs = [run for run in studio.queue.all() if run.verb == verb][:LISTED]
    choices = [(f"{run.title[:36]}, {run.state} ({run.name})", run.name) for run in runs]
    return {"choices": choices, "value": current if current in {run.name for run in runs} else None}


def _done(ask: Any, current: str) -> str:
    """Do something with a run, or say why not."""
    try:
        ask(current)
    except (ValueError, OSError) as error:
        return refused(str(error))
    return ""
