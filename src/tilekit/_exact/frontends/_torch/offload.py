"""
Weights that are not where a module has them, and how to read them.

accelerate keeps weights elsewhere and brings them before each module runs; diffusers does so by groups, or keeps
weights in 8 bits. A trace passes by these hooks, and weights are read from where the hooks would take them.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from tilekit._exact.frontends._torch.captured import Path, resolve

__all__ = ["brought", "bypasses", "compute_dtype", "hooked", "moved"]

_ACCELERATE = {"AlignDevicesHook", "CpuOffload", "ModelHook"}
_DIFFUSERS = {"GroupOffloadingHook", "LazyPrefetchGroupOffloadingHook", "LayerExecutionTrackerHook"}
_CASTING = "LayerwiseCastingHook"
_HOOKS = {"_hf_hook", "_diffusers_hook"}
"""Attributes of a module under which these libraries keep what they do around its call."""


class _Pass:
    """A hook that does nothing."""

    no_grad = False

    @staticmethod
    def pre_forward(module: Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Change nothing."""
        return args, kwargs

    @staticmethod
    def post_forward(module: Module, output: Any) -> Any:
        """Change nothing."""
        return output


def _name(hook: Any) -> str:
    kind = type(hook)
    return kind.__name__ if kind.__module__.partition(".")[0] in {"accelerate", "diffusers"} else ""


def _accelerate(module: Module) -> list[Any]:
    hook = vars(module).get("_hf_hook")
    if hook is None:
        return []
    return list(hook.hooks) if _name(hook) == "SequentialHook" else [hook]


def _diffusers(module: Module) -> list[Any]:
    registry = vars(module).get("_diffusers_hook")
    return list(getattr(registry, "hooks", {}).values())


def bypasses(module: Module) -> Iterator[tuple[Any, str, Any]]:
    """Give (holder, attribute, value) to put while tracing, so that hooks which bring weights do nothing."""
    hooks = _accelerate(module)
    if hooks and all(_name(hook) in _ACCELERATE for hook in hooks):
        yield module, "_hf_hook", _Pass
    for hook in _diffusers(module):
        if _name(hook) in {*_DIFFUSERS, _CASTING}:
            yield hook.fn_ref, "pre_forward", _Pass.pre_forward
            yield hook.fn_ref, "post_forward", _Pass.post_forward


def compute_dtype(module: Any) -> torch.dtype | None:
    """Give the dtype in which a module computes, where it is kept in another."""
    if not isinstance(module, Module):
        return None
    return next((hook.compute_dtype for hook in _diffusers(module) if _name(hook) == _CASTING), None)


def _lineage(function: Any, path: Path) -> Iterator[tuple[Module, str]]:
    """Give the module that holds a tensor, and those around it, each with the tensor's name in it."""
    holders = [function]
    for step in path[:-1]:
        holders.append(resolve(holders[-1], (step,)))
    for i in range(len(holders) - 1, -1, -1):
        if isinstance(holders[i], Module):
            yield holders[i], ".".join(str(key) for _, key in path[i:])


def moved(function: Any, path: Path) -> bool:
    """Whether a hook brings this weight to where it is needed."""
    for module, _ in _lineage(function, path):
        if any(_name(hook) in _ACCELERATE for hook in _accelerate(module)):
            return True
        if any(_name(hook) in _DIFFUSERS for hook in _diffusers(module)):
            return True
    return False


def hooked(function: Any, path: Path) -> bool:
    """Whether one of the modules around a tensor has such hooks."""
    return any(not _HOOKS.isdisjoint(vars(module)) for module, _ in _lineage(function, path))


def brought(function: Any, path: Path, tensor: Tensor) -> Tensor:
    """Give what the hooks around a tensor would put in its place."""
    holder = resolve(function, path[:-1])
    if not isinstance(holder, Module):
        return tensor
    for module, name in _lineage(function, path):
        for hook in _accelerate(module):
            kept = getattr(hook, "weights_map", None)
            if tensor.device.type == "meta" and kept is not None and name in kept:
                return kept[name]  # type: ignore[no-any-return]  # a mapping of accelerate's
        for hook in _diffusers(module):
            tensor = _from_disk(hook, tensor)
    dtype = compute_dtype(holder)
    return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)


def _from_disk(hook: Any, tensor: Tensor) -> Tensor:
    group = getattr(hook, "group", None)
    if group is None or not getattr(group, "_is_offloaded_to_disk", False):
        return tensor
    key = next((key for known, key in group.tensor_to_key.items() if known is tensor), None)
    if key is None:
        return tensor
    from safetensors import safe_open

    with safe_open(group.safetensors_file_path, framework="pt") as file:
        return file.get_tensor(key)  # type: ignore[no-any-return]  # safetensors has no types
