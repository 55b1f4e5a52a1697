"""A convolution over time and space as a sum of convolutions of frames, where that is faster and takes less memory."""

from collections.abc import Callable, Sequence

from tilekit.backends._base import Array

__all__ = ["by_frames"]


def by_frames(  # noqa: PLR0913, PLR0917  what a convolution over time is
    x: Array,
    taps: Sequence[Array],
    convolve: Callable[[Array, Array], Array],
    widen: Callable[[Array], Array],
    stride: int = 1,
    dilation: int = 1,
) -> Array:
    """
    Convolve frames with each tap of time, and add up what belongs to one frame.

    Parameters
    ----------
    x : array, shape (B, F, H, W, C)
        Padded along time already.
    taps : sequence of array
        The weights of each tap of time, as `convolve` wants them.
    convolve : callable
        From frames (B * F', H, W, C) and a tap to (B * F', H', W', C'); with its padding along height and width.
    widen : callable
        To the dtype in which sums are kept; what it gives is written to.
    stride, dilation : int
        Along time.

    Returns
    -------
    array, shape (B, F', H', W', C')
        In the dtype that `widen` gives.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(5.0).reshape(1, 5, 1, 1, 1)
    >>> by_frames(x, [1.0, 10.0], lambda frames, tap: frames * tap, lambda y: y).ravel().tolist()
    [10.0, 21.0, 32.0, 43.0]
    """
    batch, frames = x.shape[:2]
    made = (frames - (len(taps) - 1) * dilation - 1) // stride + 1
    total = None
    for number, tap in enumerate(taps):
        start = number * dilation
        part = x[:, start : start + (made - 1) * stride + 1 : stride]
        y = widen(convolve(part.reshape((batch * made, *x.shape[2:])), tap))
        if total is None:
            total = y
        else:
            total += y  # in place, where the library can
        del y  # or it stays while the next is made: three such arrays at once, not two
    assert total is not None  # a kernel has at least one tap
    return total.reshape((batch, made, *total.shape[1:]))
