"""Where the channels of a convolution's weight stand: found from shapes, never assumed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Order = Literal["first", "last"]
# The sizes that kernels of these networks have, for each number of axes; all axes of a kernel have the same.
KERNELS = {5: (1, 3), 4: (1, 3)}


def is_convolution(component: str, name: str, shape: tuple[int, ...]) -> bool:
    """
    Say whether a tensor is the weight of a convolution, which MLX stores with channels last.

    Parameters
    ----------
    component : str
        A component's name; transformers and connectors have no convolutions.
    name : str
        The tensor's official name.
    shape : tuple of int
        Its shape, in either order.

    Returns
    -------
    bool
        Whether it is.
    """
    axes = {"video_vae": (5, 4), "audio_vae": (4,), "vocoder": (3,), "upsampler": (5, 4)}.get(component, ())
    return name.endswith(".weight") and len(shape) in axes


def is_transposed_convolution(component: str, name: str) -> bool:
    """Say whether a convolution's official weight has its input channels first."""
    return component == "vocoder" and (name.startswith("ups.") or ".ups." in name)


def evidence(component: str, name: str, shape: tuple[int, ...]) -> Order | None:
    """
    Say what one weight's shape tells about its order, if anything.

    Parameters
    ----------
    component, name, shape
        As in `is_convolution`.

    Returns
    -------
    {"first", "last", None}
        Where the channels stand that are not the first axis; None where it could be either.

    Examples
    --------
    >>> evidence("video_vae", "decoder.conv_in.conv.weight", (64, 128, 3, 3, 3))
    'first'
    >>> evidence("video_vae", "decoder.conv_in.conv.weight", (64, 3, 3, 3, 128))
    'last'
    >>> evidence("video_vae", "encoder.conv_in.conv.weight", (64, 3, 3, 3, 3)) is None
    True
    """
    if not is_convolution(component, name, shape):
        return None
    if len(shape) == 3:
        # Only the residual branches tell: they have as many channels out as in.
        if "resblocks." not in name:
            return None
        first, last = shape[1] == shape[0], shape[2] == shape[0]
    else:
        sizes = KERNELS[len(shape)]
        first = len(set(shape[2:])) == 1 and shape[2] in sizes
        last = len(set(shape[1:-1])) == 1 and shape[1] in sizes
    return None if first == last else "first" if first else "last"


def order_of(component: str, tensors: Iterable[tuple[str, tuple[int, ...]]], marker: Order | None, where: str) -> Order:
    """
    Find the order of a component's weights.

    Parameters
    ----------
    component : str
        A component's name.
    tensors : iterable of (str, tuple of int)
        Official names and stored shapes.
    marker : {"first", "last", None}
        What the file's metadata say; it decides only where no shape does.
    where : str
        The file, for the text of errors.

    Returns
    -------
    {"first", "last"}
        The order.

    Raises
    ------
    ValueError
        If the weights contradict one another, or neither shapes nor metadata tell.
    """
    convolutions = [(name, shape) for name, shape in tensors if is_convolution(component, name, shape)]
    if not convolutions:
        return "first"
    examples: dict[Order, str] = {}
    for name, shape in convolutions:
        order = evidence(component, name, shape)
        if order is not None:
            examples.setdefault(order, f"{name} {shape}")
    if len(examples) == 2:
        msg = (
            f"{where}: some convolutions of {component} have their channels first ({examples['first']}), others last "
            f"({examples['last']}); the file was converted twice or in part, convert the original again"
        )
        raise ValueError(msg)
    if examples:
        return next(iter(examples))
    if marker is None:
        msg = (
            f"{where}: the shapes of {component}, such as {convolutions[0][0]} {convolutions[0][1]}, do not tell "
            "whether channels stand first or last, and the metadata have no 'format' of 'pt' or 'mlx'"
        )
        raise ValueError(msg)
    return marker


def to_official(component: str, name: str, order: Order, n_axes: int) -> tuple[int, ...]:
    """
    Give the permutation that brings a stored weight to the official order.

    Parameters
    ----------
    component, name : str
        Of the weight.
    order : {"first", "last"}
        How it is stored.
    n_axes : int
        Its number of axes.

    Returns
    -------
    tuple of int
        Axes as `numpy.transpose` takes them; empty where it stays.

    Examples
    --------
    >>> to_official("vocoder", "ups.0.weight", "last", 3), to_official("video_vae", "conv_in.conv.weight", "last", 5)
    ((2, 0, 1), (0, 4, 1, 2, 3))
    """
    if order == "first":
        return ()
    if is_transposed_convolution(component, name):
        return (n_axes - 1, 0, *range(1, n_axes - 1))
    return (0, n_axes - 1, *range(1, n_axes - 1))


def from_official(component: str, name: str, n_axes: int) -> tuple[int, ...]:
    """
    Give the permutation that puts the channels of an official weight last; the reverse of `to_official`.

    Parameters
    ----------
    component, name : str
        Of the weight.
    n_axes : int
        Its number of axes.

    Returns
    -------
    tuple of int
        Axes as `numpy.transpose` takes them.
    """
    back = to_official(component, name, "last", n_axes)
    return tuple(back.index(i) for i in range(n_axes))
