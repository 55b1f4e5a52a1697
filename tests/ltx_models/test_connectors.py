"""The text connectors: the reference's outputs, laws of padding, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models import load_connectors
from ltx_models.checkpoints import CheckpointError
from ltx_models.nn import Backend, backend
from ltx_models.text import ConnectorConfig, TextConnectors, is_second_extractor

TOLERANCE = 2e-5
VIDEO = ConnectorConfig(heads=2, head_dim=8, layers=2, registers=8, max_pos=64.0, gated=True, double=True)
AUDIO = replace(VIDEO, head_dim=4)
LAYERS, WIDTH = 3, 16


@cache
def network(backend_name: str, second: bool) -> Any:
    nn = backend(backend_name)
    audio = AUDIO if second else VIDEO
    module = nn.build(lambda: TextConnectors(nn, VIDEO, audio, LAYERS * WIDTH, 0 if second else VIDEO.width))
    draw = np.random.default_rng(0)
    weights = {
        key: nn.asarray((draw.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32))
        for key, shape in nn.shapes(module).items()
    }
    return nn.load(module, weights)


def padded(nn: Backend, prompts: list[Any], length: int, side: str) -> tuple[Any, Any]:
    """Stack the hidden states (L, n, D) of prompts; what stands in the padding is noise."""
    states = np.random.default_rng(9).standard_normal((LAYERS, len(prompts), length, WIDTH)).astype(np.float32)
    mask = np.zeros((len(prompts), length), dtype=np.int64)
    for i, prompt in enumerate(prompts):
        place = slice(length - prompt.shape[1], length) if side == "left" else slice(0, prompt.shape[1])
        states[:, i, place], mask[i, place] = prompt, 1
    return nn.asarray(states), nn.asarray(mask)


def prompt(tokens: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((LAYERS, tokens, WIDTH)).astype(np.float32)


def test_equals_the_reference(nn: Backend, oracle: Any, close: Any) -> None:
    for case in oracle("connectors_*"):
        model = load_connectors(case.path, backend=nn.name, dtype="float32")
        hidden, mask = (nn.asarray(case.get(f"input.{name}")) for name in ("hidden_states", "attention_mask"))
        video, audio, kept = model(hidden, mask, padding_side=case.args["padding_side"])
        close(video, case.get("output.video_encoding"), TOLERANCE, f"{case.name} video")
        close(audio, case.get("output.audio_encoding"), TOLERANCE, f"{case.name} audio")
        close(kept, case.get("output.attention_mask"), 0, f"{case.name} mask")


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 16), min_size=1, max_size=3),
    second=st.booleans(),
    backend_name=st.sampled_from(["torch", "mlx"]),
)
def test_padding_on_either_side_and_company_change_nothing(sizes: list[int], second: bool, backend_name: str) -> None:
    pytest.importorskip(backend_name)
    nn, net = backend(backend_name), network(backend_name, second)
    prompts = [prompt(n, i) for i, n in enumerate(sizes)]
    left, right = (net(*padded(nn, prompts, 16, side), padding_side=side) for side in ("left", "right"))
    alone = net(*padded(nn, prompts[:1], 16, "left"))
    for a, b, c in zip(left[:2], right[:2], alone[:2], strict=True):
        np.testing.assert_allclose(nn.to_numpy(a), nn.to_numpy(b), atol=TOLERANCE)
        np.testing.assert_allclose(nn.to_numpy(a)[:1], nn.to_numpy(c), atol=TOLERANCE)
    assert nn.to_numpy(left[2]).min() == 1


def test_every_token_and_register_counts(nn: Backend) -> None:
    net, words = network(nn.name, True), prompt(5, 0)
    want = nn.to_numpy(net(*padded(nn, [words], 16, "left"))[0])
    for token in range(5):
        other = words.copy()
        other[:, token] += 1
        assert np.abs(nn.to_numpy(net(*padded(nn, [other], 16, "left"))[0]) - want).max() > 1e-3
    assert np.abs(want[0, 5] - want[0, 13]).max() > 1e-3  # the same register, at another position


@pytest.mark.parametrize(
    ("shape", "mask", "side", "text"),
    [
        (
            (LAYERS, 1, 16, WIDTH),
            [1] * 8 + [0] * 8,
            "left",
            "sample 0 has no tokens, or its padding is not all on the left",
        ),
        ((LAYERS, 1, 16, WIDTH), [0] * 8 + [1] * 8, "right", "not all on the right"),
        ((LAYERS, 1, 16, WIDTH), [0] * 16, "left", "has no tokens"),
        ((LAYERS, 1, 16, WIDTH), [1, 0] * 8, "left", "not all on the left"),
        ((LAYERS, 1, 12, WIDTH), [1] * 12, "left", "12 tokens are no multiple of the 8 registers"),
        ((LAYERS, 1, 16, WIDTH), [1] * 8, "left", r"attention_mask: got shape \(1, 8\)"),
        ((LAYERS + 1, 1, 16, WIDTH), [1] * 16, "left", "is this the language model of the checkpoint"),
        ((LAYERS, 1, 16, WIDTH), [1] * 16, "middle", "padding_side: got 'middle'"),
    ],
)
def test_refuses_what_does_not_fit(nn: Backend, shape: tuple[int, ...], mask: list[int], side: Any, text: str) -> None:
    hidden = nn.xp.ones(shape, dtype=nn.float32)
    with pytest.raises(ValueError, match=text):
        network(nn.name, True)(hidden, nn.asarray(np.array([mask])), padding_side=side)


def test_refuses_states_that_overflowed(nn: Backend) -> None:
    hidden = nn.xp.full((LAYERS, 1, 16, WIDTH), float("inf"), dtype=nn.float32)
    with pytest.raises(ValueError, match="load it in bfloat16"):
        network(nn.name, True)(hidden, nn.xp.ones((1, 16), dtype=nn.xp.int32))


def test_refuses_a_configuration_between_the_versions(oracle: Any) -> None:
    with pytest.raises(ValueError, match="known are none of these keys"):
        is_second_extractor({"caption_proj_before_connector": True})
    with pytest.raises(ValueError, match="rope_type: got 'spiral'"):
        ConnectorConfig.read({"rope_type": "spiral"})
    pytest.importorskip("torch")
    (case,) = oracle("connectors_20_full")
    config = {"caption_proj_before_connector": True, "caption_projection_first_linear": False}
    config |= {"caption_proj_input_norm": False, "caption_projection_second_linear": False}
    with pytest.raises(CheckpointError, match="its configuration is that of another version"):
        load_connectors(case.path, config=config)
