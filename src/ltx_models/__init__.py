"""
The LTX-2 model family, written once for PyTorch and MLX.

Importing this package imports neither framework; each name is fetched from its module when it is first used. The names
stand in ``__init__.pyi``, where editors and type checkers find them too.
"""

from typing import Any

import lazy_loader

_fetch, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Fetch a public name, or the version."""
    if name == "__version__":
        import tilekit

        return tilekit.__version__  # both packages are one distribution
    return _fetch(name)
