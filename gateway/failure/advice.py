"""What a developer does next when a request has failed: for pages with ``debug: true``.

Each sentence names a place to look at, or the setting that decides; the facts themselves are beside it.
"""

import errno
from typing import Final, assert_never

from gateway.errors import BackendError, Cause, Phase, TargetError

REFUSALS: Final = {
    408: "timeouts.header and timeouts.body decide how long a client may take.",
    413: "limits.body decides how much clients may send, and max_body how much to one backend.",
    414: "limits.request_line decides how long it may be.",
    431: "limits.headers and limits.header_count decide, and buffer_size for a uwsgi backend.",
}
"""By status: requests that a setting refuses."""

UNROUTED: Final = "The first route that matches answers. Add one for this request, or correct one of these."


def advice_for(error: BackendError) -> str:
    """What to do about *error*, in one or two sentences."""
    if isinstance(error, TargetError):
        return _advice_for_target(error)
    backend = f"backends.{error.backend}"
    match error.cause:
        case Cause.REFUSED:
            return f"Nothing listens at {error.address}: start the application, or correct {backend}."
        case Cause.UNREACHABLE if error.errno in (errno.EACCES, errno.EPERM):
            return (
                f"The gateway's user may not use {error.address}: it must be allowed to write to the socket "
                "and to search the directories above it."
            )
        case Cause.UNREACHABLE:
            return f"Check the address in {backend}, and whether a route and the firewalls lead there."
        case Cause.UNKNOWN_HOST:
            return f"Check the spelling of the host in {backend}, and this machine's name resolution."
        case Cause.UNAVAILABLE if error.phase is Phase.QUEUE:
            return (
                "Start its servers, or mend what their last failures tell of. health of "
                f"{backend} decides when one is left out; gateway status shows them."
            )
        case Cause.UNAVAILABLE:
            return "Its processes end by themselves, and what they said last tells why: mend that."
        case Cause.NOT_STARTED:
            return (
                f"Check that the program of {backend} is there, may be executed, and begins with #! and an "
                "interpreter that is installed."
            )
        case Cause.CONNECT_TIMEOUT:
            return (
                "The application is too busy to accept connections, or something on the way drops them. "
                f"timeouts.connect of {backend} decides how long the gateway waits."
            )
        case Cause.TLS_FAILED:
            return (
                f"Check that {error.address} is a port for TLS, and which versions and ciphers it has: "
                f"openssl s_client -connect shows them; min_version and ciphers in tls of {backend} decide."
            )
        case Cause.TLS_ALERT:
            return (
                "Its own log says why. A server that wants a certificate of the gateway gets the one of "
                f"certificate and key in tls of {backend}."
            )
        case Cause.BAD_CERTIFICATE:
            return (
                f"Renew the certificate of {error.address}, or correct tls of {backend}: ca names the "
                "authority that has signed it, server_name the host that it is for."
            )
        case Cause.READ_TIMEOUT:
            return (
                "See what the application waits for: a database, a lock, another server. If it needs the "
                f"time, allow {backend} more: timeouts.first_byte and timeouts.read; timeout for CGI."
            )
        case Cause.WRITE_TIMEOUT:
            return (
                "The application has stopped reading the request. If it needs the time, allow "
                f"{backend} more: timeouts.send."
            )
        case Cause.TERMINATED | Cause.INCOMPLETE:
            return "The application crashed, was ended, or closed the connection: its own log tells which."
        case Cause.MALFORMED:
            return (
                f"Check that {error.address} speaks the protocol that {backend} is configured for, and that "
                "the application writes nothing before its header fields."
            )
        case Cause.HEAD_TOO_LARGE:
            return "Let the application send fewer or smaller header fields; cookies are the usual ones."
        case Cause.OVERLOADED:
            return (
                "No more can run at a time. See what takes long; then allow more processes, and the gateway "
                "more descriptors (ulimit -n) or memory."
            )
        case Cause.LOOP:
            return f"Let {backend} name another server: this request has been here before."
        case Cause.FAILED if not error.last_words:
            return (
                "The application broke a rule of its interface: it has to answer, or to raise an exception. "
                "Files may be lost in a middleware that knows no http.response.pathsend: drop_extensions of "
                f"{backend} decides."
            )
        case Cause.FAILED:
            return "The end of the traceback names the error, and above it the line that raised it."
        case _:
            assert_never(error.cause)


def _advice_for_target(error: TargetError) -> str:
    """For a server that the client has chosen; most of it is the client's affair."""
    match error.cause:
        case Cause.CONNECT_TIMEOUT:
            return "timeout in connect of the route decides how long the gateway waits."
        case Cause.UNKNOWN_HOST:
            return "Check the spelling of the host, and resolver or this machine's name resolution."
        case Cause.LOOP:
            return "The client asks this gateway to connect to itself."
        case _:
            return ""
