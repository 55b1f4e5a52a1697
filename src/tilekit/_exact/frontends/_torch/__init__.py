"""The front end of PyTorch."""

from tilekit._exact.frontends._torch.refusals import check_input
from tilekit._exact.frontends._torch.trace import trace

__all__ = ["check_input", "trace"]
