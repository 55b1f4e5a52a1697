"""Checks of arrays that go into a network: kind, shape, dtype, and the number of frames."""

from __future__ import annotations

from typing import Any

from ltx_models.nn._types import DTYPES, Array, Backend


def check_dtype(dtype: str) -> None:
    """Refuse what is no dtype of weights."""
    if dtype not in DTYPES:
        msg = f"dtype: got {dtype!r}, allowed are {', '.join(map(repr, DTYPES))}"
        raise ValueError(msg)


def check_array(nn: Backend, name: str, x: Array, channels: int) -> None:
    """Refuse what is no (B, channels, F, H, W) array of real numbers of this backend."""
    if not nn.is_array(x):
        msg = f"{name}: got a {type(x).__module__}.{type(x).__name__}, this network takes arrays of {nn.name}"
        raise ValueError(msg)
    if x.ndim != 5 or x.shape[1] != channels or 0 in x.shape:
        msg = f"{name}: got shape {tuple(x.shape)}, expected (batch, {channels}, frames, height, width), none of them 0"
        raise ValueError(msg)
    if not nn.xp.isdtype(x.dtype, "real floating"):
        msg = f"{name}: got dtype {x.dtype}, expected a floating-point one"
        raise ValueError(msg)


def check_frames(frames: int, time: int) -> None:
    """Refuse a number of frames that is not 1 + 8 k."""
    if (frames - 1) % time:
        low = 1 + (frames - 1) // time * time
        msg = f"video: got {frames} frames, expected 1 + {time} k; cut to {low} or extend to {low + time} frames"
        raise ValueError(msg)


def check_sound(nn: Backend, name: str, x: Array, channels: int, bins: int | None) -> None:
    """
    Refuse what is no (B, channels, T, bins) array of finite real numbers of this backend.

    Raises
    ------
    ValueError
        The text says what was expected.
    """
    if not nn.is_array(x):
        msg = f"{name}: got a {type(x).__module__}.{type(x).__name__}, this network takes arrays of {nn.name}"
        raise ValueError(msg)
    shape = tuple(x.shape)
    if x.ndim != 4 or 0 in shape or shape[1] != channels or bins not in {None, shape[3]}:
        msg = (
            f"{name}: got shape {tuple(x.shape)}, expected (batch, {channels}, time, {bins or 'bins'}), none of them 0"
        )
        raise ValueError(msg)
    if not nn.xp.isdtype(x.dtype, "real floating"):
        msg = f"{name}: got dtype {x.dtype}, expected a floating-point one"
        raise ValueError(msg)
    if not nn.all_finite(x):
        msg = f"{name}: holds NaN or infinite values; sound made of it would be noise"
        raise ValueError(msg)


def check_device(nn: Backend, device: Any) -> None:
    """Refuse devices that are not there: any with MLX, and those that this machine or this build of torch has not."""
    if device is None:
        return
    if nn.name == "mlx":
        msg = (
            f"device: MLX arrays belong to no device, got {device!r}; leave it out, or call mlx.core.set_default_device"
        )
        raise ValueError(msg)
    import torch

    try:
        torch.empty(0, device=device)
    # an unknown name, a build without CUDA, a device without memory of its own
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        names = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        names += ["mps"] if torch.backends.mps.is_available() else []
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        msg = f"device: got {str(device)!r}, torch has {', '.join(names)} here ({reason[:120]})"
        raise ValueError(msg) from error
