"""Opening a checkpoint under the official key names, and strict loading of a network tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ltx_models.checkpoints.files import Checkpoint, CheckpointError, described_by
from ltx_models.checkpoints.layouts import official_config, read_view
from ltx_models.checkpoints.state_dict import NAME, Source, named
from ltx_models.nn import DTYPES, Array, Backend, BackendName, DType
from ltx_models.nn import backend as get_backend
from ltx_models.nn.checks import check_device, check_dtype
from ltx_models.nn.statistics import STATISTICS
from tilekit.backends.limits import warn_of

__all__ = [
    "DTYPES",
    "BackendName",
    "DType",
    "check_keys",
    "keys_of_half",
    "load_component",
    "open_checkpoint",
    "prefixed",
    "section_of",
    "weights_wanted",
    "without_weights",
]

_WEIGHTS_WANTED = ContextVar("_WEIGHTS_WANTED", default=True)


@contextmanager
def without_weights() -> Iterator[None]:
    """
    Let loaders check a component and read no weights, so that a run can check all its files before it begins.

    Yields
    ------
    None
        Within the block ``load_…`` functions read configurations, build networks, and compare names and shapes of
        tensors; what they return has no weights.

    Examples
    --------
    >>> from ltx_models import default_checkpoint, load_video_decoder
    >>> with without_weights():
    ...     decoder = load_video_decoder(default_checkpoint(), backend="torch")
    >>> decoder.conv_in.conv.weight.device.type
    'meta'
    """
    token = _WEIGHTS_WANTED.set(False)
    try:
        yield
    finally:
        _WEIGHTS_WANTED.reset(token)


def weights_wanted() -> bool:
    """Say whether loaders shall read weights: not within `without_weights`."""
    return _WEIGHTS_WANTED.get()


@contextmanager
def open_checkpoint(path: Source, framework: str = "torch", beside: str | Path | None = None) -> Iterator[Checkpoint]:
    """
    Open a checkpoint; tensors are read when they are asked for.

    Parameters
    ----------
    path : path or mapping of str to array
        A safetensors file (whole checkpoint or one component), a folder of shards or of components, or a state dict,
        in any of the layouts of `ltx_models.checkpoints.layouts`; keys and shapes are the official ones.
    framework : {"torch", "mlx", "numpy"}
        The kind of arrays to read.
    beside : path, optional
        Another file or folder, whose tensors are seen too, where the first does not have them.

    Yields
    ------
    Checkpoint
        Valid within the ``with`` block.

    Raises
    ------
    CheckpointError
        If a file is missing, truncated or not safetensors, or if two shards hold the same key.
    """
    view = read_view(path)
    files = view.files if beside is None else {**read_view(beside).files, **view.files}
    yield Checkpoint(named(path), view.metadata, files, framework)


def load_component(
    path: Source,
    make: Callable[[Backend, Checkpoint], Any],
    names: Callable[[str], str | None],
    *,
    backend: BackendName,
    dtype: DType,
    device: Any = None,
    change: Callable[[Backend, Checkpoint, str, Array], Array] | None = None,
    beside: str | Path | None = None,
) -> Any:
    """
    Build one network and give it its weights, strictly; every ``load_…`` function takes these parameters.

    Parameters
    ----------
    path : path or mapping of str to array
        A safetensors file (a whole checkpoint or one component), a folder of shards, or a folder of components, in any
        layout of `ltx_models.checkpoints.layouts`. Or a state dict: arrays of PyTorch, MLX or NumPy by their names,
        for which ``config=`` must be given. Tensors of PyTorch and of NumPy that have the dtype and are on the device
        asked for are shared with a network of PyTorch, not copied (kernels of vocoders excepted, which are turned);
        MLX shares its own, except weights of convolutions, whose axes it keeps in another order.
    make : callable
        Makes the module from the backend and the open checkpoint.
    names : callable
        Maps a checkpoint key to the module's key, or to None where the key belongs to another component.
    backend : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of all floating-point weights, and so of the result.
    device : optional
        A torch device; MLX arrays belong to none.
    change : callable, optional
        Takes the framework, the checkpoint, the name of a parameter and its tensor as stored, and gives the tensor to
        use in its place.
    beside : path, optional
        Another file or folder with tensors of the network, for networks that are published in two.

    Returns
    -------
    module
        A native module (a `torch.nn.Module` or an `mlx.nn.Module`), ready for inference.

    Raises
    ------
    CheckpointError
        If a file is no whole safetensors file, or tensors are missing, unexpected or of another shape than the
        configuration says; the text lists them.
    ValueError
        If the configuration, backend, dtype or device is not known.
    """
    check_dtype(dtype)
    nn = get_backend(backend)
    check_device(nn, device)
    with open_checkpoint(path, backend, beside) as checkpoint:
        with described_by(checkpoint.path):
            module = nn.build(lambda: make(nn, checkpoint))
        keys = {name: key for key in checkpoint.keys if (name := names(key)) is not None}
        check_keys(checkpoint, keys, nn.shapes(module))
        if not weights_wanted():
            return module
        target = nn.dtype(dtype)
        weights = {}
        for name, key in keys.items():
            x = checkpoint.tensor(key)
            weights[name] = _cast(nn, x if change is None else change(nn, checkpoint, name, x), target, device)
        if weights:
            warn_of(next(iter(weights.values())))
        return nn.load(module, weights, device)


def _cast(nn: Backend, x: Array, dtype: Any, device: Any = None) -> Array:
    # evaluated one tensor at a time, so that the bytes that were read are freed before the next are read
    floating = nn.xp.isdtype(x.dtype, "real floating") and x.ndim > 0  # scales of quantised weights stay as they are
    x = nn.cast(x, dtype if floating else x.dtype, device)
    nn.synchronize(x)
    return x


def check_keys(checkpoint: Checkpoint, keys_of: Mapping[str, str], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse missing, unexpected and misshapen tensors, naming them."""
    faults = [
        ("missing", sorted(expected.keys() - keys_of.keys())),
        ("unexpected", sorted(keys_of[name] for name in keys_of.keys() - expected.keys())),
        (
            "of another shape",
            [
                f"{keys_of[name]} {checkpoint.shape(keys_of[name])} instead of {shape}"
                for name, shape in sorted(expected.items())
                if name in keys_of and checkpoint.shape(keys_of[name]) != shape
            ],
        ),
    ]
    lines = [f"{len(keys)} {what}: {_some(keys)}" for what, keys in faults if keys]
    if lines:
        msg = f"{checkpoint.path}: the tensors do not fit this network; " + "; ".join(lines)
        raise CheckpointError(msg)


def _some(keys: list[str], most: int = 5) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def prefixed(*prefixes: tuple[str, str]) -> Callable[[str], str | None]:
    """
    Make a key map out of prefixes.

    Parameters
    ----------
    *prefixes : pair of str
        (prefix in the checkpoint, prefix in the module); the first that fits is taken.

    Returns
    -------
    callable
        From a checkpoint key to a module key, or None.

    Examples
    --------
    >>> names = prefixed(("vae.decoder.", ""), ("vae.per_channel_statistics.", "per_channel_statistics."))
    >>> names("vae.decoder.conv_in.conv.bias"), names("vocoder.conv_pre.bias")
    ('conv_in.conv.bias', None)
    """

    def rename(key: str) -> str | None:
        return next((new + key[len(old) :] for old, new in prefixes if key.startswith(old)), None)

    return rename


def keys_of_half(section: str, half: str) -> Callable[[str], str | None]:
    """
    Make the key map of an encoder or decoder, which has the statistics of the latents beside it.

    Parameters
    ----------
    section : str
        The autoencoder: ``"vae"`` or ``"audio_vae"``; files with one component lack this prefix.
    half : str
        ``"encoder"`` or ``"decoder"``.

    Returns
    -------
    callable
        From a checkpoint key to a module key, or None.

    Examples
    --------
    >>> names = keys_of_half("vae", "decoder")
    >>> names("vae.decoder.conv_in.conv.bias"), names("per_channel_statistics.std-of-means"), names("encoder.x")
    ('conv_in.conv.bias', 'per_channel_statistics.std-of-means', None)
    """
    statistics = "per_channel_statistics."
    both = [f"{statistics}{name}" for name in STATISTICS]
    return prefixed(
        (f"{section}.{half}.", ""),
        (f"{half}.", ""),
        *((f"{section}.{key}", key) for key in both),
        *((key, key) for key in both),
    )


def section_of(checkpoint: Checkpoint, config: Mapping[str, Any] | None, section: str) -> Mapping[str, Any]:
    """
    Find a section of the configuration.

    Parameters
    ----------
    checkpoint : Checkpoint
        The open checkpoint, with its embedded configuration.
    config : mapping or None
        Takes the place of that: all of it, the section alone, or the configuration of a model of diffusers.
    section : str
        Its name.

    Returns
    -------
    mapping
        The section.
    """
    whole = checkpoint.config if config is None else official_config(config)
    if not whole and checkpoint.path == NAME:
        msg = f"{NAME}: it holds no configuration; pass config=, the section {section} or that of diffusers"
        raise CheckpointError(msg)
    inner = whole.get(section, whole)
    if inner is None:
        msg = f"{checkpoint.path}: its config has no {section}; the file is of other components, or pass config="
        raise CheckpointError(msg)
    if not isinstance(inner, Mapping):
        msg = f"{checkpoint.path}: config.{section} is a {type(inner).__name__}, expected an object"
        raise CheckpointError(msg)
    return inner
