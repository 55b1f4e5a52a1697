"""The array libraries of the registry as a fixture: a new backend is tested by being registered."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tilekit.testing import Library, libraries

settings.register_profile(
    "project",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "project"))


def _name(library: Library) -> str:
    return f"{library.name}-read-only" if library.read_only else library.name


@pytest.fixture(params=list(libraries()), ids=_name)
def xp(request: pytest.FixtureRequest) -> Library:
    """Every library that has a backend, and NumPy arrays that cannot be written; skipped where it is not installed."""
    library: Library = request.param
    if library.missing:
        pytest.skip(library.missing)
    return library
