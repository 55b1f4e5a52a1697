"""Weights that accelerate and diffusers keep elsewhere, or in 8 bits, are read from there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tilekit import exact

torch = pytest.importorskip("torch")
accelerate = pytest.importorskip("accelerate")
diffusers = pytest.importorskip("diffusers")

CPU = torch.device("cpu")
LATENTS = torch.randn(1, 4, 12, 16, generator=torch.Generator().manual_seed(1))


def network() -> Any:
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    ).eval()


def groups(vae: Any, kind: str, folder: Path | None = None) -> None:
    disk = None if folder is None else str(folder)
    vae.enable_group_offload(
        onload_device=CPU, offload_device=CPU, offload_type=kind, num_blocks_per_group=1, offload_to_disk_path=disk
    )


def cast_weights(vae: Any, folder: Path) -> None:
    vae.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def compiled(vae: Any, folder: Path) -> None:
    vae.decoder = torch.compile(vae.decoder, backend="eager")


HOOKS: dict[str, Callable[[Any, Path], object]] = {
    "sequential offload": lambda vae, folder: accelerate.cpu_offload(vae, execution_device=CPU),
    "disk offload": lambda vae, folder: accelerate.disk_offload(vae, str(folder), execution_device=CPU),
    "model offload": lambda vae, folder: accelerate.cpu_offload_with_hook(vae, execution_device=CPU),
    "groups of leaves": lambda vae, folder: groups(vae, "leaf_level"),
    "groups of blocks": lambda vae, folder: groups(vae, "block_level"),
    "groups of leaves on disk": lambda vae, folder: groups(vae, "leaf_level", folder),
    "groups of blocks on disk": lambda vae, folder: groups(vae, "block_level", folder),
    "8 bits": cast_weights,
    "compiled decoder": compiled,
}


@pytest.mark.filterwarnings("ignore")  # those libraries' own
@pytest.mark.parametrize("name", HOOKS)
def test_weights_are_read_through_hooks(name: str, tmp_path: Path) -> None:
    vae = network()
    HOOKS[name](vae, tmp_path)
    decode = exact(lambda z: vae.decode(z).sample)
    with torch.no_grad():
        want = vae.decode(LATENTS).sample
        for _ in range(2):
            torch.testing.assert_close(decode(LATENTS), want, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(vae.decode(LATENTS).sample, want)


def test_hooks_put_on_later_are_seen() -> None:
    vae = network()
    decode = exact(lambda z: vae.decode(z).sample)
    with torch.no_grad():
        want = vae.decode(LATENTS).sample
        decode(LATENTS)
        accelerate.cpu_offload(vae, execution_device=CPU)
        torch.testing.assert_close(decode(LATENTS), want, rtol=1e-5, atol=1e-5)
        accelerate.hooks.remove_hook_from_module(vae, recurse=True)
        torch.testing.assert_close(decode(LATENTS), want, rtol=1e-5, atol=1e-5)
