"""The front end of PyTorch."""

from tilekit._exact.frontends._torch.trace import trace

__all__ = ["trace"]
