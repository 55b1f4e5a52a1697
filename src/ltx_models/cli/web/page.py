"""The page: which fields there are, and what happens when they change. Gradio draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ltx_models.cli.web.studio import Studio
from ltx_models.cli.web.views import SNAP, refused, run_view
from ltx_models.cli.web.wish import NUMBERS, Wish

BEAT = 0.7  # seconds from one look at a run to the next
FONTS = ["system-ui", "sans-serif"]
ABOUT = "# ltx-models\nVideos with sound, from prompts. Everything stays on this machine, in `{folder}`."
TOY = (
    "This is the toy inside the package: coloured circles, squares and triangles that move and sound, such as "
    "*a red circle moving right, a high tone*. For LTX-2, start with `--checkpoint-path`."
)


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of the form, in the order in which Gradio hands them over."""

    prompt: Any
    negative: Any
    pipeline: Any
    numbers: dict[str, Any]
    memory: Any
    pictures: Any
    at: Any
    strength: Any
    crop: Any
    sound: Any
    snap: Any

    @property
    def all(self) -> list[Any]:
        """All of them."""
        before, after = (self.prompt, self.negative, self.pipeline), (self.memory, self.pictures, self.at)
        return [*before, *self.numbers.values(), *after, self.strength, self.crop, self.sound, self.snap]


def wish_of(values: Sequence[Any]) -> Wish:
    """Read the fields."""
    prompt, negative, pipeline, *rest = values
    numbers = dict(zip(NUMBERS, rest[: len(NUMBERS)], strict=True))
    memory, pictures, at, strength, crop, sound, snap = rest[len(NUMBERS) :]
    return Wish(
        prompt or "", negative or "", pipeline or "", numbers, memory or "", tuple(Path(one) for one in pictures or ()),
        at or "", float(strength), bool(crop), None if sound is None else Path(sound), bool(snap),
    )  # fmt: skip


def page(studio: Studio, *, toy: bool) -> Any:
    """
    Make the page.

    Parameters
    ----------
    studio : Studio
        What it can be asked to do.
    toy : bool
        Whether its networks are those of the toy, which is said.

    Returns
    -------
    gradio.Blocks
        Not yet launched.
    """
    import gradio as gr

    with gr.Blocks(title="ltx-models", analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
        gr.Markdown(ABOUT.format(folder=studio.folder.root))
        if toy:
            gr.Markdown(TOY)
        with gr.Tab("Make", id="make"):
            _make(gr, blocks, studio, toy=toy)
    return blocks


def _make(gr: Any, blocks: Any, studio: Studio, *, toy: bool) -> None:
    """Draw the tab of the form and the run."""
    name, shown = gr.State(""), gr.State("")
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            fields = _form(gr, studio, toy=toy)
            begin = gr.Button("Make the video", variant="primary", elem_id="ltx-begin")
            told = gr.HTML(elem_id="ltx-told")
        with gr.Column(scale=1, min_width=320):
            view = gr.HTML(elem_id="ltx-run")
            with gr.Row():
                cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id="ltx-cancel")
                go_on = gr.Button("Go on", visible=False, elem_id="ltx-go-on")
            plan = gr.HTML(elem_id="ltx-plan")
    timer = gr.Timer(BEAT)
    seen = [view, cancel, go_on, shown]

    def make(*values: Any) -> tuple[Any, ...]:
        try:
            made = studio.make(wish_of(values))
        except (ValueError, OSError) as error:
            return gr.skip(), refused(str(error))
        return made, ""

    def look(current: str, before: str) -> tuple[Any, ...]:
        run = studio.find(current)
        now = "" if run is None else run_view(run, studio.queue.ahead(current))
        if now == before:
            return (gr.skip(),) * 4
        working = run is not None and not run.over
        unfinished = run is not None and run.over and run.state != "done"
        return now, gr.update(visible=working), gr.update(visible=unfinished), now

    def draw(*values: Any) -> str:
        try:
            return studio.look(wish_of(values))
        except (ValueError, OSError) as error:
            return refused(str(error))

    def again(current: str) -> str:
        try:
            studio.go_on(current)
        except (ValueError, OSError) as error:
            return refused(str(error))
        return ""

    quick: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
    begin.click(make, fields.all, [name, told], **quick)
    timer.tick(look, [name, shown], seen, **quick)
    cancel.click(studio.queue.cancel, [name], None, **quick)
    go_on.click(again, [name], [told], **quick)
    changes = [
        one.change for one in fields.all if one not in (fields.prompt, fields.negative, fields.pictures, fields.sound)
    ]
    gr.on(changes, draw, fields.all, [plan], trigger_mode="always_last", **quick)
    blocks.load(draw, fields.all, [plan], **quick)
    blocks.load(studio.queue.busy, None, [name], **quick)


def _form(gr: Any, studio: Studio, *, toy: bool) -> Fields:
    """Draw the fields."""
    standard = studio.desk.defaults
    prompt = gr.Textbox(
        label="prompt", lines=2, max_length=10_000, elem_id="ltx-prompt",
        value="a red circle moving right, a high tone" if toy else "",
    )  # fmt: skip
    pipeline = gr.Dropdown(studio.desk.choices, value=studio.desk.default, label="pipeline", elem_id="ltx-pipeline")
    numbers: dict[str, Any] = {}

    def number(name: str, value: float | None, label: str) -> None:
        whole = 0 if NUMBERS[name][1] else None
        numbers[name] = gr.Number(value, label=label, precision=whole, min_width=90, elem_id=f"ltx-{name}")

    with gr.Row():
        number("width", standard.width, "width")
        number("height", standard.height, "height")
        number("frames", standard.frames, "frames (1 + 8k)")
    with gr.Row():
        number("fps", standard.fps, "frames a second")
        number("seed", 10, "seed")
        memory = gr.Textbox("", label="memory budget, such as 16GiB", min_width=140, elem_id="ltx-memory")
    snap = gr.Checkbox(False, label=SNAP, elem_id="ltx-snap")
    with gr.Accordion("guidance", open=False):
        negative = gr.Textbox(label="negative prompt (guided pipelines)", lines=1, elem_id="ltx-negative")
        with gr.Row():
            number("steps", None, "steps")
            number("video_guidance", None, "guidance of pictures")
            number("audio_guidance", None, "guidance of sound")
    with gr.Accordion("given pictures and sound", open=False):
        pictures = gr.File(
            label="pictures (PNG, JPEG, WebP)", file_count="multiple", type="filepath", height=120,
            file_types=[".png", ".jpg", ".jpeg", ".webp"], elem_id="ltx-pictures",
        )  # fmt: skip
        with gr.Row():
            at = gr.Textbox("0", label="shown at frames, one for each", min_width=140, elem_id="ltx-at")
            strength = gr.Slider(0, 1, 1, label="strength", min_width=140, elem_id="ltx-strength")
        crop = gr.Checkbox(False, label="cut pictures of another shape", elem_id="ltx-crop")
        sound = gr.File(
            label="sound that leads the pictures (WAV, FLAC, MP3, Ogg, MP4)", type="filepath", height=120,
            file_types=[".wav", ".flac", ".mp3", ".ogg", ".m4a", ".mp4"], elem_id="ltx-sound",
        )  # fmt: skip
    numbers = {name: numbers[name] for name in NUMBERS}
    return Fields(prompt, negative, pipeline, numbers, memory, pictures, at, strength, crop, sound, snap)


def style() -> str:
    """Give the rules of the page's own elements."""
    return (resources.files("ltx_models.cli.web") / "page.css").read_text()


def head() -> str:
    """Give the page's own script, which says when the server is gone."""
    return (resources.files("ltx_models.cli.web") / "page.html").read_text()
