"""The front of HTTP/2 (RFC 9113): many requests at a time on one connection.

``connection``  reads, has each stream answered in a task, ends in order
``stream``      one request and what belongs to it
``tasks``       the tasks, which answer one stream after the other
``output``      what streams have to send, in fair turns, as few writes as possible
``body``        the request body, whose credit is given as it is read
``responder``   the Responder of HTTP/2
``tunnel``      CONNECT, extended (RFC 8441) or not: the offer and the bytes both ways
"""

from gateway.front.http2.connection import Http2Connection

__all__ = ["Http2Connection"]
