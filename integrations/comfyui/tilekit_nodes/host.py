"""All that the nodes ask of the host, whose modules are imported when a node runs."""

from collections.abc import Callable
from typing import Any

SHARE = 0.9
"""Of the free memory, where the user leaves the budget to the host; the rest is for what is not counted."""


def load(vae: Any, memory_bytes: int) -> None:
    """Put a VAE on its device, whole, through the host's manager, which frees what else is there if it must."""
    import comfy.model_management as management

    vae.throw_exception_if_invalid()
    management.load_models_gpu([vae.patcher], memory_required=memory_bytes, force_full_load=True)


def budget(vae: Any, memory_gb: float) -> int:
    """Give the bytes that a decode may take: what the user says, or what the host says is free."""
    import comfy.model_management as management

    if memory_gb > 0:
        return int(memory_gb * 2**30)
    return max(1, int(SHARE * management.get_free_memory(vae.device)))


def progress() -> Callable[[int, int], None]:
    """Give a callback that moves the host's bar, and ends the run where the user interrupted it."""
    import comfy.model_management as management
    import comfy.utils

    bar = comfy.utils.ProgressBar(1)

    def told(done: int, total: int) -> None:
        management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return told


def output_path(prefix: str, suffix: str, width: int, height: int) -> tuple[str, str, str]:
    """Give (path, name, folder below the output folder) of the next free file, as the host counts them."""
    import os

    import folder_paths

    folder, name, counter, below, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), width, height
    )
    file = f"{name}_{counter:05}_{suffix}"
    return os.path.join(folder, file), file, below


def video_of(path: str) -> Any:
    """Give a file as the host's VIDEO; its path where the host has no such type."""
    try:
        from comfy_api.latest import InputImpl
    except ImportError:
        return path
    return InputImpl.VideoFromFile(path)
