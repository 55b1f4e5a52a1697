"""
The errors of tilekit; each is a built-in error as well.

    TilekitError
    ├── PlanError       (ValueError)  a tiling that does not fit the shape
    ├── InputError      (ValueError)  an array that must not be processed, such as one with NaN
    ├── TileShapeError  (ValueError)  a function returned another shape than the plan says
    ├── BackendError    (TypeError)   not an array, or one of the wrong library or kind
    ├── HaloError       (ValueError)  a function without a finite reach, or one whose reach cannot be measured
    ├── DiskError       (OSError)     a disk that is full or fails while tiles are kept on it
    ├── DeviceError     (RuntimeError)  a device that computes wrong numbers
    ├── RankError       (ConnectionError)  another process of a call on several ranks is gone
    └── TraceError      (ValueError)  a function that cannot be followed, such as one that draws random numbers
"""

__all__ = [
    "BackendError",
    "DeviceError",
    "DiskError",
    "HaloError",
    "InputError",
    "PlanError",
    "RankError",
    "TileShapeError",
    "TilekitError",
    "TraceError",
]


class TilekitError(Exception):
    """Every error that tilekit raises on purpose."""


class PlanError(TilekitError, ValueError):
    """The tiling, the shape and the geometry do not fit together."""


class InputError(TilekitError, ValueError):
    """The input array must not be processed, for instance because it holds NaN."""


class TileShapeError(TilekitError, ValueError):
    """A function returned another shape for a tile than the plan says."""


class BackendError(TilekitError, TypeError):
    """A value is not an array, or an array of another library or kind than expected."""


class HaloError(TilekitError, ValueError):
    """The reach of a function could not be measured, or it has none."""


class TraceError(TilekitError, ValueError):
    """A function cannot be made exact: it is no function of its input alone, or it does what a trace cannot see."""


class DeviceError(TilekitError, RuntimeError):
    """A device, or the framework on it, computes wrong numbers."""


class DiskError(TilekitError, OSError):
    """A disk that is full, or fails, while something is kept on it."""


class RankError(TilekitError, ConnectionError):
    """Another process of a call on several ranks has ended, failed or left."""
