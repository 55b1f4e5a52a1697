"""Functions of JAX of many kinds, by name, with the shape of their input."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Function = Callable[[Any], Any]

PICTURE = (1, 6, 8, 8)
PLANES = (2, 8, 6, 8)
VIDEO = (1, 5, 6, 7, 4)
TOKENS = (1, 12, 2, 4)
SOUND = (1, 20, 6)


def numbers(*shape: int, seed: int = 3) -> Any:
    """Make numbers; the same for the same shape."""
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32))


def _convolution(*shape: int, layout: tuple[str, str, str] = ("NHWC", "HWIO", "NHWC"), **options: Any) -> Function:
    weight = numbers(*shape)
    options = {"window_strides": (1,) * (len(shape) - 2), "padding": "SAME"} | options
    return lambda x: lax.conv_general_dilated(x, weight, dimension_numbers=layout, **options)


def _transposed(x: Any) -> Any:
    return lax.conv_transpose(x, numbers(3, 3, 8, 5), (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _group_norm(x: Any) -> Any:
    split = x.reshape(1, 6, 8, 4, 2)
    mean, variance = split.mean((1, 2, 4), keepdims=True), split.var((1, 2, 4), keepdims=True)
    return ((split - mean) * lax.rsqrt(variance + 1e-5)).reshape(x.shape) * numbers(8) + numbers(8, seed=4)


def _group_norm_of_planes(x: Any) -> Any:
    split = x.reshape(2, 4, -1)
    mean, square = split.mean(-1), (split * split).mean(-1)
    scale = 1 / jnp.sqrt(square - mean**2 + 1e-5)
    spread = [jnp.repeat(row, 2, axis=-1)[:, :, None, None] for row in (mean, scale)]
    return (x - spread[0]) * spread[1]


def _frame_norm(x: Any) -> Any:
    return (x - x.mean((2, 3), keepdims=True)) / (x.std((2, 3), keepdims=True) + 1e-3)


def _layer_norm(x: Any) -> Any:
    return jax.nn.standardize(x, axis=-1) * numbers(8)


def _root_mean_square(x: Any) -> Any:
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def _written_out(x: Any) -> Any:
    q, k, v = (jnp.einsum("btnh,hk->bntk", x, numbers(4, 4, seed=s)) for s in range(3))
    return jnp.einsum("bnts,bnsh->btnh", jax.nn.softmax(q @ k.swapaxes(-1, -2) / 2, axis=-1), v)


def _over_pictures(x: Any) -> Any:
    flat = x.reshape(1, 48, 1, 8)
    return x + jax.nn.dot_product_attention(flat, flat * 0.5, flat + 1.0).reshape(x.shape)


def _shuffled(x: Any) -> Any:
    return x.reshape(1, 6, 8, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(1, 12, 16, 2)


def _unshuffled(x: Any) -> Any:
    return x.reshape(1, 3, 2, 4, 2, 8).transpose(0, 1, 3, 5, 2, 4).reshape(1, 3, 4, 32)


def _layers(x: Any) -> Any:
    weights = numbers(3, 8, 8) * 0.3
    return lax.scan(lambda h, w: (jnp.tanh(h @ w), h.mean(-1)), x, weights)[0]


def _rows(x: Any) -> Any:
    return lax.scan(lambda h, row: (h + row, h * row), jnp.zeros((8, 8)), x[0], reverse=True)[1]


def _resized(shape: tuple[int, ...], how: str) -> Function:
    return lambda x: jax.image.resize(x, shape, how)


def _pooled(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")


def _averaged(x: Any) -> Any:
    return lax.reduce_window(x, 0.0, lax.add, (1, 2, 3, 1), (1, 2, 1, 1), "VALID") / 6


def _sine(x: Any) -> Any:
    return jnp.sin(x) * x


_own = jax.custom_jvp(_sine)
_own.defjvp(lambda primals, tangents: (_own(*primals), tangents[0]))


_twice = jax.custom_vjp(lambda x: x * 2)
_twice.defvjp(lambda x: (x * 2, None), lambda _, given: (given,))


def _bent(x: Any) -> Any:
    return jnp.where(x > 0, x, jnp.expm1(x)) * numbers(8)


def _noise(x: Any) -> Any:
    return x + jax.random.normal(jax.random.key(5), x.shape)


_KERNEL = ("NCHW", "OIHW", "NCHW")
_INDEX = np.array([2, 0, 1, 4])

FUNCTIONS: dict[str, tuple[Function, tuple[int, ...]]] = {
    "convolution": (_convolution(3, 3, 8, 5), PICTURE),
    "convolution, stride and dilation": (
        _convolution(3, 3, 8, 5, window_strides=(2, 1), padding=((1, 2), (2, 2)), rhs_dilation=(1, 2)),
        PICTURE,
    ),
    "convolution, channels first": (_convolution(5, 8, 3, 3, layout=_KERNEL), PLANES),
    "convolution, from first to last": (_convolution(5, 8, 3, 3, layout=("NCHW", "OIHW", "NHWC")), PLANES),
    "convolution in groups": (_convolution(3, 3, 2, 8, feature_group_count=4), PICTURE),
    "convolution of every channel": (_convolution(3, 3, 1, 8, feature_group_count=8), PICTURE),
    "convolution of video": (
        _convolution(3, 3, 3, 4, 3, layout=("NDHWC", "DHWIO", "NDHWC"), padding=((2, 0), (1, 1), (1, 1))),
        VIDEO,
    ),
    "convolution of sound": (_convolution(7, 6, 3, layout=("NWC", "WIO", "NWC")), SOUND),
    "convolution, highest precision": (_convolution(3, 3, 8, 5, precision="highest"), PICTURE),
    "transposed convolution": (_transposed, PICTURE),
    "transposed convolution, stride above kernel": (
        lambda x: lax.conv_transpose(x, numbers(2, 2, 8, 5), (3, 3), "VALID"),
        PICTURE,
    ),
    "pad, constant": (lambda x: jnp.pad(x, ((0, 0), (2, 1), (1, 3), (0, 0)), constant_values=3.0), PICTURE),
    "pad, edge": (lambda x: jnp.pad(x, ((0, 0), (2, 1), (1, 1), (0, 0)), mode="edge"), PICTURE),
    "pad, reflect": (lambda x: jnp.pad(x, ((0, 0), (2, 1), (0, 3), (0, 0)), mode="reflect"), PICTURE),
    "pad, wrap": (lambda x: jnp.pad(x, ((0, 0), (2, 1), (0, 3), (0, 0)), mode="wrap"), PICTURE),
    "pad between cells": (lambda x: lax.pad(x, 0.5, ((0, 0, 0), (1, -1, 2), (0, 0, 1), (0, 0, 0))), PICTURE),
    "pad by slices, first frame": (lambda x: jnp.concatenate([x[:, :1], x[:, :1], x], 1), VIDEO),
    "repeat": (lambda x: jnp.repeat(jnp.repeat(x, 2, 1), 3, 2), PICTURE),
    "tile": (lambda x: jnp.tile(x, (1, 2, 1, 1)), PICTURE),
    "resize, nearest": (_resized((1, 12, 16, 8), "nearest"), PICTURE),
    "resize, nearest, smaller": (_resized((1, 4, 5, 8), "nearest"), PICTURE),
    "resize, linear": (_resized((1, 12, 16, 8), "linear"), PICTURE),
    "resize, cubic, channels first": (_resized((2, 8, 12, 13), "cubic"), PLANES),
    "shuffle": (_shuffled, PICTURE),
    "unshuffle": (_unshuffled, PICTURE),
    "largest pool, padded": (_pooled, PICTURE),
    "average pool": (_averaged, PICTURE),
    "group norm": (_group_norm, PICTURE),
    "group norm of planes": (_group_norm_of_planes, PLANES),
    "norm of frames": (_frame_norm, VIDEO),
    "norm of a whole clip": (lambda x: (x - x.mean()) / x.std(), VIDEO),
    "layer norm": (_layer_norm, PICTURE),
    "root mean square norm": (_root_mean_square, PICTURE),
    "attention": (lambda x: jax.nn.dot_product_attention(x, x * 0.5, x + 1.0), TOKENS),
    "attention, causal": (lambda x: jax.nn.dot_product_attention(x, x, x + 1.0, is_causal=True), TOKENS),
    "attention, written out": (_written_out, TOKENS),
    "attention over a picture": (_over_pictures, PICTURE),
    "linear": (lambda x: x @ numbers(8, 3) + numbers(3), PICTURE),
    "weights first": (lambda x: jnp.einsum("oc,bhwc->bohw", numbers(3, 8), x), PICTURE),
    "a product of two arrays": (lambda x: jnp.einsum("bhwc,bhvc->bhwv", x, x * 0.5), PICTURE),
    "a sum over two axes": (lambda x: jnp.einsum("bhwc,hcd->bwd", x, numbers(6, 8, 3)), PICTURE),
    "softmax": (lambda x: jax.nn.softmax(x, axis=2), PICTURE),
    "GELU and sigmoid": (lambda x: jax.nn.gelu(x) + jax.nn.silu(x) * jax.nn.gelu(x, approximate=False), PICTURE),
    "clip, round, compare": (lambda x: jnp.clip(jnp.round(x * 3), -2, 2) + (x > 0), PICTURE),
    "functions of its own": (lambda x: _own(x) + jax.checkpoint(jnp.cos)(_twice(x)), PICTURE),
    "compiled": (jax.jit(_bent), PICTURE),
    "flip": (lambda x: x[:, ::-1, ::-2] * 2, PICTURE),
    "index by a table": (lambda x: x[:, _INDEX] + 1, PICTURE),
    "index by a table of two axes": (lambda x: x[:, _INDEX.reshape(2, 2)], PICTURE),
    "one frame": (lambda x: x[:, 2] + x[:, -1], VIDEO),
    "take by weights": (lambda x: jnp.take(x, jnp.asarray(_INDEX), axis=2), PICTURE),
    "take, clipped at the ends": (lambda x: jnp.take(x, jnp.arange(-2, 8), axis=1, mode="clip"), PICTURE),
    "embedding": (lambda x: numbers(5, 8)[jnp.abs(x * 2).astype(int) % 5], PICTURE),
    "write a part": (lambda x: jnp.zeros((1, 6, 8, 8)).at[:, 1:3, 2:5].set(x[:, 2:4, 3:6]), PICTURE),
    "split and put together": (lambda x: jnp.concatenate(jnp.split(x, 2, axis=1)[::-1], 2), PICTURE),
    "places": (lambda x: x * jnp.linspace(0, 1, 6)[:, None, None] + jnp.arange(8.0), PICTURE),
    "running sum": (lambda x: jnp.cumsum(x, axis=1), PICTURE),
    "sort": (lambda x: jnp.sort(x, axis=-1), PICTURE),
    "place of the largest": (lambda x: jnp.argmax(x, axis=-1), PICTURE),
    "largest of all": (lambda x: x - x.max((1, 2), keepdims=True), PICTURE),
    "Fourier transform": (lambda x: jnp.fft.irfft(jnp.fft.rfft(x, axis=-1) * 2, axis=-1), PICTURE),
    "layers in a loop": (_layers, PICTURE),
    "rows in a loop": (_rows, PICTURE),
    "noise of a key": (_noise, PICTURE),
    "a branch": (lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), PICTURE),
    "a loop of unknown length": (
        lambda x: lax.while_loop(lambda h: jnp.abs(h).max() > 1, lambda h: h * 0.5, x),
        PICTURE,
    ),
    "two results of one": (lambda x: lax.top_k(x, 3)[0], PICTURE),
}
"""By name, the function and the shape of its input."""
