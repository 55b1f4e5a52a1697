"""The types that every layer uses: an array, a backend, its name, and the names of dtypes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

Array = Any  # torch.Tensor or mlx.core.array: they share no base class, and each operator below keeps its kind

BackendName = Literal["torch", "mlx"]
DType = Literal["bfloat16", "float16", "float32"]
DTYPES: tuple[DType, ...] = get_args(DType)


class Backend(Protocol):
    """
    What a framework gives to the layers: leaves of its own, and the few operations that the array API standard lacks.

    Arrays are channels-last. Leaves keep the framework's own parameter names; the weights that a leaf shows through
    `weights` and takes through `load` have the official (PyTorch) layout on every backend.
    """

    name: BackendName
    xp: Any  # the array API namespace
    float32: Any
    Module: Any
    ModuleList: Callable[[Sequence[Any]], Any]
    Identity: Callable[[], Any]
    Linear: Callable[..., Any]  # (in, out, bias=True)
    Embedding: Callable[..., Any]
    # (in, out, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True); the first two and the transposed one
    # take another padding with a call: ``conv(x, padding=0)``
    Conv1d: Callable[..., Any]
    Conv2d: Callable[..., Any]
    Conv3d: Callable[..., Any]
    ConvTranspose1d: Callable[..., Any]  # (in, out, kernel_size, stride=1, padding=0, bias=True)
    GroupNorm: Callable[..., Any]  # (groups, channels, eps=1e-5)
    RMSNorm: Callable[..., Any]  # (dims, eps=1e-6), with weight

    def parameter(self, shape: Sequence[int], fill: float = 0.0) -> Array:
        """Make a parameter, to be set as an attribute of a module."""

    def buffer(self, module: Any, name: str, value: Array) -> None:
        """Set an array that is saved and loaded with the module and never trained; `name` may hold hyphens."""

    def dtype(self, name: str) -> Any:
        """Give the framework's dtype of that name."""

    def is_array(self, x: object) -> bool:
        """Say whether `x` is an array of this framework."""

    def asarray(self, x: Any, like: Array | None = None) -> Array:
        """Make an array of a NumPy array, with the dtype and device of `like` where given."""

    def on_device(self, x: Array, like: Array) -> Array:
        """Move `x` to where `like` is, where arrays belong to a device."""

    def cast(self, x: Array, dtype: Any, device: Any = None) -> Array:
        """Convert to a dtype and move to a device; no copy where it has both already."""

    def from_buffer(self, data: Any, dtype: str, shape: Sequence[int]) -> Array:
        """Make an array of raw bytes, a NumPy uint8 vector; `dtype` as safetensors names it (``"BF16"``)."""

    def to_buffer(self, x: Array) -> Any:
        """Give the raw bytes of an array, a NumPy uint8 vector; the reverse of `from_buffer`."""

    def to_numpy(self, x: Array, wait: bool = True) -> Any:
        """Give a NumPy array; None where the device would have to be waited for and `wait` is false."""

    def expanded(self, x: Array, axis: int) -> bool:
        """Say whether `x` is known to be the same along an axis, without looking at its values."""

    def randn(self, shape: Sequence[int], like: Array) -> Array:
        """Draw from the standard normal distribution by the framework's global generator."""

    def silu(self, x: Array) -> Array:
        """Compute x * sigmoid(x)."""

    def silu_(self, x: Array) -> Array:
        """Compute `silu` in place: `x` may be overwritten and must not be used again."""

    def gelu_tanh(self, x: Array) -> Array:
        """Compute the tanh approximation of GELU."""

    def sigmoid(self, x: Array) -> Array:
        """Compute the logistic function."""

    def leaky_relu(self, x: Array, slope: float) -> Array:
        """Compute max(x, slope * x)."""

    def leaky_relu_(self, x: Array, slope: float) -> Array:
        """Compute `leaky_relu` in place: `x` may be overwritten and must not be used again."""

    def snake_(self, x: Array, rate: Array, height: Array) -> Array:
        """Compute x + height * sin(rate * x)**2 in place: `x` may be overwritten and must not be used again."""

    def copy(self, x: Array) -> Array:
        """Copy, so that what `x` is a view of can be freed."""

    def unfold(self, x: Array, size: int, step: int) -> Array:
        """Give the windows of `size` cells along axis 1, `step` cells apart: (B, T, C) to (B, n, size, C)."""

    def all_finite(self, x: Array) -> bool:
        """Say whether no value is NaN or infinite; true while a call is traced, when there are no values."""

    def followed(self, x: Array) -> bool:
        """Say whether something follows the call with arrays that have no values, so that nothing may look at them."""

    def multiply_add(self, x: Array, y: Array, z: Array) -> Array:
        """Compute x * y + z in one pass over memory."""

    def rms_norm(self, x: Array, weight: Array | None, eps: float) -> Array:
        """Divide by the root mean square over the last axis, accumulated in float32."""

    def rms_norm_(self, x: Array, eps: float) -> Array:
        """Compute `rms_norm` in place: `x` may be overwritten and must not be used again."""

    def layer_norm(self, x: Array, eps: float) -> Array:
        """Normalise to mean 0 and variance 1 over the last axis, accumulated in float32."""

    def matmul(self, x: Array, y: Array) -> Array:
        """Multiply matrices over the last two axes."""

    def attention(self, q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
        """Attend: (B, heads, T, d) each, scale 1/sqrt(d), `mask` additive and broadcastable."""

    def pad(self, x: Array, widths: Sequence[tuple[int, int]], mode: str = "zeros") -> Array:
        """Pad the axes by (before, after) cells: ``"zeros"``, ``"reflect"`` or ``"replicate"``."""

    def repeat_ends_(self, x: Array, start: int, stop: int) -> Array:
        """Write cell `start` of axis 1 of (B, T, C) over those before, cell `stop - 1` over those after; as `silu_`."""

    def concat(self, parts: Sequence[Array], reflect: bool = False, workspace: dict[str, Array] | None = None) -> Array:
        """
        Put parts of a clip after one another along axis 1; `reflect` adds a mirrored cell around (B, T, H, W, C).

        With a `workspace` the result is memory that the next call with it overwrites.
        """

    def add_(self, x: Array, parts: Sequence[Array]) -> Array:
        """Add parts that follow one another along axis 1 to `x`, which may be overwritten: do not use it again."""

    def to_fp8(self, x: Array) -> Array:
        """Round to 8-bit floats (e4m3), keeping within their range."""

    def from_fp8(self, x: Array, dtype: Any) -> Array:
        """Convert 8-bit floats, or bytes that hold them, to a wider dtype."""

    def convert_rows(self, x: Array, rows: int, convert: Callable[[Array], Array]) -> Array:
        """Apply `convert` to so many rows at a time, which keeps their shape, and put the results together."""

    def is_fp8(self, x: Array) -> bool:
        """Say whether `x` holds 8-bit floats, or bytes that may be such."""

    def as_fp8(self, x: Array) -> Array:
        """See bytes as 8-bit floats, where the framework has such a dtype."""

    def assign(self, module: Any, name: str, value: Array) -> None:
        """Replace a parameter or buffer of a module itself (not of its children)."""

    def meta(self, x: Array) -> Array:
        """Make an array of the same shape and dtype that takes no memory."""

    def widest(self, x: Array) -> Any:
        """Give the widest floating-point dtype of the device where `x` lies."""

    def async_eval(self, *arrays: Array) -> None:
        """Let the framework begin to compute what is pending, without waiting for it."""

    def synchronize(self, *arrays: Array) -> None:
        """Compute what is pending, where the framework is lazy."""

    def weights(self, module: Any) -> dict[str, Array]:
        """Name every parameter and buffer, in the official layout."""

    def shapes(self, module: Any) -> dict[str, tuple[int, ...]]:
        """Name the official shape of every parameter and buffer."""

    def build(self, make: Callable[[], Any]) -> Any:
        """Make a module without memory for its weights."""

    def load(self, module: Any, weights: Mapping[str, Array], device: Any = None, strict: bool = True) -> Any:
        """Give the module its weights (all, if `strict`) in the official layout; return it ready for inference."""
