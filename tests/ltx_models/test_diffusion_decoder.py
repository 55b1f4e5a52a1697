"""The diffusion decoder of LTX-2.5 against the reference, its sweeps against the whole, and what it refuses."""

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models import decode_exact, default_checkpoint, load_video_decoder, plan_exact, stream_decode
from ltx_models.nn import Backend
from ltx_models.nn import backend as get_backend
from ltx_models.video_vae import LTX2
from ltx_models.video_vae.diffusion import LTX2_5, DiffusionDecoder, DiffusionDecoderConfig
from ltx_models.video_vae.diffusion.attention import Span, attend, first_key
from ltx_models.video_vae.diffusion.config import Stage
from ltx_models.video_vae.diffusion.exact import Costs
from ltx_models.video_vae.diffusion.field import seeded_field

# float32 of two implementations of the official network differ by 4.6e-5
PIXELS = 3e-4
SMALL = DiffusionDecoderConfig(
    stages=(
        Stage(32, 1, (3, 1, 3), (1, 2, 2), 1),
        Stage(32, 1, (1, 3, 3), (2, 1, 1), 2),
        Stage(16, 2, (3, 3, 3), (2, 2, 2), 1),
        Stage(16, 1, (3, 3, 5), (2, 2, 2), 1),
    ),
    channels=16,
    depth=2,
    kernel=(5, 3, 5),
    head_dim=16,
    embedding=16,
    latent_channels=4,
    steps=1,
    timestep_scale=1000.0,
    prediction="x0",
)
# with every kind of step up, and a quarter of the cells
FEWER = replace(SMALL, stages=(*SMALL.stages[:2], Stage(16, 2, (3, 3, 3), (2, 1, 1), 1), SMALL.stages[3]))


def noise_of(case: Any, nn: Backend) -> list[Any]:
    return [nn.asarray(case.get(k).astype(np.float32) / 40) for k in sorted(case.arrays) if "noise_i8" in k]


def made(nn: Backend, config: DiffusionDecoderConfig, seed: int = 0) -> Any:
    """Make a decoder with seeded weights."""
    module = nn.build(lambda: DiffusionDecoder(nn, config))
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in nn.shapes(module).items():
        spread = 1.0 if "norm" in name or "std" in name else 0.0
        values = spread + rng.standard_normal(shape) * (0.1 if spread else 1 / np.sqrt(max(1, shape[-1])))
        weights[name] = nn.asarray(values.astype(np.float32))
    return nn.load(module, weights)


def drawn(nn: Backend, *shape: int, seed: int = 0) -> Any:
    return nn.asarray(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_the_decoder_gives_the_reference_pixels(nn: Backend, oracle25: Any, close: Any) -> None:
    for case in oracle25("diffvae_*"):
        if "output.video.combined" in case.arrays:
            decoder = load_video_decoder(case.path, backend=nn.name, dtype="float32")
            video = decoder(nn.asarray(case.get("input.latent")), noise=noise_of(case, nn))
            close(video, case.get("output.video.combined"), PIXELS, case.name)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@settings(max_examples=15, deadline=None)
@given(
    cells=st.tuples(*[st.integers(3, 9)] * 3),
    kernel=st.tuples(*[st.sampled_from([1, 2, 3])] * 3),
    seed=st.integers(0, 9),
)
def test_neighbourhood_attention_gathers_the_keys_of_the_rule(
    backend: Literal["torch", "mlx"], cells: Any, kernel: Any, seed: int
) -> None:
    pytest.importorskip(backend)
    nn = get_backend(backend)
    q, k, v = (drawn(nn, 1, *cells, 2, 4, seed=3 * seed + i) for i in range(3))
    out = np.asarray(attend(nn, q, k, v, kernel, [Span.whole(n) for n in cells]))
    given: list[Any] = [np.asarray(x) for x in (q, k, v)]
    at = tuple(np.random.default_rng(seed).integers(0, n) for n in cells)
    box = tuple(slice(s := first_key(int(i), n, size), s + size) for i, n, size in zip(at, cells, kernel, strict=True))
    keys, values = (x[(0, *box)].reshape(prod(kernel), 2, 4) for x in given[1:])
    scores = np.einsum("hd,nhd->hn", given[0][(0, *at)], keys) / 2
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    want = np.einsum("hn,nhd->hd", weights / weights.sum(axis=1, keepdims=True), values)
    assert np.abs(out[(0, *at)] - want).max() < 1e-5


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (FEWER, (1, 4, 2, 1, 3)),
        (replace(FEWER, steps=2, depth=1), (1, 4, 1, 1, 2)),
        (replace(FEWER, steps=2, depth=1, prediction="v"), (2, 4, 1, 1, 2)),
    ],
)
def test_a_sweep_along_any_axis_gives_the_whole(nn: Backend, config: Any, shape: Any, close: Any) -> None:
    decoder, latent = made(nn, config), drawn(nn, *shape)
    noise = [drawn(nn, *decoder.noise_shape(shape), seed=1)]
    whole = decoder(latent, noise=noise)
    for axis in range(3):
        for most in (3, 8):
            blocks = list(decoder.sweep(latent, noise, axis=axis, most=most))
            ends = np.cumsum([0, *(block.shape[2 + axis] for _, block in blocks)])
            assert [start for start, _ in blocks] == list(ends[:-1])
            joined = nn.xp.concat([block for _, block in blocks], axis=2 + axis)
            close(joined, whole, 2e-4, f"axis {axis}, {most} at a time")


def test_a_budget_is_kept_and_frames_come_in_order(nn: Backend, close: Any) -> None:
    decoder, shape = made(nn, FEWER), (1, 4, 3, 1, 6)
    latent, noise = drawn(nn, *shape), [drawn(nn, *decoder.noise_shape(shape), seed=1)]
    whole = plan_exact(decoder, shape)
    assert (whole.most, whole.work) == (None, 1.0)
    for share in (0.6, 0.3):
        plan = plan_exact(decoder, shape, memory_bytes=int(whole.peak_bytes * share))
        assert plan.peak_bytes <= whole.peak_bytes * share
        video = decode_exact(decoder, latent, plan=plan, noise=noise)
        close(video, decoder(latent, noise=noise), 2e-4, str(plan))
    starts = [start for start, _ in stream_decode(decoder, latent, plan=replace(plan, axis=0, most=4), noise=noise)]
    assert starts == sorted(starts)
    assert len(starts) > 1


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("most", [None, 8, 1])
def test_the_forecast_is_near_the_bytes_that_live(axis: int, most: int | None) -> None:
    torch = pytest.importorskip("torch")
    config = replace(SMALL, channels=32, stages=(*SMALL.stages[:-1], Stage(16, 1, (3, 3, 3), (2, 2, 2), 1)))
    decoder, shape = made(get_backend("torch"), config), (1, 4, 4, 3, 5)
    noise = [torch.randn(decoder.noise_shape(shape))]
    latent = torch.randn(shape)
    peak = peak_of(decoder.sweep(latent, noise, axis=axis, most=most), [*decoder.state_dict().values(), *noise, latent])
    costs = Costs(config, shape, 4)
    forecast = costs.peak(axis, most or costs.sizes.patches[axis])
    assert 0.85 <= forecast / peak <= 1.2


def peak_of(blocks: Iterator[Any], known: list[Any]) -> int:
    """Count the bytes of torch that live at once while blocks are made and let go, beside those known."""
    torch = pytest.importorskip("torch")
    from torch.utils._python_dispatch import TorchDispatchMode

    there = {x.untyped_storage().data_ptr() for x in known}

    class Counter(TorchDispatchMode):
        live: ClassVar[dict[int, int]] = {}
        peak = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, (tuple, list)) else [out]:
                storage = x.untyped_storage() if isinstance(x, torch.Tensor) else None
                if storage is not None and storage._cdata not in self.live and storage.data_ptr() not in there:
                    self.live[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.live.pop, storage._cdata, None)
                    Counter.peak = max(Counter.peak, sum(self.live.values()))
            return out

    gc.collect()
    with Counter(), torch.no_grad():  # type: ignore[no-untyped-call]  # torch's own
        for _, block in blocks:
            del block
    return Counter.peak


@pytest.mark.parametrize(("config", "shape"), [(FEWER, (1, 4, 5, 1, 2)), (FEWER, (1, 4, 1, 2, 2))])
def test_a_stream_gives_the_whole_in_order(nn: Backend, config: Any, shape: Any, close: Any, tools: Any) -> None:
    decoder, latent = made(nn, config), drawn(nn, *shape)
    noise = [drawn(nn, *decoder.noise_shape(shape), seed=1)]
    whole = decoder(latent, noise=noise)
    plans = [None, *(replace(plan_exact(decoder, shape), axis=axis, most=3) for axis in range(3))]
    for plan in plans:
        blocks = list(decoder.stream(latent, noise=noise, plan=plan))
        close(tools.joined(nn, blocks), whole, 2e-4, str(plan))
        along_time = plan is None or plan.axis == 0
        assert (len(blocks) > 1) == (along_time and shape[2] > 1)
    drawn_anew = tools.joined(nn, decoder.stream(latent))  # noise of its own
    assert drawn_anew.shape == whole.shape
    with pytest.raises(ValueError, match=r"plan: is for latents of shape \(1, 4, 9, 9, 9\)"):
        decoder.stream(latent, plan=plan_exact(decoder, (1, 4, 9, 9, 9)))


@pytest.mark.parametrize("given", [True, False])
def test_the_memory_of_a_stream_does_not_grow_with_the_clip(nn: Backend, given: bool) -> None:
    decoder, peaks = made(nn, FEWER), []
    for frames in (5, 11):
        shape = (1, 4, frames, 1, 3)
        latent = drawn(nn, *shape)
        noise = [drawn(nn, *decoder.noise_shape(shape), seed=1)] if given else None
        known = [*nn.weights(decoder).values(), latent, *(noise or [])]
        nn.synchronize(*known)
        blocks = decoder.stream(latent, noise=noise)
        peaks.append(peak_of(blocks, known) if nn.name == "torch" else mlx_peak_of(blocks))
    assert peaks[1] < 1.05 * peaks[0]


def mlx_peak_of(blocks: Iterator[Any]) -> int:
    """Measure the most bytes of MLX beside those that were there."""
    import mlx.core as mx

    gc.collect()
    mx.synchronize()
    there = mx.get_active_memory()
    mx.reset_peak_memory()
    for _, block in blocks:
        del block
    return int(mx.get_peak_memory() - there)


def test_noise_of_a_seed_is_the_same_everywhere(nn: Backend, close: Any) -> None:
    shape = (1, 3, 9, 8, 12)
    field = seeded_field(shape, 7, nn.asarray(np.zeros(1, np.float32)))
    frames = np.random.default_rng(7)
    for i in range(9):
        close(field[:, :, i], frames.standard_normal((1, 3, 8, 12), dtype=np.float32), 0)
    half = seeded_field(shape, 7, nn.cast(field, nn.dtype("bfloat16")))
    assert half.dtype == nn.dtype("bfloat16")
    close(nn.cast(half, nn.float32), field, 2e-2)


def test_the_published_size_fits_consumer_cards_and_does_nothing_twice() -> None:
    shape = (1, 128, 16, 34, 60)  # 1088x1920, 121 frames
    for gigabytes in (8, 12, 16, 24):
        plan = plan_exact(LTX2_5, shape, itemsize=2, memory_bytes=gigabytes * 2**30)
        assert plan.peak_bytes <= gigabytes * 2**30
        assert plan.work == 1.0
    assert LTX2_5.least_latent == (3, 7, 7)
    assert plan_exact(LTX2_5, shape, itemsize=2).peak_bytes > 60 * 2**30


def test_what_does_not_fit_is_refused(nn: Backend) -> None:
    decoder, shape = made(nn, SMALL), (1, 4, 3, 2, 3)
    latent = drawn(nn, *shape)
    with pytest.raises(ValueError, match=r"latent: got shape \(1, 5, 3, 2, 3\), expected \(batch, 4, frames"):
        decoder(drawn(nn, 1, 5, 3, 2, 3))
    with pytest.raises(
        ValueError, match=r"noise: got 2 arrays of shapes .*, expected one of shape \(1, 3, 17, 64, 96\)"
    ):
        decoder(latent, noise=[drawn(nn, 1, 3, 17, 64, 96)] * 2)
    with pytest.raises(ValueError, match=r"noise: got 1 arrays of shapes \(1, 3, 9, 64, 96\), expected one"):
        decoder(latent, noise=[drawn(nn, 1, 3, 9, 64, 96)])
    with pytest.raises(ValueError, match=r"memory_bytes: got 10\.0 KiB, the least that an exact diffusion decode"):
        plan_exact(decoder, shape, memory_bytes=10 * 2**10)
    with pytest.raises(ValueError, match=r"plan: is for latents of shape"):
        decode_exact(decoder, latent, plan=plan_exact(decoder, (1, 4, 4, 2, 3)))
    other: Any = plan_exact(LTX2, (1, 128, 3, 2, 3))
    with pytest.raises(TypeError, match=r"plan: got a ExactPlan, this decoder takes a DiffusionPlan"):
        decode_exact(decoder, latent, plan=other)
    with pytest.raises(ValueError, match=r"timestep: a diffusion decoder has steps of its own"):
        decode_exact(decoder, latent, timestep=latent[:, 0, 0, 0, 0])
    wrong: Any = "LTX-2"
    with pytest.raises(TypeError, match=r"plan_exact: got a str, expected a video decoder"):
        plan_exact(wrong, shape)


def test_a_configuration_that_does_not_fit_is_refused(nn: Backend) -> None:
    ladder: dict[str, Any] = {
        "stage_channels": [32, 16, 16],
        "stage_depths": [1, 1, 1],
        "stage_kernels": [[3, 3, 3]] * 3,
        "upsamples": [[[1, 2, 2], 2], [[2, 2, 2], 1]],
    }
    changes: list[tuple[dict[str, Any], str]] = [
        ({"stage_depths": [1, 1]}, r"got 3 stage_channels, 2 stage_depths"),
        (
            {"stage_kernels": [[3, 3]] * 3},
            r"stage_kernels: got \[3, 3\], expected three positive integers",
        ),
        ({"upsamples": [[[1, 2, 2], 1], [[2, 2, 2], 1]]}, r"32 channels reduced by 1 is followed by one of 16"),
        ({"upsamples": []}, r"vae\.decoder: upsamples missing"),
    ]
    for change, text in changes:
        section = {"_class_name": "CausalDiffusionVAE", "decoder": {**ladder, **change}}
        with pytest.raises(ValueError, match=text):
            load_video_decoder(default_checkpoint(), backend=nn.name, config={"vae": section})
    section = {"_class_name": "CausalDiffusionVAE", "decoder": ladder, "model_output_type": "eps"}
    with pytest.raises(ValueError, match=r"vae\.model_output_type: got 'eps', allowed are 'x0' and 'v'"):
        load_video_decoder(default_checkpoint(), backend=nn.name, config={"vae": section})
