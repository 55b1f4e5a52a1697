"""The public names: listed, and there."""

import tilekit as tk
from tilekit import adapters, backends, norms, testing


def test_everything_listed_is_there_once() -> None:
    for module in (tk, adapters, backends, norms, testing):
        names = module.__all__
        assert len(set(names)) == len(names)
        for name in names:
            assert getattr(module, name) is not None


def test_everything_public_is_listed() -> None:
    found = {
        n for n, v in vars(tk).items() if not n.startswith("_") and getattr(v, "__module__", "").startswith("tilekit.")
    }
    assert found <= set(tk.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(tk, "decode")
    assert callable(tk.measure_halo)
