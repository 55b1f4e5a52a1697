"""What the toy learns from and is measured by: the place of its sound, and training that goes on where it was."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.nn import backend
from ltx_models.vocoder import GeneratorConfig, Vocoder

torch: Any = pytest.importorskip("torch")
evaluate, grammar, loop, measure, scenes, sound = (
    import_module(f"training.toy.{name}") for name in ("evaluate", "grammar", "loop", "measure", "scenes", "sound")
)
GENERATOR = GeneratorConfig(width=16, rates=(3, 2), sizes=(5, 4), branch_sizes=(3,), dilations=((1, 3),), mel_bins=8)


@st.composite
def drawn(draw: st.DrawFn, motions: tuple[str, ...] = grammar.MOTIONS) -> Any:
    """Draw a scene that is heard."""
    words = (grammar.COLOURS, grammar.SHAPES, motions, grammar.TONES[:3], grammar.RHYTHMS, grammar.GROUNDS)
    wish = grammar.Wish(*(draw(st.sampled_from(choice)) for choice in words))
    return scenes.draw_scene(np.random.default_rng(draw(st.integers(0, 2**20))), wish)


@settings(max_examples=20, deadline=None)
@given(drawn())
def test_the_sound_comes_from_where_the_shape_is(scene: Any) -> None:
    """As loud in all wherever it is, and further right the further right the shape is."""
    left, right = scenes.draw_sound(scene)
    middle = scenes.draw_sound(replace(scene, start=(2 / 3, 0.5), stop=(2 / 3, 0.5)))
    np.testing.assert_allclose(left**2 + right**2, (middle**2).sum(axis=0), atol=1e-5)
    np.testing.assert_array_equal(*middle)
    first, last = measure.balance_of(np.stack([left, right]))
    for balance, (across, _) in ((first, scene.start), (last, scene.stop)):
        if abs(across - 2 / 3) > 0.1:
            assert np.sign(balance) == np.sign(across - 2 / 3)
            assert abs(balance) > 0.1
    moved = {"left": -1, "right": 1}.get(scene.wish.motion, 0)
    assert np.sign(round(last - first, 1)) == moved


@settings(max_examples=6, deadline=None)
@given(drawn(motions=("left", "right")))
def test_a_drawn_clip_is_measured_as_what_it_is(scene: Any) -> None:
    """And one whose sides are exchanged is not."""
    frames = (scenes.draw_video(scene, scenes.SMALL).transpose(1, 2, 3, 0) + 1) / 2
    heard = scenes.draw_sound(scene)
    seen, other = (measure.measure(frames, each, scenes.RATE) for each in (heard, heard[::-1]))
    for word in evaluate.WORDS:
        assert getattr(seen, word) == getattr(scene.wish, word)
    assert seen.timbre == scene.wish.shape
    assert evaluate.follows(seen)
    assert not evaluate.follows(other)


def test_silence_is_silent_on_both_sides() -> None:
    scene = scenes.draw_scene(np.random.default_rng(0), grammar.Wish("red", "circle", "left", "none"))
    heard = scenes.draw_sound(scene)
    assert heard.shape == (2, round(scenes.SECONDS * scenes.RATE))
    assert not heard.any()


def test_a_vocoder_of_one_side_written_twice_keeps_the_sides_apart() -> None:
    """Each side is what the vocoder of one side makes of it, and hears nothing of the other."""
    torch.manual_seed(0)
    both = Vocoder(backend("torch"), GENERATOR)
    side = Vocoder(backend("torch"), replace(GENERATOR, width=GENERATOR.width // 2, mel_channels=1))
    sound.two_sides(side, both)
    mel = torch.randn(1, 2, 12, GENERATOR.mel_bins)
    with torch.no_grad():
        made, changed = both(mel), both(mel * torch.tensor([1.0, 2.0])[:, None, None])
        alone = torch.cat([side(mel[:, i : i + 1]) for i in (0, 1)], dim=1)
    torch.testing.assert_close(made, alone, atol=1e-6, rtol=0)
    assert float((made[:, 0] - made[:, 1]).abs().max()) > 1e-2
    torch.testing.assert_close(changed[:, 0], made[:, 0], atol=1e-6, rtol=0)
    assert float((changed[:, 1] - made[:, 1]).abs().max()) > 1e-3


def test_training_that_was_cut_goes_on_where_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def run(minutes: float) -> Any:
        torch.manual_seed(0)
        training = loop.Training(torch.nn.Linear(2, 2), tmp_path / "a.state", minutes, rate=0.01)
        begun = training.step
        training.run(lambda rng, done: training.model(torch.ones(1, 2)).square().sum())
        return begun, training

    caplog.set_level(logging.INFO)
    (none, first), (at, second), (there, same) = (run(minutes) for minutes in (5e-4, 1e-3, 1e-3))
    assert none == 0 < first.step == at < second.step == there == same.step
    assert [line.split(":")[0] for line in caplog.messages] == ["a", "a"]
    weights = [training.average.weight for training in (second, same)]
    torch.testing.assert_close(*weights, atol=0, rtol=0)
