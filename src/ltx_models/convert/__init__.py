"""
Conversion between layouts, dtypes and quantisations, tensor by tensor.

What a conversion writes is a function of what it reads: converting twice gives the same bytes, and going to another
layout and back gives the tensors that were there, bit by bit, unless a dtype or quantisation was asked for.
"""

from ltx_models.convert.conversion import Layout, Report, convert

__all__ = [
    "Layout",
    "Report",
    "convert",
]
