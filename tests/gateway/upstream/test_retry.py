"""Which failures are followed by another try."""

import errno
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import BackendError, Cause, Phase
from gateway.upstream.retry import RetryPolicy


def failure(phase: Phase, cause: Cause = Cause.TERMINATED, code: int | None = None) -> BackendError:
    return BackendError(cause, "", backend="b", address="a", phase=phase, errno=code)


USUAL = RetryPolicy(tries=None, time=10.0, status=frozenset(), all_methods=False, per_try=5.0)
CONNECT = failure(Phase.CONNECT, Cause.REFUSED)
CUT = failure(Phase.FIRST_BYTE)
FULL = failure(Phase.FIRST_BYTE, Cause.OVERLOADED)
FACTS: dict[str, Any] = {
    "tries": 1, "sent": 1, "servers": 3, "seconds": 1.0, "method": "GET", "replayable": True
}  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "error", "facts", "allowed"),
    [
        # Without a number: each server once.
        ({}, CONNECT, {"sent": 0}, True),
        ({}, CONNECT, {"sent": 0, "tries": 2}, True),
        ({}, CONNECT, {"sent": 0, "tries": 3}, False),
        ({}, CONNECT, {"sent": 0, "servers": 1}, False),
        # A connection failure: any method, any body.
        ({}, CONNECT, {"sent": 0, "method": "POST", "replayable": False}, True),
        # Later: idempotent methods, bodies that can be sent again, and once only (H-14).
        ({}, CUT, {}, True),
        ({}, CUT, {"method": "PUT"}, True),
        ({}, CUT, {"method": "POST"}, False),
        ({}, CUT, {"replayable": False}, False),
        ({}, CUT, {"tries": 2, "sent": 2}, False),
        ({}, CUT, {"tries": 2, "sent": 1}, True),
        # FCGI-14: refused is not acted on.
        ({}, FULL, {"method": "POST"}, True),
        ({}, FULL, {"tries": 2, "sent": 2}, True),
        ({}, FULL, {"replayable": False}, False),
        # What is configured counts.
        ({"tries": 5}, CUT, {"tries": 4, "sent": 4, "servers": 1}, True),
        ({"tries": 5}, CUT, {"tries": 5, "sent": 5}, False),
        ({"tries": 1}, CONNECT, {"sent": 0}, False),
        ({"all_methods": True}, CUT, {"method": "POST"}, True),
        ({"all_methods": True}, CUT, {"method": "POST", "replayable": False}, False),
        ({"time": 5.0}, CONNECT, {"sent": 0, "seconds": 5.0}, False),
        # The gateway's own want of descriptors.
        ({}, failure(Phase.CONNECT, Cause.UNREACHABLE, errno.EMFILE), {"sent": 0}, False),
    ],
)
def test_another_try(
    policy: dict[str, Any], error: BackendError, facts: dict[str, Any], allowed: bool
) -> None:
    assert replace(USUAL, **policy).allows(error, **{**FACTS, **facts}) is allowed
