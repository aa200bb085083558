"""The beginning of a TLS connection: the handshake, and what happens to clients that do not get further.

Promises: whatever a client does, nothing of it is left after ``timeouts.handshake`` and the time that closing
in stages takes (`linger`); a failure is the client's affair and logged as such (`info` with OpenSSL's reason;
`debug` for silence and for clients that leave). A client that speaks HTTP in clear text is told so, as nginx
does (its status 497).
"""

import socket
from contextlib import suppress
from ssl import SSLError
from typing import TYPE_CHECKING, Final

import trio

from gateway.failure.response import plain_response
from gateway.front.linger import linger
from gateway.front.service import Service
from gateway.logger import get_logger
from gateway.protocols.http1 import encode_response_head
from gateway.request import Address
from gateway.tls.errors import NotTlsError
from gateway.tls.stream import TlsStream, reason_of

if TYPE_CHECKING:
    from gateway.tls.context import Certificates

log = get_logger()

_METHODS: Final = (b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI ")


class TlsHandshake:
    """One handshake. `serve` it; then ``completed`` has the stream."""

    idle = True
    """Nothing is being answered."""
    running = ()

    def __init__(
        self, sock: socket.socket, certificates: "Certificates", service: Service, *, client: Address
    ) -> None:
        self.stream = TlsStream(service.pump, sock, certificates.context)
        """Whoever makes this lets it be watched."""
        self._service = service
        self._client = client
        self.completed: TlsStream | None = None

    async def serve(self) -> None:
        """Agree with the client, or end the connection. Lets nothing out but cancellation."""
        stream = self.stream
        try:
            await stream.handshake(self._service.timeouts.handshake)
            self.completed = stream
        except NotTlsError as spoken:
            self._log("clear text on a TLS port")
            await self._refuse(_answer_to(spoken.received))
        except SSLError as failure:
            # A TlsSession, whose module takes long to load.
            reason = getattr(stream.session, "refusal", "") or reason_of(failure)
            log.info("handshake failed", client=self._client and self._client[0], reason=reason)
            await self._refuse(b"")
        except trio.TooSlowError:
            self._log("handshake not completed in time")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as gone:
            self._log(str(gone))
        finally:
            if self.completed is None:
                stream.close()

    def retire(self) -> None:
        """Another process takes over; the request that is to come is answered."""

    def drain(self) -> None:
        """The daemon is stopping: nothing was asked yet."""
        self.stream.close()

    def _log(self, reason: str) -> None:
        log.debug("no handshake", client=self._client and self._client[0], reason=reason)

    async def _refuse(self, answer: bytes) -> None:
        """Send *answer* in clear text, and read on, so that a reset does not eat it, or the alert."""
        stream = self.stream
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            stream.try_send(answer)
            await linger(stream, self._service)


def _answer_to(received: bytes) -> bytes:
    """For a request in clear text, 400; nothing for what is not HTTP."""
    if not received.startswith(_METHODS):
        return b""
    failure = plain_response(400, "this port is for HTTPS: the request came in clear text")
    headers = [
        *failure.headers,
        (b"content-length", b"%d" % len(failure.body)),
        (b"connection", b"close"),
    ]
    return encode_response_head(failure.status, b"", headers) + failure.body
