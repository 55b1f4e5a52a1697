"""Several videos of one call, and what a notebook or a terminal shows of one."""

import ast
import base64
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilekit
from ltx_models import LTX2Pipeline
from ltx_models.notebook import ShownAsText
from ltx_models.pipelines import Call, Callbacks, Latents, LTX2Output, batch
from ltx_models.pipelines.results import as_frames


def test_each_prompt_and_each_video_of_it_is_a_call_with_a_seed_of_its_own() -> None:
    made = batch.calls(["a fox", "a hen"], "rain", {"height": 64, "seed": 7}, count=2)
    assert [call.prompts.prompt for call in made] == ["a fox", "a fox", "a hen", "a hen"]
    assert [call.sampling.seed for call in made] == [7, 8, 9, 10]
    assert {(call.prompts.negative_prompt, call.size.height) for call in made} == {("rain", 64)}
    assert batch.calls("a fox", None, {}) == [Call.of("a fox")]


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_generator_draws_the_seeds_and_goes_on(library: str) -> None:
    def make() -> Any:
        if library == "numpy":
            return np.random.default_rng(1)
        torch: Any = pytest.importorskip("torch")
        return torch.Generator().manual_seed(1)

    generator = make()
    first, second = (batch.calls("a fox", None, {}, generator=generator)[0].sampling.seed for _ in range(2))
    assert first != second
    assert batch.calls("a fox", None, {}, count=2, generator=make())[1].sampling.seed == second
    own = batch.calls(["a", "b"], None, {}, generator=[make(), make()])
    assert [call.sampling.seed for call in own] == [first, first]


@pytest.mark.parametrize(
    ("arguments", "keywords", "said"),
    [
        (([], None), {}, "prompt: got an empty list"),
        ((["a", "b"], ["x", "y", "z"]), {}, "negative_prompt: got 3 for 2 prompts"),
        ((["a", "b"], None), {"output": "a.mp4"}, "output: is one file, and 2 videos are asked for"),
        ((["a", "b"], None), {"latents": np.ones((1, 4))}, r"latents: got shape \(1, 4\) for 2 videos"),
        ((["a", "b"], None), {"audio_latents": 0}, r"audio_latents: got shape \(\) for 2 videos"),
        ((["a", "b"], None), {"save_latents": "a.safetensors"}, "save_latents: is one file"),
    ],
)
def test_what_does_not_go_with_several_videos_is_refused(arguments: Any, keywords: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        batch.calls(arguments[0], arguments[1], keywords)


def test_generators_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="num_videos_per_prompt: got 0"):
        batch.calls("a", None, {}, count=0)
    with pytest.raises(ValueError, match="seed: is drawn by generator="):
        batch.calls("a", None, {"seed": 1}, generator=rng)
    with pytest.raises(ValueError, match="generator: got 2 for 1 videos"):
        batch.calls("a", None, {}, generator=[rng, rng])
    with pytest.raises(ValueError, match=r"generator: got a int, expected a torch\.Generator"):
        batch.calls("a", None, {}, generator=3)


@pytest.mark.parametrize("library", ["torch", "mlx"])
def test_results_are_joined_along_the_first_axis(library: str) -> None:
    xp: Any = pytest.importorskip({"mlx": "mlx.core"}.get(library, library))
    outputs = [
        LTX2Output(
            np.full((1, 9, 2, 2, 3), k),
            np.full((1, 2, 5), k),
            48000,
            24.0,
            Latents(xp.ones((1, 4, 2, 1, 1))),
            None,
            (f"n{k}", "same"),
        )
        for k in range(3)
    ]
    one = batch.joined(outputs)
    assert one.frames.shape == (3, 9, 2, 2, 3)
    assert one.frames[:, 0, 0, 0, 0].tolist() == one.audio[:, 0, 0].tolist() == [0, 1, 2]
    assert one.latents.video is not None
    assert tuple(one.latents.video.shape) == (3, 4, 2, 1, 1)
    assert one.latents.audio is None
    assert one.notes == ("n0", "same", "n1", "n2")
    assert batch.joined(outputs[:1]) is outputs[0]


def test_several_videos_are_those_of_several_calls() -> None:
    """The toy, twice: each video is what its own call gives."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    size: Any = {"height": 64, "width": 64, "num_frames": 9, "streams": ("video",)}
    pipe = LTX2Pipeline.from_pretrained(dtype="float32", pipeline="distilled-one-stage", keep=True)
    both = pipe(["a red circle moving right", "a blue square moving down"], seed=3, **size)
    assert both.frames.shape == (2, 9, 64, 64, 3)
    alone = pipe("a blue square moving down", seed=4, output_type="pt", **size)
    np.testing.assert_array_equal(both.frames[1:], alone.frames.permute(0, 1, 3, 4, 2).numpy())
    assert both.latents.video is not None
    assert both.latents.video.shape[0] == 2


@pytest.mark.parametrize("form", ["np", "pt", "pil"])
def test_a_result_plays_in_a_notebook_with_its_sound(form: Any, tmp_path: Path) -> None:
    pytest.importorskip("av")
    torch: Any = pytest.importorskip("torch")
    from ltx_models.media import probe_video

    video = np.random.default_rng(0).uniform(-1, 1, (1, 3, 9, 32, 64)).astype(np.float32)
    frames = as_frames(video, form)
    if form == "pt":
        assert frames.shape == (1, 9, 3, 32, 64)
        assert isinstance(frames, torch.Tensor)
    sound = np.zeros((1, 2, 48000 * 9 // 24), np.float32)
    html = LTX2Output(frames, sound, 48000, 24.0, Latents(), None, ("a <note>",))._repr_html_()
    assert "a &lt;note&gt;" in html
    (data,) = re.findall(r'<video controls loop src="data:video/mp4;base64,([^"]+)"', html)
    path = tmp_path / "a.mp4"
    path.write_bytes(base64.b64decode(data))
    info = probe_video(path)
    assert (info.frames, info.height, info.width) == (9, 32, 64)
    assert info.audio is not None
    assert data in LTX2Output(None, None, None, 24.0, Latents(), path)._repr_html_()
    path.unlink()
    assert "is gone" in LTX2Output(None, None, None, 24.0, Latents(), path)._repr_html_()


def test_sound_alone_plays_in_a_notebook() -> None:
    pytest.importorskip("av")
    output = LTX2Output(None, np.zeros((2, 2, 4800), np.float32), 48000, 24.0, Latents())
    assert output._repr_html_().count('<audio controls loop src="data:audio/wav;base64,') == 2


def test_a_bar_is_shown_by_default_where_a_person_looks_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Callbacks().with_bar() as callbacks:
        callbacks.report("denoise", 1, 8)
    assert "denoise" in capsys.readouterr().err
    with Callbacks(progress=False).with_bar() as callbacks:
        callbacks.report("denoise", 1, 8)
    assert capsys.readouterr().err == ""


def test_plans_show_themselves_in_a_notebook() -> None:
    from ltx_models import plan_exact
    from ltx_models.video_vae import LTX2
    from ltx_models.video_vae.sharing import plan_sharing
    from tilekit import LTX2_VIDEO, Tiling, plan

    for made in (
        plan_exact(LTX2, (1, 128, 4, 8, 8)),
        plan((1, 128, 4, 8, 8), Tiling(width=(64, 32)), geometry=LTX2_VIDEO),
        plan_sharing(LTX2, (1, 128, 4, 8, 8), 4),
    ):
        html = made._repr_html_()
        assert html.startswith("<pre>")
        assert str(made).splitlines()[0] in html.replace("&gt;", ">")


def test_every_plan_has_a_form_for_notebooks() -> None:
    """Whatever of the packages prints itself as a plan."""
    source = Path(tilekit.__file__).parents[1]
    missing = [
        f"{path.name}: {node.name}"
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and node.name.endswith(("Plan", "Sharing"))
        and "__str__" in (own := {one.name for one in node.body if isinstance(one, ast.FunctionDef)})
        and "_repr_html_" not in own
        and ShownAsText.__name__ not in {base.id for base in node.bases if isinstance(base, ast.Name)}
    ]
    assert missing == []
