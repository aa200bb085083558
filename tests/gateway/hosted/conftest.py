"""What the tests of applications in processes of their own share: nothing may be left of one."""

import sys
from collections.abc import Iterator

import pytest

from tests.gateway.spawn.conftest import no_file_left

__all__ = ["no_file_left"]


@pytest.fixture(autouse=True)
def restored_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Applications that run in the test's own process are forgotten."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("hosted_"):
            del sys.modules[name]
