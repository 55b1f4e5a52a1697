"""What every search for the arrays that a function reaches goes by, whatever their library."""

import functools
import types

__all__ = ["LEAVES", "MOST", "globals_of"]

LEAVES = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, types.BuiltinFunctionType)
"""Types of what holds no arrays."""
MOST = 200_000
"""Objects looked at before the search ends; a pipeline of several models has some 20,000."""


@functools.lru_cache(maxsize=4096)
def globals_of(code: types.CodeType) -> frozenset[str]:
    """Give the names that a function and those inside it may mean globals by."""
    inner = (globals_of(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return frozenset(code.co_names).union(*inner)
