"""Numbers as safetensors stores them: wide for arithmetic, narrow for files; NumPy alone, as no framework is needed."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Floating-point dtypes that convert into one another, and their bytes."""

EIGHT_BITS = "F8_E4M3"
NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@cache
def _eight_bits() -> Floats:
    """Give the value of each 8-bit float with four bits of exponent and three of fraction."""
    code = np.arange(256)
    exponent, fraction = (code >> 3) & 15, code & 7
    normal = np.ldexp(1 + fraction / 8, exponent - 7)
    small = np.ldexp(fraction / 8, -6)
    value = np.where(exponent == 0, small, normal)
    value = np.where(code & 0x7F == 0x7F, np.nan, value)
    return (np.where(code & 0x80, -value, value)).astype(np.float32)


def widen(data: Bytes, dtype: str) -> Floats:
    """
    Read stored numbers as float32, exactly.

    Parameters
    ----------
    data : array of uint8
        The bytes.
    dtype : str
        As safetensors names it: F64, F32, F16, BF16 or F8_E4M3.

    Returns
    -------
    array of float32, shape (n,)
        The numbers.

    Raises
    ------
    ValueError
        If the dtype is another one.

    Examples
    --------
    >>> widen(np.array([0x80, 0x3F], np.uint8), "BF16")
    array([1.], dtype=float32)
    """
    if dtype == "BF16":
        return np.asarray((data.view(np.uint16).astype(np.uint32) << 16).view(np.float32))
    if dtype == EIGHT_BITS:
        wide: Floats = _eight_bits()[data]
        return wide
    if dtype not in FLOATS:
        msg = f"dtype {dtype} holds no numbers that convert to others; known are {', '.join((*FLOATS, EIGHT_BITS))}"
        raise ValueError(msg)
    plain: Any = {"F64": np.float64, "F32": np.float32, "F16": np.float16}[dtype]
    return np.asarray(data.view(plain), np.float32)


def narrow(values: Floats, dtype: str, what: str = "values") -> Bytes:
    """
    Round float32 numbers to nearest, ties to even, as both frameworks do.

    Parameters
    ----------
    values : array of float32
        Any shape.
    dtype : {"F32", "F16", "BF16"}
        As safetensors names it.
    what : str
        The tensor's name, for the text of errors.

    Returns
    -------
    array of uint8, shape (n,)
        The bytes.

    Raises
    ------
    ValueError
        If a finite number becomes infinite.

    Examples
    --------
    >>> widen(narrow(np.array([1.00390625, -2.0], np.float32), "BF16"), "BF16")
    array([ 1., -2.], dtype=float32)
    """
    values = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    if dtype == "F32":
        return values.view(np.uint8)
    if dtype == "F16":
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        lost, most = np.isinf(half) & np.isfinite(values), 65504.0
        result = half.view(np.uint8)
    else:
        bits = values.view(np.uint32)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        # adding to the bits of NaN could carry into the sign
        rounded = np.where(np.isnan(values), ((bits >> 16) | 0x40).astype(np.uint16), rounded)
        lost, most = np.isinf(widen(rounded.view(np.uint8), "BF16")) & np.isfinite(values), 3.39e38
        result = rounded.view(np.uint8)
    if lost.any():
        worst = float(np.abs(values[lost]).max())
        msg = f"{what}: {int(lost.sum())} values up to {worst:.4g} do not fit {dtype}, whose largest is {most}"
        raise ValueError(msg + "; choose bfloat16 or float32")
    return result
