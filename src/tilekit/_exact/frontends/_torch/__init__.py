"""The front end of PyTorch."""

from tilekit._exact.frontends._torch.outside import is_followed, plainly
from tilekit._exact.frontends._torch.refusals import check_input
from tilekit._exact.frontends._torch.trace import trace

__all__ = ["check_input", "is_followed", "plainly", "trace"]
