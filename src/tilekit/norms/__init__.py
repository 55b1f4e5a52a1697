"""
Group normalisation with the statistics of the whole.

`GroupStats` and `group_norm` merge and apply statistics; `TaskQueue` runs a network of `Apply`, `Norm`, `Store`,
`Shortcut`, `Add` and `Attention` tasks on the exact engine. `Convolution` and `Transposed` say which input cells a
layer needs. For published models see `tilekit.adapters`.
"""

from tilekit._exact.reach import POINTWISE, Convolution, Reach, Transposed
from tilekit._exact.tasks import Add, Apply, Attention, Norm, Shortcut, Store, Task
from tilekit.norms._plans import NormMode, Offload, QueuePlan
from tilekit.norms._queue import TaskQueue
from tilekit.norms._stats import GroupStats, group_norm

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
