"""The fronts: one per protocol that clients speak. Each turns bytes into Requests and answers them.

``http1``      HTTP/1.1 and 1.0 connections
``response``   the Responder of HTTP/1.1: framing, queueing, sending
``http2``      HTTP/2 connections
``body``       the request body of HTTP/1.1
``upgrade``    the switch from HTTP/1.1 to another protocol, and the bytes both ways behind it
``service``    what every front shares: the router, limits, timeouts, and how failures are answered
"""
