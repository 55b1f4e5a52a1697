"""A call: flat keywords and grouped values say the same, and what is misspelt is refused by name."""

from dataclasses import fields
from typing import Any

import pytest

from ltx_models.pipelines import Call, Callbacks, Keywords, Prompts, SizeOptions
from ltx_models.pipelines.call import GROUPS
from ltx_models.pipelines.checks import check_prompts
from ltx_models.pipelines.resolve import unused
from ltx_models.pipelines.settings import RECIPES


def test_every_field_is_a_flat_keyword_and_stands_in_one_group_only() -> None:
    names = [one.name for group in GROUPS.values() for one in fields(group)]
    assert len(names) == len(set(names))
    assert set(names) == set(Keywords.__annotations__) | {"prompt", "negative_prompt"}
    assert GROUPS.keys() == {one.name for one in fields(Call)}


def test_flat_keywords_and_values_make_the_same_call() -> None:
    flat = Call.of("a fox", seed=1, height=64, preview_every=2)
    assert flat != Call.of("a fox", height=64, preview_every=2)
    assert Call.of("a fox", height=64, preview_every=2) == Call(
        Prompts("a fox"), size=SizeOptions(height=64), callbacks=Callbacks(preview_every=2)
    )


def test_a_misspelt_keyword_is_refused_with_the_nearest() -> None:
    wrong: dict[str, Any] = {"hieght": 64}
    with pytest.raises(TypeError, match="no keyword 'hieght'; did you mean 'height'"):
        Call.of("a fox", **wrong)


@pytest.mark.parametrize("prompt", [["a fox", "a hen"], b"a fox", 7])
def test_what_is_no_text_is_refused_as_a_prompt(prompt: Any) -> None:
    with pytest.raises(ValueError, match=r"prompt: got .*, expected one text; call the pipeline once for each video"):
        check_prompts(Prompts(prompt))
    with pytest.raises(ValueError, match=r"negative_prompt: got .*, expected one text"):
        check_prompts(Prompts("a fox", prompt))


def test_what_a_distilled_recipe_does_not_use_is_said() -> None:
    call = Call.of("a fox", "rain", num_inference_steps=20, guidance_scale=2.0)
    assert unused(call, RECIPES["distilled"]) == [
        "negative_prompt, guidance_scale, num_inference_steps: not used by the pipeline 'distilled'"
    ]
    assert unused(call, RECIPES["dev"]) == []
    assert unused(Call.of("a fox"), RECIPES["distilled"]) == []


def test_progress_true_shows_a_bar_for_each_phase(capsys: pytest.CaptureFixture[str]) -> None:
    with Callbacks(progress=True).with_bar() as callbacks:
        callbacks.report("denoise", 1, 8)
        with callbacks.phase("decode"):
            pass
    err = capsys.readouterr().err
    assert "denoise" in err
    assert "decode" in err
    with Callbacks().with_bar() as callbacks, callbacks.phase("text"):
        pass
    assert capsys.readouterr().err == ""
