"""
The LTX-2 model family, written once for PyTorch and MLX.

Importing this package imports neither framework; each name is fetched from its module when it is first used. The names
stand in ``__init__.pyi``, where editors and type checkers find them too.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
