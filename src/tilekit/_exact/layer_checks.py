"""What the layers of a network said by hand must be: refused where they are said, with what would fit."""

from collections.abc import Sequence

from tilekit._errors import BackendError, TileShapeError
from tilekit._exact.boxes import Shape
from tilekit.backends import Array, backend_of

__all__ = [
    "axes_of",
    "broadcast",
    "check_convolution",
    "check_counts",
    "check_groups",
    "check_padding",
    "checked_joint",
]

_MODES = ("constant", "replicate", "reflect", "circular")


def axes_of(layer: str, shape: Shape, axes: Sequence[int]) -> tuple[int, ...]:
    """Give axes counted from the first."""
    if any(not -len(shape) <= axis < len(shape) for axis in axes):
        msg = f"{layer}: axes {tuple(axes)} for shape {shape}, expected {-len(shape)} to {len(shape) - 1}"
        raise TileShapeError(msg)
    return tuple(axis % len(shape) for axis in axes)


def check_counts(layer: str, **counts: int) -> None:
    """Refuse what is no whole number from 1 on."""
    for name, count in counts.items():
        if isinstance(count, bool) or not hasattr(count, "__index__") or count < 1:
            msg = f"{layer}: {name} {count!r}, expected a whole number from 1 on"
            raise TileShapeError(msg)


def broadcast(layer: str, shapes: Sequence[Shape]) -> Shape:
    """Give the shape that arrays have together, as NumPy broadcasts them."""
    rank = max(map(len, shapes), default=0)
    rows = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    sizes = [{n for n in column if n != 1} for column in zip(*rows, strict=True)]
    if not shapes or any(len(size) > 1 for size in sizes):
        msg = f"{layer}: shapes {list(shapes)} cannot be broadcast together"
        raise TileShapeError(msg)
    return tuple(max(size, default=1) for size in sizes)


def check_convolution(  # noqa: PLR0913
    layer: str, shape: Shape, weight: Array, bias: Array | None, *, groups: int, padding: int, **counts: int
) -> None:
    """Refuse weights that do not fit the input, the groups or each other; `counts` are the stride and the dilation."""
    check_counts(layer, **counts, groups=groups)
    if padding < 0:
        msg = f"{layer}: padding {padding}, expected 0 or more; take cells off before, with a call"
        raise TileShapeError(msg)
    if backend_of(weight).name == "mlx":
        msg = f"{layer}: MLX lays weights out in another way; give `exact` the MLX function itself, or use `apply`"
        raise BackendError(msg)
    out, share, *kernel = (int(n) for n in weight.shape)
    if shape[1] != share * groups or len(kernel) != len(shape) - 2:
        msg = (
            f"{layer}: a weight of shape {tuple(weight.shape)} in {groups} groups does not fit an array of shape "
            f"{shape}; expected (channels out, {shape[1]} / groups, {len(shape) - 2} sizes of the kernel)"
        )
        raise TileShapeError(msg)
    if out % groups or (bias is not None and tuple(bias.shape) != (out,)):
        given = "no bias" if bias is None else f"a bias of shape {tuple(bias.shape)}"
        msg = f"{layer}: {out} channels out in {groups} groups with {given}; expected groups that divide, ({out},)"
        raise TileShapeError(msg)


def check_groups(layer: str, channels: int, groups: int, *weights: Array | None) -> None:
    """Refuse groups that do not divide the channels, and weights that are not one for each channel."""
    check_counts(layer, groups=groups)
    given = [tuple(array.shape) for array in weights if array is not None]
    if channels % groups or any(shape != (channels,) for shape in given):
        msg = (
            f"{layer}: {channels} channels in {groups} groups with weights of {given}; expected "
            f"groups that divide {channels}, and weights of shape ({channels},)"
        )
        raise TileShapeError(msg)


def check_padding(layer: str, shape: Shape, widths: Sequence[tuple[int, int]], mode: str) -> None:
    """Refuse widths that are no counts for each axis, or more than the mode can give."""
    if mode not in _MODES:
        msg = f"{layer}: mode {mode!r}, expected one of {', '.join(_MODES)}"
        raise TileShapeError(msg)
    if len(widths) != len(shape) or any(n < 0 for pair in widths for n in pair):
        msg = f"{layer}: widths {list(widths)} for shape {shape}, expected two counts, 0 or more, for each axis"
        raise TileShapeError(msg)
    most = {"reflect": 1, "circular": 0}.get(mode)
    if most is not None and any(max(pair) > n - most for pair, n in zip(widths, shape, strict=True)):
        msg = f"{layer}: widths {list(widths)} are more than {mode} can give of shape {shape}"
        raise TileShapeError(msg)


def checked_joint(layer: str, shapes: Sequence[Shape], axis: int) -> int:
    """Give the axis along which arrays are put together, counted from the first; refuse those that differ elsewhere."""
    if not shapes:
        msg = f"{layer}: no values"
        raise TileShapeError(msg)
    (axis,) = axes_of(layer, shapes[0], (axis,))
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(others) > 1 or len({len(shape) for shape in shapes}) > 1:
        msg = f"{layer}: shapes {list(shapes)} differ in more than axis {axis}"
        raise TileShapeError(msg)
    return axis
