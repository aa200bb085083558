"""What can go wrong with TLS on a stream.

Not compiled, unlike the stream: mypyc lays out a class that inherits from one of a library wrongly.
"""

import trio


class NotTlsError(Exception):
    """The peer does not speak TLS. *received* is what it sent instead."""

    def __init__(self, received: bytes) -> None:
        super().__init__("the peer does not speak TLS")
        self.received = received


class TlsBrokenError(trio.BrokenResourceError):
    """TLS failed after the handshake; *alert*: because the peer says so (RFC 8446 6)."""

    def __init__(self, reason: str, *, alert: bool = False) -> None:
        super().__init__(reason)
        self.alert = alert
