"""The front of HTTP/1.1 and 1.0 (RFC 9112): one request after the other on a connection.

``connection``  one loop, one turn of it per request
``body``        the request body, pulled as the handler reads it
``responder``   the Responder: framing, queueing, sending
``upgrade``     the switch to another protocol, or CONNECT, and the bytes both ways behind it
"""

from gateway.front.http1.connection import Http1Connection

__all__ = ["Http1Connection"]
