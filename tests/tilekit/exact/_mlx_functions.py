"""Functions of MLX of many kinds, by name, with the shape of their input."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx import nn

Function = Callable[[Any], Any]

PICTURE = (1, 6, 8, 8)
HEADS = (1, 2, 12, 8)
VIDEO = (1, 5, 6, 7, 4)
SOUND = (1, 20, 6)


def _numbers(*shape: int) -> mx.array:
    made = mx.random.normal(shape, key=mx.random.key(sum(n * 10**i for i, n in enumerate(shape)) % 2**32))
    mx.eval(made)
    return made


def _module(module: nn.Module) -> nn.Module:
    module.update(nn.utils.tree_map(lambda w: mx.abs(_numbers(*w.shape)), module.parameters()))
    return module.eval()


def _convolution(*shape: int, **options: Any) -> Function:
    weight = _numbers(*shape)
    return lambda x: mx.conv_general(x, weight, **options)


def _transposed(call: Callable[..., Any], *shape: int, **options: Any) -> Function:
    weight = _numbers(*shape)
    return lambda x: call(x, weight, **options)


def _written(x: Any) -> Any:
    y = mx.zeros((1, 6, 8, 8))
    y[:, 1:3, 2:5] = x[:, :2, 3:6]
    return y


def _interleaved(x: Any) -> Any:
    y = mx.zeros((1, 12, 8, 8))
    y[:, ::2] = x
    y[:, 1::2] = x * 2.0
    return y


def _cut_off(x: Any) -> Any:
    y = x * 2.0
    y[y > 1.0] = 0.5
    return y


def _numbered(x: Any) -> Any:
    y = x * 2.0
    y[y > 1.0] = mx.arange(y.size, dtype=mx.float32)
    return y


def _put(x: Any) -> Any:
    return mx.put_along_axis(x, mx.argmax(x, axis=1, keepdims=True), mx.array(3.0), axis=1)


def _at_its_largest(x: Any) -> Any:
    start = mx.argmax(x[0, :, 0, 0])[None] % 3
    return mx.slice_update(x, mx.slice(x, start, (1,), (1, 2, 8, 8)) * 2.0, mx.array([4]), (1,))


def _attended(x: Any, **options: Any) -> Any:
    return mx.fast.scaled_dot_product_attention(x, x * 0.5, x + 1.0, scale=0.3, **options)


def _by_hand(x: Any) -> Any:
    return mx.softmax(x @ mx.swapaxes(x, -1, -2) * 0.3, axis=-1) @ x


def _without_heads(x: Any) -> Any:
    return mx.softmax((x * 2) @ x.transpose(0, 2, 1) / mx.sqrt(mx.array(6.0)), axis=-1) @ x


def _shared_heads(x: Any) -> Any:
    key = x[:, :1]
    return mx.fast.scaled_dot_product_attention(x, key, key + 1.0, scale=0.3)


def _quantized() -> Function:
    matrix = mx.quantize(_numbers(8, 64), group_size=32, bits=8)
    return lambda x: mx.quantized_matmul(x, *matrix, group_size=32, bits=8)


def _broadcast_up(x: Any) -> Any:
    return mx.broadcast_to(x[:, :, None, :, None], (1, 6, 2, 8, 2, 8)).reshape(1, 12, 16, 8)


def _shuffled(x: Any) -> Any:
    return x.reshape(1, 6, 8, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(1, 12, 16, 2)


def _unshuffled(x: Any) -> Any:
    return x.reshape(1, 3, 2, 4, 2, 8).transpose(0, 1, 3, 5, 2, 4).reshape(1, 3, 4, 32)


def _filtered(x: Any) -> Any:
    """Windows that overlap, times one matrix, as a short filter."""
    batch, n, channels = x.shape
    steps = (n * channels, 3 * channels, channels, 1)
    windows = mx.as_strided(x + 1, (batch, (n - 7) // 3 + 1, 7, channels), steps)
    return (_TAPS @ windows).reshape(batch, -1, channels)


def _norm_of_frames(x: Any) -> Any:
    norm = _FRAMES
    return norm(x.reshape(5, 6 * 7, 4)).reshape(1, 5, 6, 7, 4)


_FRAMES = _module(nn.GroupNorm(2, 4, pytorch_compatible=True))
_TABLE = _numbers(5, 8)
_INDEX = mx.array([2, 0, 1, 4])
_MATRIX = _numbers(8, 3)
_TAPS = _numbers(4, 7)
_MASK = _numbers(12, 12)

FUNCTIONS: dict[str, tuple[Function, tuple[int, ...]]] = {
    "windows times a matrix": (_filtered, SOUND),
    "convolution, stride and dilation": (_convolution(5, 3, 3, 8, stride=2, padding=1, kernel_dilation=2), PICTURE),
    "convolution, flipped, stretched input, uneven padding": (
        _convolution(5, 3, 2, 8, padding=([1, 2], [0, 1]), input_dilation=(2, 3), flip=True),
        PICTURE,
    ),
    "convolution in groups": (_convolution(8, 3, 3, 2, groups=4, padding=1), PICTURE),
    "convolution of video": (_convolution(3, 3, 3, 3, 4, padding=(0, 1, 2), stride=(2, 1, 1)), VIDEO),
    "convolution of sound": (_convolution(3, 7, 6, padding=3), SOUND),
    "transposed convolution": (
        _transposed(mx.conv_transpose2d, 8, 3, 3, 8, stride=2, padding=1, output_padding=1),
        PICTURE,
    ),
    "transposed convolution, stride above kernel": (_transposed(mx.conv_transpose2d, 5, 2, 2, 8, stride=3), PICTURE),
    "transposed convolution of video": (
        _transposed(mx.conv_transpose3d, 3, 3, 3, 3, 4, stride=(2, 1, 2), padding=1),
        VIDEO,
    ),
    "transposed convolution of sound": (_transposed(mx.conv_transpose1d, 3, 8, 6, stride=4, padding=2), SOUND),
    "pad, edge": (lambda x: mx.pad(x, [(0, 0), (2, 1), (1, 1), (0, 0)], mode="edge"), PICTURE),
    "pad, constant": (lambda x: mx.pad(x, [(0, 0), (2, 1), (1, 3), (0, 0)], constant_values=3.0), PICTURE),
    "pad by slices, reflect": (lambda x: mx.concatenate([x[:, 3:0:-1], x, x[:, -2:-4:-1]], 1), PICTURE),
    "pad by slices, first frame": (lambda x: mx.concatenate([x[:, :1], x[:, :1], x], 1), VIDEO),
    "pad by a repeated frame": (lambda x: mx.concatenate([mx.repeat(x[:, :1], 2, 1), x], 1), VIDEO),
    "repeat": (lambda x: mx.repeat(x, 3, 2), PICTURE),
    "nearest by broadcast": (_broadcast_up, PICTURE),
    "pixel shuffle": (_shuffled, PICTURE),
    "pixel unshuffle": (_unshuffled, PICTURE),
    "upsample nearest": (nn.Upsample(2), PICTURE),
    "upsample nearest, 1.5": (nn.Upsample(1.5), PICTURE),
    "upsample linear": (nn.Upsample(2, mode="linear"), PICTURE),
    "upsample linear, corners": (nn.Upsample(2, mode="linear", align_corners=True), PICTURE),
    "upsample cubic": (nn.Upsample(2, mode="cubic"), PICTURE),
    "slice with steps": (lambda x: x[:, 1:6:2, ::3], PICTURE),
    "flip": (lambda x: x[:, ::-1, ::-2], PICTURE),
    "split and stack": (lambda x: mx.stack([*mx.split(x, 2, -1)][::-1], 1), PICTURE),
    "tile": (lambda x: mx.tile(x, (1, 2, 1, 1)), PICTURE),
    "roll": (lambda x: mx.roll(x, 2, 2), PICTURE),
    "take": (lambda x: mx.take(x, mx.array([5, 1, 1, 0]), axis=1), PICTURE),
    "index by an array": (lambda x: x[:, mx.array([0, 0, 1, 2])], PICTURE),
    "index by a captured array": (lambda x: x[:, _INDEX], PICTURE),
    "index by a grid": (lambda x: x[:, mx.array([0, 2])[:, None], mx.array([5, 1, 1])], PICTURE),
    "index by pairs": (lambda x: x[:, mx.array([0, 2, 3]), mx.array([5, 1, 1])], PICTURE),
    "embedding": (lambda x: _TABLE[mx.abs(x * 2).astype(mx.int32) % 5], SOUND),
    "take along an axis": (lambda x: mx.take_along_axis(x, mx.argsort(x, axis=1), axis=1), PICTURE),
    "write a slice": (_written, PICTURE),
    "write every second": (_interleaved, PICTURE),
    "add to a slice": (lambda x: x.at[:, :2].add(1.0), PICTURE),
    "multiply a slice": (lambda x: x.at[:, 1:5:2].multiply(2.0), PICTURE),
    "maximum of a slice": (lambda x: x.at[:, :, 2:5].maximum(0.0), PICTURE),
    "write a number where a mask is true": (_cut_off, PICTURE),
    "write numbers where a mask is true": (_numbered, PICTURE),
    "put along an axis": (_put, PICTURE),
    "slice at a place that depends on the input": (_at_its_largest, PICTURE),
    "add to a slice backwards": (lambda x: x.at[:, ::-2].add(x[:, :3]), PICTURE),
    "add at indices": (lambda x: x.at[:, mx.array([1, 3])].add(1.0), PICTURE),
    "group norm": (_module(nn.GroupNorm(4, 8, pytorch_compatible=True)), PICTURE),
    "group norm of video": (_module(nn.GroupNorm(2, 4, pytorch_compatible=True)), VIDEO),
    "group norm without weights": (nn.GroupNorm(4, 8, affine=False, pytorch_compatible=True), PICTURE),
    "group norm of each frame": (_norm_of_frames, VIDEO),
    "group norm, interleaved": (_module(nn.GroupNorm(4, 8)), PICTURE),
    "instance norm": (_module(nn.InstanceNorm(8, affine=True)), PICTURE),
    "layer norm": (_module(nn.LayerNorm(8)), PICTURE),
    "root mean square norm": (_module(nn.RMSNorm(8)), PICTURE),
    "batch norm": (_module(nn.BatchNorm(8)), PICTURE),
    "variance": (lambda x: mx.var(x, axis=(1, 2), keepdims=True) * x, PICTURE),
    "deviation over time": (
        lambda x: (x - mx.mean(x, axis=1, keepdims=True)) / mx.std(x, axis=1, keepdims=True),
        SOUND,
    ),
    "attention": (_attended, HEADS),
    "attention, causal": (lambda x: _attended(x, mask="causal"), HEADS),
    "attention, mask added": (lambda x: _attended(x, mask=_MASK), HEADS),
    "attention, mask chosen": (lambda x: _attended(x, mask=_MASK > 0), HEADS),
    "attention, shared heads": (_shared_heads, HEADS),
    "attention written out": (_by_hand, HEADS),
    "attention written out, without heads": (_without_heads, SOUND),
    "attention written out, mask": (lambda x: mx.softmax(x @ mx.swapaxes(x, -1, -2) + _MASK, axis=-1) @ x, HEADS),
    "rotary positions": (
        lambda x: mx.fast.rope(x, 8, traditional=False, base=1e4, scale=1.0, offset=0),
        HEADS,
    ),
    "sum of exponentials": (lambda x: x - mx.logsumexp(x, -1, keepdims=True), PICTURE),
    "softmax over another axis": (lambda x: mx.softmax(x, 1), PICTURE),
    "linear": (_module(nn.Linear(8, 5)), PICTURE),
    "quantized linear": (_quantized(), (1, 6, 64)),
    "einsum": (lambda x: mx.einsum("abcd,ce->aebd", x, _MATRIX), PICTURE),
    "cumulative sum": (lambda x: mx.cumsum(x, 1), PICTURE),
    "cumulative product, backwards": (lambda x: mx.cumprod(x, 1, reverse=True, inclusive=False), PICTURE),
    "sort": (lambda x: mx.sort(x, 1), PICTURE),
    "largest": (lambda x: mx.topk(x, 2), PICTURE),
    "argmax": (lambda x: mx.argmax(x, 1).astype(mx.float32), PICTURE),
    "median": (lambda x: mx.median(x, 1), PICTURE),
    "triangle": (mx.triu, PICTURE),
    "Fourier": (lambda x: mx.abs(mx.fft.rfft(x, axis=-1)), PICTURE),
    "Fourier and back": (lambda x: mx.fft.irfftn(mx.fft.rfftn(x, axes=(1, 2)), axes=(1, 2)), PICTURE),
    "Hadamard": (mx.hadamard_transform, PICTURE),
    "average pool": (nn.AvgPool2d(2), PICTURE),
    "average pool, overlapping": (nn.AvgPool2d(3, 1), PICTURE),
    "largest pool, padded": (nn.MaxPool2d(3, 2, 1), PICTURE),
    "GELU": (nn.gelu, PICTURE),
    "GELU, tanh": (nn.gelu_approx, PICTURE),
    "mish, softplus, ELU": (lambda x: nn.mish(x) + nn.softplus(x) + nn.elu(x) + nn.leaky_relu(x), PICTURE),
    "snake": (lambda x: x + mx.sin(x * 2) ** 2 / 2, PICTURE),
    "whole numbers": (lambda x: ((x * 9).astype(mx.int32) // 2 % 5 | 1).astype(mx.float32), PICTURE),
    "complex numbers": (lambda x: mx.real(x.astype(mx.complex64) * (1 + 2j)), PICTURE),
    "positions": (lambda x: x * mx.linspace(0, 1, 8) + mx.meshgrid(mx.arange(8), mx.arange(8))[0], PICTURE),
    "quotient and remainder": (lambda x: mx.divmod(x, 0.3)[0] + mx.divmod(x, 0.3)[1], PICTURE),
    "compiled": (mx.compile(lambda x: mx.sin(x) * 2 + 1), PICTURE),
    "made contiguous": (lambda x: mx.contiguous(x.transpose(0, 2, 1, 3)) * 2, PICTURE),
    "norm over channels that come first": (lambda x: x / mx.linalg.norm(x, axis=1, keepdims=True), PICTURE),
}
