"""Check the docstrings of all public names with numpydoc; exits 1 and lists what is missing."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from types import ModuleType

from numpydoc.validate import validate

PACKAGES = ("tilekit", "ltx_models", "ltx_models.media")

# Code -> what is demanded; the rest of numpydoc's checks are matters of taste.
DEMANDED = {
    "GL08": "a docstring",
    "SS01": "a summary",
    "SS03": "a full stop after the summary",
    "SS06": "a summary of one line",
    "PR02": "no parameter that does not exist",
    "PR07": "a description of each parameter",
    "RT03": "a description of what is returned",
}
# Of what a package itself exports; the one line of a method, of a protocol or of an inner module may say it all.
DEMANDED_OF_EXPORTS = DEMANDED | {
    "PR01": "all parameters",
    "RT01": "what is returned",
}
# A class may list its attributes, and a function that returns an iterator may say what it yields.
INSTEAD = {"PR01": "Attributes\n", "RT01": "Yields\n"}


def public_modules(name: str) -> Iterator[ModuleType]:
    """Yield a package and its modules whose names do not begin with an underscore."""
    package = importlib.import_module(name)
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


def public_names(module: ModuleType) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield what a module exports, with the methods written in its classes, and what is demanded of each."""
    exports = DEMANDED_OF_EXPORTS if module.__name__ in PACKAGES else DEMANDED
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if not (inspect.isroutine(value) or inspect.isclass(value)):
            continue
        yield f"{module.__name__}.{name}", DEMANDED if getattr(value, "_is_protocol", False) else exports
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                if not attribute.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
                    yield f"{module.__name__}.{name}.{attribute}", DEMANDED


def main() -> int:
    """Validate every public name and print the faults."""
    faults = seen = 0
    for package in ("tilekit", "ltx_models"):
        for module in public_modules(package):
            for name, demanded in public_names(module):
                seen += 1
                found = validate(name)
                for code, message in found["errors"]:
                    if code in demanded and INSTEAD.get(code, "-") not in found["docstring"]:
                        faults += 1
                        print(f"{name}: {code} {message}")
    print(f"{seen} public names, {faults} faults in their docstrings")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
