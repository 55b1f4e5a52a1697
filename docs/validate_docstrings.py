"""Check the docstrings of all public names with numpydoc; exits 1 and lists what is missing."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from types import ModuleType

from numpydoc.validate import validate

# Extended summaries, examples and "see also" are welcome, not demanded: short things need none.
NOT_DEMANDED = {"ES01", "EX01", "SA01"}


def public_modules(name: str) -> Iterator[ModuleType]:
    """Yield a package and its modules whose names do not begin with an underscore."""
    package = importlib.import_module(name)
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


def public_names(module: ModuleType) -> Iterator[str]:
    """Yield the dotted names of what a module exports: functions, classes and the methods written in them."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if not (inspect.isroutine(value) or inspect.isclass(value)) or not hasattr(value, "__module__"):
            continue
        yield f"{module.__name__}.{name}"
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                if not attribute.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
                    yield f"{module.__name__}.{name}.{attribute}"


def main() -> int:
    """Validate every public name and print the faults."""
    faults = 0
    seen = 0
    for package in ("tilekit", "ltx_models"):
        for module in public_modules(package):
            for name in public_names(module):
                seen += 1
                for code, message in validate(name)["errors"]:
                    if code not in NOT_DEMANDED:
                        faults += 1
                        print(f"{name}: {code} {message}")
    print(f"{seen} public names, {faults} faults in their docstrings")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
