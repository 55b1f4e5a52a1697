"""Every autoencoder class of diffusers: exact equals untiled, in less memory, decoding and encoding."""

import os
import re
from typing import Any

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

from tests.tilekit.exact._autoencoders import ZOO, Entry, tensor  # noqa: E402  # after what may be missing
from tests.tilekit.exact._live import Live  # noqa: E402

import tilekit  # noqa: E402
from tilekit import BackendError, PlanError  # noqa: E402
from tilekit.adapters import disable_exact_tiling, enable_exact_tiling  # noqa: E402
from tilekit.adapters._classes import QUIRKS, quirks_of, settings  # noqa: E402

ROUNDING = 1e-5
UNTESTED = {"MMAudioVocoder", "MiniMaxMusic3Vocoder"}
"""Vocoders, which have no `decode`: `tilekit.exact` takes them as functions."""
FEW = ("AutoencoderKL", "LTX-Video 0.9", "TAESD", "Oobleck", "KVAE audio")
"""Those of the whole suite: pictures, clips and sound in seconds."""
OUTSIDE = {("MMAudio", "encode")}
"""Where the class makes a spectrogram before its network, which takes more than that, and is not made exact."""
WAYS = ("decode", "encode")


def numbers(*shape: int, seed: int = 1) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain(vae: Any, way: str, x: Any, **given: Any) -> Any:
    """Call it with nothing cut. Allegro has no such call, so its parts are put together here."""
    if type(vae).__name__ != "AutoencoderKLAllegro":
        with settings(vae, quirks_of(vae)):
            return getattr(vae, way)(x, **given)
    half, conv = (vae.decoder, vae.post_quant_conv) if way == "decode" else (vae.encoder, vae.quant_conv)
    x = half(x) if way == "encode" else x
    x = torch.stack([conv(frame) for frame in x.unbind(2)], 2)
    return half(x) if way == "decode" else x


def error(got: Any, want: Any) -> float:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    return float((got - want).abs().max() / want.abs().max())


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


def sizes(entry: Entry, way: str) -> list[tuple[int, ...]]:
    """Give two sizes: the second odd, and of other frames where there are any."""
    if way == "decode":
        (*first, last), less = entry.latents, 1
    else:
        (*first, last), less = entry.pictures, entry.step
    return [(*first, last), (*first, last - less)]


@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated:FutureWarning")  # Oobleck
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ZOO)
def test_exact_equals_untiled_and_takes_half_of_it_where_the_plan_can(name: str, way: str) -> None:
    entry = ZOO[name]
    if name not in FEW and "TILEKIT_NETWORKS" not in os.environ:
        pytest.skip("every class is compared in the nox session 'tests-networks'")
    vae, kwargs = entry.make(), getattr(entry, way)
    x, odd = (numbers(*shape) for shape in sizes(entry, way))
    with Live() as untiled:
        want = plain(vae, way, x, **kwargs)
    enable_exact_tiling(vae, memory_bytes=untiled.peak // 2)
    try:
        got = getattr(vae, way)(x, **kwargs)  # plans, and compares a small input
    except PlanError as refused:
        least = int(re.findall(r"takes (\d+)", str(refused))[0])
        assert untiled.peak // 2 < least <= untiled.peak
        enable_exact_tiling(vae, memory_bytes=least)
        got = getattr(vae, way)(x, **kwargs)
    else:
        least = untiled.peak // 2
    assert type(got) is type(want) or "Allegro" in name
    assert error(tensor(got), tensor(want)) < ROUNDING
    del got, want
    with Live() as exact:
        getattr(vae, way)(x, **kwargs)
    assert exact.peak <= (untiled.peak if (name, way) in OUTSIDE else 1.1 * least)
    if x.ndim < 5:  # the check of a small input is another size of clips
        enable_exact_tiling(vae)
        assert error(tensor(getattr(vae, way)(odd, **kwargs)), tensor(plain(vae, way, odd, **kwargs))) < ROUNDING


@pytest.mark.parametrize("name", ["HunyuanVideo", "AutoencoderKL", "Wan 2.1", "TAESD"])
def test_the_tiling_of_diffusers_has_no_effect_while_exact_is_on(name: str) -> None:
    vae = ZOO[name].make()
    x = numbers(*ZOO[name].latents)
    want = tensor(plain(vae, "decode", x))
    enable_exact_tiling(vae)
    vae.enable_tiling()
    for setting in ("tile_sample_min_height", "tile_sample_min_width", "tile_sample_min_size", "tile_latent_min_size"):
        if hasattr(vae, setting):
            setattr(vae, setting, 16)
    assert error(tensor(vae.decode(x)), want) < ROUNDING
    disable_exact_tiling(vae)
    seams = tensor(vae.decode(x))  # with tiles as small as this, some classes lose part of the picture
    assert seams.shape != want.shape or error(seams, want) > 100 * ROUNDING


@pytest.mark.parametrize("kind", sorted(name for name, quirks in QUIRKS.items() if quirks.refused))
def test_what_must_not_be_untiled_is_refused_by_name(kind: str) -> None:
    model = object.__new__(getattr(diffusers, kind))  # refused before anything of it is looked at
    torch.nn.Module.__init__(model)
    with pytest.raises(BackendError, match=rf"{kind} is not made exact: .*; (call|leave)"):
        enable_exact_tiling(model)


def test_segments_that_hand_frames_on_are_followed_as_a_whole() -> None:
    config = {
        "latent_channels": 8,
        "encoder_block_out_channels": (8, 8, 8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8, 8, 8),
        "layers_per_block": 1,
    }
    torch.manual_seed(0)
    vae = diffusers.Kandinsky6SRVAE(**config).eval()
    z = numbers(1, 8, 2, 3, 4)
    assert error(tilekit.exact(lambda z: vae.decode(z).sample)(z), vae.decode(z).sample) < ROUNDING


def test_every_class_of_diffusers_is_tested_or_refused() -> None:
    from diffusers.models import autoencoders

    known = {name for name in vars(autoencoders) if isinstance(getattr(autoencoders, name), type)}
    here = {entry.kind for entry in ZOO.values()} | set(QUIRKS)
    assert known - here == UNTESTED
