"""Names that users of diffusers type: each works as there, or is refused with ours."""

import inspect
from importlib.util import find_spec
from typing import Any, Literal

import pytest

import ltx_models
from ltx_models import LTX2Pipeline
from ltx_models.pipelines import Call, Keywords, foreign

OURS = {"prompt", "negative_prompt", "num_videos_per_prompt", "generator", *Keywords.__annotations__}
BACKEND: Literal["torch", "mlx"] = "torch" if find_spec("torch") else "mlx"


def test_every_argument_of_the_pipeline_of_diffusers_is_taken_or_told_ours() -> None:
    diffusers: Any = pytest.importorskip("diffusers")
    theirs = set(inspect.signature(diffusers.LTX2Pipeline.__call__).parameters) - {"self"}
    assert len(theirs) > 40
    assert theirs - OURS <= set(foreign.KEYWORDS)


def test_no_name_is_both_taken_and_refused() -> None:
    assert not OURS & set(foreign.KEYWORDS)
    assert not set(dir(LTX2Pipeline)) & set(foreign.ATTRIBUTES)


@pytest.mark.parametrize("name", foreign.KEYWORDS)
def test_a_foreign_keyword_is_told_ours_and_what_is_named_exists(name: str) -> None:
    wrong: dict[str, Any] = {name: 0}
    with pytest.raises(TypeError) as refused:
        Call.of("a fox", **wrong)
    meant = foreign.KEYWORDS[name]
    assert str(refused.value) == f"LTX2Pipeline: no keyword {name!r}; here it is {meant}"
    word = meant.partition("=")[0]
    of_making = set(inspect.signature(LTX2Pipeline.from_pretrained).parameters)
    assert meant.startswith("not needed") or word in OURS | of_making


@pytest.mark.parametrize("name", foreign.ATTRIBUTES)
def test_a_foreign_attribute_is_told_ours_and_what_is_named_exists(name: str) -> None:
    pipe = LTX2Pipeline.from_pretrained(backend=BACKEND)
    with pytest.raises(AttributeError, match=f"LTX2Pipeline has no attribute '{name}'; here it is "):
        getattr(pipe, name)
    meant = foreign.ATTRIBUTES[name]
    if meant.startswith("from_pretrained(") and "=" in meant:
        word = meant.removeprefix("from_pretrained(").partition("=")[0]
        assert word in inspect.signature(LTX2Pipeline.from_pretrained).parameters
    for called in (word for word in meant.split() if word.startswith("ltx_models.")):
        value: Any = ltx_models
        for part in called.partition("(")[0].rstrip(";").split(".")[1:]:
            value = getattr(value, part, None) or pytest.importorskip(f"{value.__name__}.{part}")


def test_a_misspelt_attribute_is_refused_as_ever() -> None:
    pipe: Any = LTX2Pipeline.from_pretrained(backend=BACKEND)
    with pytest.raises(AttributeError, match=r"LTX2Pipeline has no attribute 'colour'$"):
        pipe.colour  # noqa: B018
    assert not hasattr(pipe, "_repr_png_")


@pytest.mark.parametrize("given", ["float16", "a dtype of torch"])
def test_torch_dtype_is_told_ours(given: Any) -> None:
    if given != "float16":
        given = pytest.importorskip("torch").float16
    with pytest.raises(TypeError, match=r"torch_dtype: got .*float16; here it is dtype=, .* such as 'bfloat16'"):
        LTX2Pipeline.from_pretrained(torch_dtype=given)


def test_a_dtype_of_torch_is_refused_with_the_names() -> None:
    torch: Any = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"dtype: got torch\.bfloat16, .*'bfloat16'"):
        LTX2Pipeline.from_pretrained(dtype=torch.bfloat16)


def test_the_version_is_there() -> None:
    assert ltx_models.__version__.count(".") == 2
