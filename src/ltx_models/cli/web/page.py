"""The page: which fields there are, and what happens when they change. Gradio draws it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ltx_models.cli.comparing.slider import slider_rules
from ltx_models.cli.web.comparing import PAIRS, forecast_view
from ltx_models.cli.web.studio import Studio
from ltx_models.cli.web.views import SNAP, lacking_view, refused
from ltx_models.cli.web.watch import QUICK, Watch
from ltx_models.cli.web.wish import NUMBERS, Wish, number_of

FONTS = ["system-ui", "sans-serif"]
ABOUT = "# ltx-models\nVideos with sound, from prompts. Everything stays on this machine, in `{folder}`."
TOY = (
    "This is the toy inside the package: coloured circles, squares and triangles that move and sound, such as "
    "*a red circle moving right, a high tone*. For LTX-2, start with `--checkpoint-path`."
)

RETAKE = (
    "Pictures and sound between the two times are made anew, and the rest stays as it is. Width, height, frames and "
    "frames a second are the clip's own: those above are not used."
)


@dataclass(frozen=True, slots=True)
class Given:
    """The fields of files, in the order in which Gradio hands them over."""

    pictures: Any
    at: Any
    strength: Any
    crop: Any
    sound: Any
    clip: Any

    @property
    def all(self) -> list[Any]:
        """All of them."""
        return [self.pictures, self.at, self.strength, self.crop, self.sound, self.clip]


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of the form, in the order in which Gradio hands them over."""

    prompt: Any
    negative: Any
    pipeline: Any
    backend: Any
    numbers: dict[str, Any]
    memory: Any
    snap: Any
    given: Given

    @property
    def all(self) -> list[Any]:
        """All of them."""
        before = (self.prompt, self.negative, self.pipeline, self.backend)
        return [*before, *self.numbers.values(), self.memory, self.snap, *self.given.all]


def wish_of(values: Sequence[Any]) -> Wish:
    """Read the fields."""
    prompt, negative, pipeline, backend, *rest = values
    numbers = {name: number_of(name, value) for name, value in zip(NUMBERS, rest, strict=False)}
    memory, snap, pictures, at, strength, crop, sound, clip = rest[len(NUMBERS) :]
    return Wish(
        prompt or "", negative or "", pipeline or "", backend or "", numbers, memory or "",
        tuple(Path(one) for one in pictures or ()), at or "", float(strength), bool(crop),
        None if sound is None else Path(sound), None if clip is None else Path(clip), bool(snap),
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
        with gr.Tab("Compare", id="compare") as tab:
            _compare(gr, blocks, studio, tab)
    return blocks


def _make(gr: Any, blocks: Any, studio: Studio, *, toy: bool) -> None:
    """Draw the tab of the form and the run."""
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            fields = _form(gr, studio, toy=toy)
            begin = gr.Button("Make the video", variant="primary", elem_id="ltx-begin")
            told = gr.HTML(elem_id="ltx-told")
        with gr.Column(scale=1, min_width=320):
            watch = Watch.of(gr, blocks, studio, "generate", told)
            plan = gr.HTML(elem_id="ltx-plan")

    def make(*values: Any) -> tuple[Any, ...]:
        return _tried(gr, lambda: studio.make(wish_of(values)))

    def draw(*values: Any) -> str:
        try:
            return studio.look(wish_of(values))
        except (ValueError, OSError) as error:
            return refused(str(error))

    begin.click(make, fields.all, [watch.name, told], **QUICK)
    changes = [one.change for one in fields.all if one not in (fields.prompt, fields.negative)]
    gr.on(changes, draw, fields.all, [plan], trigger_mode="always_last", **QUICK)
    blocks.load(draw, fields.all, [plan], **QUICK)


def _compare(gr: Any, blocks: Any, studio: Studio, tab: Any) -> None:
    """Draw the tab that compares."""
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            source = gr.Dropdown([], label="latents of the run", elem_id="ltx-source")
            with gr.Row():
                tiling = gr.Textbox("default", label="blended tiles", min_width=140, elem_id="ltx-tiling")
                memory = gr.Textbox("", label="budget of the exact decode", min_width=140, elem_id="ltx-budget")
            expected = gr.HTML(elem_id="ltx-expected")
            begin = gr.Button("Compare", variant="primary", elem_id="ltx-compare")
            told = gr.HTML(elem_id="ltx-compare-told")
        with gr.Column(scale=1, min_width=320):
            pair = gr.Radio(list(PAIRS), value=next(iter(PAIRS)), label="shown", elem_id="ltx-pair")
            watch = Watch.of(gr, blocks, studio, "seams", told, pair)

    def choices() -> Any:
        found = [(f"{run.title[:36]} ({run.name})", run.name) for run in studio.comparable()]
        return gr.update(choices=found, value=found[0][1] if found else None)

    def forecast(chosen: str | None, cut: str, budget: str) -> str:
        if not chosen:
            return refused("there is no run with latents yet; make a video first")
        try:
            return forecast_view(studio.forecast(chosen, cut, budget))
        except (ValueError, OSError) as error:
            return refused(str(error))

    def compare(chosen: str | None, cut: str, budget: str) -> tuple[Any, ...]:
        return _tried(gr, lambda: studio.compare(chosen or "", cut, budget))

    def usual(chosen: str | None) -> str:
        try:
            return studio.usual_tiling(chosen or "")
        except (ValueError, OSError):
            return "default"

    asked = [source, tiling, memory]
    tab.select(choices, None, [source], **QUICK).then(usual, [source], [tiling], **QUICK).then(
        forecast, asked, [expected], **QUICK
    )
    source.input(usual, [source], [tiling], **QUICK)
    gr.on([one.change for one in asked], forecast, asked, [expected], trigger_mode="always_last", **QUICK)
    begin.click(compare, asked, [watch.name, told], **QUICK)


def _tried(gr: Any, ask: Callable[[], str]) -> tuple[Any, ...]:
    """Give the name of a new run, or why there is none."""
    try:
        return ask(), ""
    except (ValueError, OSError) as error:
        return gr.skip(), refused(str(error))


def _form(gr: Any, studio: Studio, *, toy: bool) -> Fields:
    """Draw the fields."""
    standard = studio.desk.defaults
    prompt = gr.Textbox(
        label="prompt", lines=2, max_length=10_000, elem_id="ltx-prompt",
        value="a red circle moving right, a high tone" if toy else "",
    )  # fmt: skip
    with gr.Row():
        pipeline = gr.Dropdown(
            studio.desk.choices, value=studio.desk.default, label="pipeline", min_width=140, elem_id="ltx-pipeline"
        )
        backends = [(f"as the server: {studio.desk.backend}", ""), *((name, name) for name in studio.desk.backends)]
        backend = gr.Dropdown(backends, value="", label="backend", min_width=140, elem_id="ltx-backend")
    gr.HTML(lacking_view(studio.desk.lacking), elem_id="ltx-lacking", visible=bool(studio.desk.lacking))
    numbers: dict[str, Any] = {}

    def number(name: str, value: float | None, label: str) -> None:
        if value is None:  # an empty field of numbers would say 0 once it is drawn
            numbers[name] = gr.Textbox("", label=label, min_width=90, elem_id=f"ltx-{name}")
            return
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
        shown = _given(gr)
    with gr.Accordion("a part of a clip made anew (retake)", open=False):
        gr.Markdown(RETAKE)
        clip = gr.File(
            label="clip (MP4, MOV, MKV, WebM)", type="filepath", height=120,
            file_types=[".mp4", ".mov", ".mkv", ".webm"], elem_id="ltx-clip",
        )  # fmt: skip
        with gr.Row():
            number("start", None, "from second")
            number("end", None, "to second")
    numbers = {name: numbers[name] for name in NUMBERS}
    return Fields(prompt, negative, pipeline, backend, numbers, memory, snap, Given(*shown, clip))


def _given(gr: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Draw the fields of given pictures and sound."""
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
    return pictures, at, strength, crop, sound


def head() -> str:
    """Give the page's own rules of style, and its script, which says when the server is gone."""
    files = resources.files("ltx_models.cli.web")
    rules = (files / "page.css").read_text() + slider_rules()
    return f"<style>{rules}</style>{(files / 'page.html').read_text()}"
