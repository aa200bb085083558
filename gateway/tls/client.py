"""TLS to a server behind the gateway, connection by connection.

The connections to one server ask for the same name and resume one another's sessions, which saves it a
signature (RFC 8446 2.2). Its certificate is looked at in full handshakes only. Whom to trust: `trust`.
"""

import encodings.idna  # noqa: F401 - how Python writes names for OpenSSL, loaded before descriptors run out
import ssl
from socket import SocketType

from gateway.net.pump import Pump
from gateway.tls.renewal import RenewedContext
from gateway.tls.stream import TlsStream


class ServerTls:
    """TLS to one server."""

    __slots__ = ("_latest", "_name", "_renewed", "_says_end")

    def __init__(
        self, renewed: RenewedContext[ssl.SSLContext], name: str | None, *, says_end: bool = False
    ) -> None:
        """*name* is asked for (SNI, unless it is an address) and has to be in the certificate.

        *says_end* as in `TlsStream`.
        """
        if name is not None:
            name = name.removesuffix(".")  # RFC 6066 3: not even of a name that is complete
        self._renewed = renewed
        self._says_end = says_end
        self._name = name
        self._latest: ssl.SSLObject | None = None

    def stream(self, pump: Pump, sock: SocketType) -> TlsStream:
        """A stream over *sock*; the handshake is still to come."""
        context, latest = self._renewed.context, self._latest
        if latest is not None and latest.context is not context:
            latest = None  # What is trusted now may be another.
        return TlsStream(
            pump,
            sock,
            context,
            server_side=False,
            server_name=self._name,
            resumed=None if latest is None else latest.session,
            says_end=self._says_end,
        )

    def agreed(self, stream: TlsStream) -> None:
        """The handshake of *stream* is done. Later connections resume its session.

        The session is asked for then: the server sends its tickets when it likes (RFC 8446 4.6.1).
        """
        self._latest = stream.session
