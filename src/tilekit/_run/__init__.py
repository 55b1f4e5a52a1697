"""
The right half of tilekit: arrays, through the array API and `tilekit.backends`.

`decode_tiled`, `encode_tiled` and `stream_tiled` run a plan of `tilekit._plan`; `halo.py` measures how far a function
sees, and is imported when it is used, as it needs NumPy.
"""

from tilekit._run.run import decode_tiled, encode_tiled, stream_tiled

__all__ = ["decode_tiled", "encode_tiled", "stream_tiled"]
