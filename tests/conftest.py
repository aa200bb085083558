"""What all tests share, whatever the machine."""

import os
import signal

import pytest
from hypothesis import settings

# How long an example runs says something about the machine, not about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# With it Python writes a line and its end one after the other: two workers that print would mix theirs.
os.environ.pop("PYTHONUNBUFFERED", None)

# Daemons are started here as from a shell, also by who runs the tests under nohup.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def quick_sweeper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines are kept to 10 ms instead of a quarter of a second."""
    monkeypatch.setattr("gateway.net.pump.SWEEP_INTERVAL", 0.01)
