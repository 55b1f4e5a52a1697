"""
The kinds of operation and their box rules: which box of each input makes a box of the output.

Every kind is a small frozen class. Two rules, of integers alone, are all that the planner asks:

``grow(box, shape, inputs)``
    the box that is made where this one is wanted: whole channels of a convolution, whole rows of a softmax.
``need(box, shape, inputs)``
    for a box that has grown, the box of each input, in order; None where an input is not read at all.

`shape` is that of the output, `inputs` are those of what is read. How a kind computes is written in `kernels`. Where an
operation is a call of the library itself (an exponential, a sort), the front end hands in a `call`: hashable, called
with the list of arrays.
"""

from tilekit._exact.ops._base import Needs, Op, broadcast
from tilekit._exact.ops._cells import Constant, Fill, Input, Pointwise
from tilekit._exact.ops._sums import Along, Attention, MatMul, Moments, Normalize, Reduce, Whole
from tilekit._exact.ops._views import Concat, Expand, Gather, Pad, PadMode, Permute, Pick, Reshape, Scatter, Slice, Take
from tilekit._exact.ops._windows import Conv, Local, Pool, Reached, Resample, Windows

__all__ = [
    "Along",
    "Attention",
    "Concat",
    "Constant",
    "Conv",
    "Expand",
    "Fill",
    "Gather",
    "Input",
    "Local",
    "MatMul",
    "Moments",
    "Needs",
    "Normalize",
    "Op",
    "Pad",
    "PadMode",
    "Permute",
    "Pick",
    "Pointwise",
    "Pool",
    "Reached",
    "Reduce",
    "Resample",
    "Reshape",
    "Scatter",
    "Slice",
    "Take",
    "Whole",
    "Windows",
    "broadcast",
]
