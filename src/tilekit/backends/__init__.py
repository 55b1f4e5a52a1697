"""
What tilekit needs of an array library beyond the array API, one small class for each.

`backend_of` finds the class by the library of an array's type; no library is imported that the caller has not imported.
"""

from tilekit.backends._base import Array, Backend, Place
from tilekit.backends._registry import backend_of, register, registered

__all__ = ["Array", "Backend", "Place", "backend_of", "register", "registered"]
