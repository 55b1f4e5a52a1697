"""Noise that a caller gives as ``latents=`` and ``audio_latents=``, on both backends."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ltx_models.pipeline_files import contexts, write_whole
from tests.ltx_models.test_pipelines import SMALL, latents, pipeline, same

from ltx_models.media import write_audio
from ltx_models.nn import backend as get_backend
from ltx_models.pipelines import Image
from ltx_models.sampling import Noise

SHAPES = {"latents": (1, 128, 2, 2, 2), "audio_latents": (1, 8, 9, 16)}
HALF = SHAPES | {"latents": (1, 128, 2, 1, 1)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch")
    return write_whole(tmp_path_factory.mktemp("whole"), get_backend("torch"))


def drawn(seed: int, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Give the noise of a seed as latents: it is drawn for tokens, the video's first."""
    torch: Any = pytest.importorskip("torch")
    noise, found = Noise(seed), {}
    for name, (_, channels, *rest) in shapes.items():
        width = 128 if name == "latents" else channels * rest[-1]
        tokens = noise(name, torch.zeros(1, int(np.prod(rest)) * channels // width, width)).numpy()
        if name == "latents":
            found[name] = tokens.reshape(1, *rest, channels).transpose(0, 4, 1, 2, 3)
        else:
            found[name] = tokens.reshape(1, rest[0], channels, rest[1]).transpose(0, 2, 1, 3)
    return found


def as_given(noise: dict[str, Any], form: str) -> dict[str, Any]:
    if form == "numpy":
        return noise
    make: Any = pytest.importorskip("torch").from_numpy if form == "torch" else pytest.importorskip("mlx.core").array
    return {name: make(np.ascontiguousarray(x)) for name, x in noise.items()}


@pytest.mark.parametrize("form", ["torch", "mlx", "numpy"])
@pytest.mark.parametrize("name", ["distilled", "distilled-one-stage", "dev"])
def test_the_noise_of_a_seed_given_is_the_run_of_that_seed(files: dict[str, Path], name: str, form: str) -> None:
    """In place of the noise of the latents alone: what is drawn afterwards is the seed's as before."""
    nn = "mlx" if form == "mlx" else "torch"
    if nn == "mlx":
        pytest.importorskip("mlx.core")
    given = as_given(drawn(3, HALF if name == "distilled" else SHAPES), form)
    wanted = latents(pipeline(files, name, nn), seed=3)
    assert same(latents(pipeline(files, name, nn), seed=3, **given), wanted, 0)
    other = latents(pipeline(files, name, nn), seed=4, **given)
    assert same(other, wanted, 0) == (name != "distilled")  # whose second stage draws more
    assert not same(latents(pipeline(files, name, nn), seed=3, latents=given["latents"] + 1), wanted)


def test_noise_of_one_stream_leaves_the_other_to_the_seed(files: dict[str, Path]) -> None:
    pipe = pipeline(files, "distilled-one-stage")
    given = drawn(3, SHAPES)
    assert same(latents(pipe, seed=3, audio_latents=given["audio_latents"]), latents(pipe, seed=3), 0)


def test_a_picture_is_kept_under_given_noise(files: dict[str, Path]) -> None:
    """Also where it is appended: its tokens get noise of the seed."""
    pipe = pipeline(files, "keyframes")
    pictures: dict[str, Any] = {
        "images": [Image(np.full((64, 64, 3), 200, np.uint8), frame) for frame in (0, 8)],
        "seed": 3,
    }
    assert same(latents(pipe, **pictures, latents=drawn(3, HALF)["latents"]), latents(pipe, **pictures), 0)
    one = pipeline(files, "distilled-one-stage")
    a, b = (latents(one, seed=3, image=pictures["images"][0].picture, **more) for more in ({}, drawn(3, SHAPES)))
    assert same(a, b, 0)


def test_each_video_of_a_call_has_its_own_of_the_noise(files: dict[str, Path]) -> None:
    torch: Any = pytest.importorskip("torch")
    pipe = pipeline(files, "distilled-one-stage")
    noise = torch.randn(2, *SHAPES["latents"][1:], generator=torch.Generator().manual_seed(0))
    both = latents(pipe, latents=noise, num_videos_per_prompt=2, seed=5)
    for k in range(2):
        alone = latents(pipe, latents=noise[k : k + 1], seed=5 + k)
        assert same({name: x[k : k + 1] for name, x in both.items()}, alone, 0)


def test_a_generator_draws_what_is_not_given(files: dict[str, Path]) -> None:
    torch: Any = pytest.importorskip("torch")
    pipe, noise = pipeline(files, "distilled-one-stage"), drawn(3, SHAPES)["latents"]

    def sound(seed: int) -> Any:
        found = latents(pipe, latents=noise, generator=torch.Generator().manual_seed(seed), streams=("audio", "video"))
        return found["audio"]

    assert np.array_equal(sound(1), sound(1))
    assert not np.array_equal(sound(1), sound(2))


@pytest.mark.parametrize("form", ["np", "pt", "pil", "latent"])
def test_every_form_of_the_result_has_the_videos_along_its_first_axis(files: dict[str, Path], form: Any) -> None:
    torch: Any = pytest.importorskip("torch")
    pipe = pipeline(files, "distilled-one-stage")
    given: dict[str, Any] = SMALL | {"prompt_embeds": contexts(1), "streams": ("video",)}
    made = pipe(**given, output_type=form, latents=drawn(3, SHAPES)["latents"])
    assert made.latents.video is not None
    assert tuple(made.latents.video.shape) == SHAPES["latents"]
    if form == "latent":
        assert made.frames is None
    elif form == "pil":
        assert [len(clip) for clip in made.frames] == [9]
        assert made.frames[0][0].size == (64, 64)
    else:
        assert tuple(made.frames.shape) == ((1, 9, 64, 64, 3) if form == "np" else (1, 9, 3, 64, 64))
        assert isinstance(made.frames, np.ndarray if form == "np" else torch.Tensor)


X = np.zeros(SHAPES["latents"], np.float32)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"latents": X[:, :, :1]}, r"latents: got shape \(1, 128, 1, 2, 2\), .* begins with \(1, 128, 2, 2, 2\)"),
        ({"latents": X.reshape(1, 8, 128)}, r"latents: got shape \(1, 8, 128\), .*not packed to tokens"),
        ({"audio_latents": np.zeros((1, 9, 128))}, r"audio_latents: got shape \(1, 9, 128\), .*\(1, 8, 9, 16\)"),
        ({"latents": X.astype(int)}, "latents: got int64, expected floating-point numbers"),
        ({"latents": X * np.nan}, "latents: holds NaN or infinity"),
        ({"latents": [1.0]}, r"latents: got a builtins\.list, expected an array of the pipeline's framework"),
        ({"latents": X, "streams": ("audio",)}, "latents: there is no video in this run"),
        ({"latents": X, "draw": lambda name, like: like}, "latents: draw= gives all noise; give one of the two"),
    ],
)
def test_noise_that_has_no_place_is_refused(files: dict[str, Path], given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        latents(pipeline(files, "distilled-one-stage"), **given)


def test_noise_of_another_framework_is_refused(files: dict[str, Path]) -> None:
    mx: Any = pytest.importorskip("mlx.core")
    with pytest.raises(ValueError, match=r"latents: got a mlx\.array, expected an array of the pipeline's framework"):
        latents(pipeline(files, "distilled-one-stage"), latents=mx.array(X))


def test_noise_of_given_sound_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", np.zeros((1, 2, 48000), np.float32), 48000)
    with pytest.raises(ValueError, match="audio_latents: the sound is given by audio="):
        latents(
            pipeline(files, "distilled-one-stage"),
            audio=tmp_path / "a.wav",
            audio_latents=np.zeros(SHAPES["audio_latents"]),
        )


def test_the_noise_of_two_stages_is_that_of_the_first(files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"begins with \(1, 128, 2, 1, 1\)"):
        latents(pipeline(files, "distilled"), latents=X)
