"""What is raised inside applications when their client can no longer be read from or written to.

All are OSErrors, which servers are free to raise there and frameworks know how to end on.
"""


class ClientDisconnected(ConnectionError):
    """The client has gone: raised by ASGI's ``send``, and by WSGI's ``write`` and ``wsgi.input``."""


class BodyFailed(OSError):
    """The client's body is malformed, late or too large: raised by ``wsgi.input``."""
