"""What tests of starting programs have in common: they run both ways."""

import pytest

from gateway.programs import launch


@pytest.fixture(params=["direct", "by Popen"], autouse=True)
def way_of_starting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is with this Python, and as it would be with one that is not made as expected."""
    assert launch.DIRECT, "this version of Python is made in another way: see gateway/programs/launch.py"
    if request.param == "by Popen":
        monkeypatch.setattr(launch, "DIRECT", False)
