"""
Exact group normalisation over tiles.

`GroupStats` and `group_norm` merge and apply statistics; `TaskQueue` runs a network of `Apply`, `Norm`, `Store`,
`Shortcut`, `Add` and `Attention` tasks over tiles that merge their statistics at every norm. `Convolution` and
`Transposed` say which input cells a layer needs. For published models see `tilekit.adapters`.
"""

from tilekit.norms._phases import NormMode, Offload, QueuePlan
from tilekit.norms._queue import TaskQueue
from tilekit.norms._reach import POINTWISE, Convolution, Reach, Transposed
from tilekit.norms._stats import GroupStats, group_norm
from tilekit.norms._tasks import Add, Apply, Attention, Norm, Shortcut, Store, Task

__all__ = [
    "POINTWISE",
    "Add",
    "Apply",
    "Attention",
    "Convolution",
    "GroupStats",
    "Norm",
    "NormMode",
    "Offload",
    "QueuePlan",
    "Reach",
    "Shortcut",
    "Store",
    "Task",
    "TaskQueue",
    "Transposed",
    "group_norm",
]
