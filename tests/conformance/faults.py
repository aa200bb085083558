"""What becomes of a request whose backend does wrong: a row for each fault, with all kinds that agree on it.

`faulty` says how each kind does it. Where an outcome is debatable, `why` says what it follows. In all of them
the process of a CGI program is ended and waited for, nothing is left open, and the next request is answered,
on a client's connection that is kept, or on another one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from gateway.errors import BackendError, Cause, Phase
from gateway.failure.response import failure_of
from tests.conformance.faulty import KEEPING, KINDS, PYTHON, SHARED, SOCKETS


class Kept(Enum):
    """The fate of a connection."""

    CLOSED = "closed"
    REUSED = "it serves the next request, where the protocol allows that"


@dataclass(frozen=True)
class Outcome:
    """What the client, the log and the backend see."""

    status: int
    """What the client gets; in the access log too."""
    cause: Cause | None = None
    """In Proxy-Status and in the event ``backend failed``; None: the answer is the backend's own."""
    phase: Phase | None = None
    whole: bool = True
    """False: visibly cut short; HTTP/2: the stream is reset, and the connection goes on."""
    client: Kept = Kept.REUSED
    backend: Kept = Kept.CLOSED
    logs: tuple[str, ...] = ()
    """Further events, before that of the cause."""


@dataclass(frozen=True)
class Row:
    """A fault of these kinds."""

    fault: str
    kinds: tuple[str, ...]
    outcome: Outcome
    why: str = ""


def _refused(cause: Cause, phase: Phase, *logs: str, status: int = 502) -> Outcome:
    """The gateway answers, the client may go on."""
    return Outcome(status, cause, phase, logs=logs)


def _cut(cause: Cause, *logs: str) -> Outcome:
    """Too late for another answer."""
    return Outcome(200, cause, Phase.BODY, whole=False, client=Kept.CLOSED, logs=logs)


def _goes_on(outcome: Outcome) -> Outcome:
    """The same, where other requests may be on the backend's connection."""
    return replace(outcome, backend=Kept.REUSED)


_WARNED: Final = ("cgi", "fastcgi", "scgi", "uwsgi", "ajp", "wsgi")
_ASGI: Final = ("asgi-trio", "asgi-asyncio")
_BEHIND: Final = ("cgi", *SOCKETS)
_ALL_SOCKETS: Final = (*SOCKETS, SHARED)

_TERMINATED: Final = _refused(Cause.TERMINATED, Phase.FIRST_BYTE)
_GARBAGE: Final = _refused(Cause.MALFORMED, Phase.HEAD)
_LARGE: Final = _refused(Cause.HEAD_TOO_LARGE, Phase.HEAD)
_FAILED: Final = _refused(Cause.FAILED, Phase.RUN, "application failed", status=500)
_PASSED_ON: Final = Outcome(200, backend=Kept.REUSED)
_GONE: Final = Outcome(499, whole=False, client=Kept.CLOSED)
_GONE_MEANWHILE: Final = Outcome(200, whole=False, client=Kept.CLOSED)

_LONGER: Final = "the response is longer than its Content-Length"
_RAISES: Final = "An exception before the response is a 500, as in every Python server."
_END: Final = "Without a length the end of output ends the body (RFC 3875 6): nginx cannot tell either."

ROWS: Final = (
    # Nobody there
    Row("refused", SOCKETS, _refused(Cause.REFUSED, Phase.CONNECT)),
    Row("unreachable", SOCKETS, _refused(Cause.UNREACHABLE, Phase.CONNECT)),
    Row("full", SOCKETS, _refused(Cause.CONNECT_TIMEOUT, Phase.CONNECT, status=504)),
    # No answer
    Row("silent", _BEHIND, _refused(Cause.READ_TIMEOUT, Phase.FIRST_BYTE, status=504)),
    Row("cut", _ALL_SOCKETS, _TERMINATED),
    Row("cut", ("cgi",), _refused(Cause.TERMINATED, Phase.FIRST_BYTE, "CGI program failed")),
    Row("cut", PYTHON, _FAILED, _RAISES),
    Row("reset", _ALL_SOCKETS, _TERMINATED),
    Row("empty", ("cgi", "scgi", "uwsgi", "http"), _TERMINATED),
    Row("empty", ("fastcgi",), _refused(Cause.TERMINATED, Phase.HEAD), "END_REQUEST has come."),
    Row("empty", ("ajp",), _GARBAGE, "End Response has come, where only the head may."),
    Row("empty", ("wsgi",), _FAILED, "PEP 3333: start_response must be called."),
    Row(
        "empty",
        _ASGI,
        _refused(Cause.FAILED, Phase.RUN, "pathsend is not offered any more", status=500),
        "It has only returned, twice: no traceback.",
    ),
    Row(
        "stderr",
        ("cgi",),
        _refused(Cause.TERMINATED, Phase.FIRST_BYTE, "application stderr", "CGI program failed"),
    ),
    Row("stderr", ("fastcgi",), _refused(Cause.TERMINATED, Phase.HEAD, "application stderr")),
    # No whole head
    Row("cut-head", (*_BEHIND, SHARED), _refused(Cause.TERMINATED, Phase.HEAD)),
    Row("cut-head", PYTHON, _FAILED, "The head waits for the body, so that this is a 500 still."),
    Row("garbage", _BEHIND, _GARBAGE),
    Row("garbage", PYTHON, _FAILED, _RAISES),
    Row("no-records", ("fastcgi", SHARED), _GARBAGE),
    Row("large-head", ("cgi", "fastcgi", "scgi", "uwsgi", "http"), _LARGE, "One of AJP fits in its packet."),
    # No whole body
    Row("cut-body", (*KEEPING, SHARED), _cut(Cause.INCOMPLETE)),
    Row("cut-body", ("scgi", "uwsgi"), Outcome(200), _END),
    Row("cut-body", ("cgi",), _cut(Cause.INCOMPLETE), "A signal has ended it, and it has said no length."),
    Row("cut-body", PYTHON, _cut(Cause.INCOMPLETE, "application failed")),
    Row("reset-body", _ALL_SOCKETS, _cut(Cause.TERMINATED)),
    Row("stalls", _BEHIND, _cut(Cause.READ_TIMEOUT)),
    Row("short", (*_BEHIND, *_ASGI), _cut(Cause.INCOMPLETE)),
    Row("short", ("wsgi",), _cut(Cause.INCOMPLETE, "the response is shorter than its Content-Length")),
    # Too much of it
    Row("long", _WARNED, Outcome(200, logs=(_LONGER,)), "As nginx does: what was promised."),
    Row("long", ("http",), Outcome(200), "Behind a whole response nothing belongs to it (RFC 9112 9.2)."),
    Row("long", _ASGI, _refused(Cause.MALFORMED, Phase.BODY), "send() raises, as in Uvicorn and Hypercorn."),
    # Sooner than the request
    Row("early", KINDS, Outcome(413, client=Kept.CLOSED)),
    # The client has gone: while its body is awaited, while the backend thinks, while it answers, and then
    Row("unread", KINDS, _GONE),
    Row("waits", (*_BEHIND, *_ASGI), _GONE),
    Row("endless", KINDS, _GONE_MEANWHILE),
    Row("fine", (*KINDS, SHARED), _PASSED_ON),
    # What is the failure of one request on a connection with others (FCGI-16)
    Row("silent", (SHARED,), _goes_on(_refused(Cause.READ_TIMEOUT, Phase.FIRST_BYTE, status=504))),
    Row("empty", (SHARED,), _goes_on(_refused(Cause.TERMINATED, Phase.HEAD))),
    Row("stderr", (SHARED,), _goes_on(_refused(Cause.TERMINATED, Phase.HEAD, "application stderr"))),
    Row("garbage", (SHARED,), _goes_on(_GARBAGE)),
    Row("large-head", (SHARED,), _goes_on(_LARGE)),
    Row("stalls", (SHARED,), _goes_on(_cut(Cause.READ_TIMEOUT))),
    Row("short", (SHARED,), _goes_on(_cut(Cause.INCOMPLETE))),
    Row("long", (SHARED,), _goes_on(Outcome(200, logs=(_LONGER,)))),
    Row("early", (SHARED,), _goes_on(Outcome(413, client=Kept.CLOSED))),
    Row("unread", (SHARED,), _goes_on(_GONE)),
    Row("waits", (SHARED,), _goes_on(_GONE)),
    Row("endless", (SHARED,), _goes_on(_GONE_MEANWHILE)),
)  # fmt: skip


def told(outcome: Outcome, backend: str) -> bytes:
    """The Proxy-Status field of a failure (RFC 9209)."""
    assert outcome.cause is not None
    assert outcome.phase is not None
    failure = BackendError(outcome.cause, "", backend=backend, address="", phase=outcome.phase)
    details = f"{outcome.phase.value}: {failure_of(failure).detail}"
    return f'gateway; error={outcome.cause.value}; next-hop="{backend}"; details="{details}"'.encode()


def cases() -> Iterator[tuple[str, str, Outcome]]:
    """Fault, kind and outcome, each kind by itself."""
    for row in ROWS:
        for kind in row.kinds:
            yield row.fault, kind, row.outcome
