"""The layers of a 2-D autoencoder as tasks. Modules are recognised by the names of their classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

from tilekit._errors import BackendError
from tilekit.norms import Add, Apply, Attention, Convolution, Norm, Shortcut, Store, Task

Module = Any  # of torch or MLX

ATTENTIONS = {"Attention", "PixelAttention"}  # of diffusers, and of ltx_models.autoencoder_kl
ACTIVATIONS = {"ELU", "GELU", "Identity", "LeakyReLU", "Mish", "ReLU", "SiLU", "Sigmoid", "Tanh"}


def kinds(module: Module) -> set[str]:
    """Name the classes that a module is an instance of."""
    return {kind.__name__ for kind in type(module).__mro__}


def refuse(module: Module, path: str, why: str) -> NoReturn:
    """Raise for a module that is not supported."""
    msg = f"{path}: {type(module).__module__}.{type(module).__qualname__} is not supported: {why}"
    raise BackendError(msg)


def expect(module: Module, path: str, name: str) -> None:
    """Refuse a module that is of another class."""
    if name not in kinds(module):
        refuse(module, path, f"expected a {name}")


def convolution(module: Module, path: str) -> Apply:
    """Make a task of a 2-D convolution."""
    kernel, stride, before, after = window_of(module, path)
    reach = tuple(Convolution(*cells) for cells in zip(kernel, stride, before, after, strict=True))
    return Apply(path, module, reach, out_channels(module))


def window_of(module: Module, path: str) -> tuple[tuple[int, ...], ...]:
    """Read kernel (with dilation), stride and padding before and after, each (height, width), of a 2-D convolution."""
    expect(module, path, "Conv2d")
    mode = getattr(module, "padding_mode", "zeros")
    if mode not in {"zeros", "reflect", "replicate"}:
        refuse(module, path, f"its padding mode {mode!r} takes cells from the far side of the image")
    sizes = getattr(module, "kernel_size", None) or tuple(module.weight.shape[1:3])  # MLX keeps it in the shape only
    if isinstance(module.padding, str):
        refuse(module, path, f"its padding is {module.padding!r}, expected a number of cells")
    dilation, stride, padding = (_pair(v) for v in (module.dilation, module.stride, module.padding))
    kernel = tuple((k - 1) * d + 1 for k, d in zip(_pair(sizes), dilation, strict=True))
    return kernel, stride, padding, padding


def out_channels(module: Module) -> int:
    """Read the number of output channels of a convolution."""
    return int(getattr(module, "out_channels", None) or module.weight.shape[0])


def norm(module: Module, path: str) -> Norm:
    """Make a task of a group normalisation."""
    expect(module, path, "GroupNorm")
    if not getattr(module, "pytorch_compatible", True):
        refuse(module, path, "its groups are not of neighbouring channels (pytorch_compatible is False)")
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    return Norm(path, int(module.num_groups), weight, bias, float(module.eps))


def activation(fn: Any, path: str) -> Apply:
    """Make a task of an activation behind a norm; it maps cell to cell, and may overwrite what the norm gave."""
    if not (inspect.isroutine(fn) or kinds(fn) & ACTIVATIONS):
        refuse(fn, path, f"expected one of the activations {', '.join(sorted(ACTIVATIONS))}")
    if "SiLU" in kinds(fn) and type(fn).__module__.startswith("torch."):
        from torch.nn import functional

        fn = partial(functional.silu, inplace=True)
    return Apply(path, fn)


def attention(module: Module, path: str) -> Attention:
    """Make a task of self-attention over all cells."""
    if not kinds(module) & ATTENTIONS:
        refuse(module, path, "expected an Attention")
    if getattr(module, "spatial_norm", None) is not None:
        refuse(module, path, "it is conditioned by a spatial norm")
    return Attention(path, module)


def resnet(block: Module, path: str) -> Iterator[Task]:
    """Make the tasks of a residual block."""
    expect(block, path, "ResnetBlock2D")
    for name in ("time_emb_proj", "upsample", "downsample"):
        if getattr(block, name, None) is not None:
            refuse(block, path, f"it has {name}")
    dropout = getattr(block, "dropout", None)
    if dropout is not None and getattr(block, "training", False) and dropout.p > 0:
        refuse(block, path, "it is in training mode and drops cells at random; call eval() first")
    yield Store(path)
    yield norm(block.norm1, f"{path}.norm1")
    yield activation(block.nonlinearity, f"{path}.nonlinearity")
    yield convolution(block.conv1, f"{path}.conv1")
    shortcut = getattr(block, "conv_shortcut", None)
    if shortcut is not None:
        kernel, stride, before, _ = window_of(shortcut, f"{path}.conv_shortcut")
        if (*kernel, *stride, *before) != (1, 1, 1, 1, 0, 0):
            refuse(shortcut, f"{path}.conv_shortcut", "expected a kernel of 1 cell, stride 1 and no padding")
        yield Shortcut(f"{path}.conv_shortcut", shortcut, out_channels(shortcut))
    yield norm(block.norm2, f"{path}.norm2")
    yield activation(block.nonlinearity, f"{path}.nonlinearity")
    yield convolution(block.conv2, f"{path}.conv2")
    yield Add(path, float(getattr(block, "output_scale_factor", 1.0)))


def upsampler(module: Module, path: str) -> Apply:
    """Make a task of nearest upsampling by two, with the convolution behind it."""
    expect(module, path, "Upsample2D")
    if getattr(module, "norm", None) is not None or not getattr(module, "interpolate", True):
        refuse(module, path, "expected nearest upsampling without a norm")
    if getattr(module, "use_conv_transpose", False):
        refuse(module, path, "expected nearest upsampling, not a transposed convolution")
    conv = getattr(module, "conv", None)
    conv = getattr(module, "Conv2d_0", None) if conv is None else conv
    if conv is None:
        return Apply(path, module, Convolution(upsample=2))
    cells = zip(*window_of(conv, f"{path}.conv"), strict=True)
    return Apply(path, module, tuple(Convolution(k, s, b, a, 2) for k, s, b, a in cells), out_channels(conv))


def downsampler(module: Module, path: str) -> Apply:
    """Make a task of a strided convolution (padded at the end only where its padding is 0) or of mean pooling."""
    expect(module, path, "Downsample2D")
    if getattr(module, "norm", None) is not None:
        refuse(module, path, "it has a norm")
    if "AvgPool2d" in kinds(module.conv):
        return Apply(path, module, Convolution(kernel=2, stride=2))
    kernel, stride, before, after = window_of(module.conv, f"{path}.conv")
    if module.padding == 0:
        after = tuple(cells + 1 for cells in after)
    cells = zip(kernel, stride, before, after, strict=True)
    return Apply(path, module, tuple(Convolution(*c) for c in cells), out_channels(module.conv))


def stage(block: Module, path: str, kind: str) -> Iterator[Task]:
    """Make the tasks of an up- or down-block, with attention or without."""
    if not kinds(block) & {kind, f"Attn{kind}"}:
        refuse(block, path, f"expected a {kind}")
    attentions: Sequence[Module] = getattr(block, "attentions", None) or [None] * len(block.resnets)
    for i, (unit, attend) in enumerate(zip(block.resnets, attentions, strict=True)):
        yield from resnet(unit, f"{path}.resnets.{i}")
        if attend is not None:
            yield attention(attend, f"{path}.attentions.{i}")
    for i, module in enumerate(getattr(block, "upsamplers", None) or []):
        yield upsampler(module, f"{path}.upsamplers.{i}")
    for i, module in enumerate(getattr(block, "downsamplers", None) or []):
        yield downsampler(module, f"{path}.downsamplers.{i}")


def middle(block: Module, path: str) -> Iterator[Task]:
    """Make the tasks of the block in the middle."""
    expect(block, path, "UNetMidBlock2D")
    yield from resnet(block.resnets[0], f"{path}.resnets.0")
    attentions = list(getattr(block, "attentions", None) or [])
    attentions += [None] * (len(block.resnets) - 1 - len(attentions))
    for i, (attend, unit) in enumerate(zip(attentions, block.resnets[1:], strict=True)):
        if attend is not None:
            yield attention(attend, f"{path}.attentions.{i}")
        yield from resnet(unit, f"{path}.resnets.{i + 1}")


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
