"""Python applications that speak ASGI, on this process's loop or on an asyncio loop beside it.

::

    from_options  makes it of plain options
    backend     AsgiBackend: imports the application, calls it once per request
    scope       what an application is told of a request, and what it may do besides
    shutdown_wait   how it is told that the daemon stops
    http        receive and send of one request
    messages    what applications send, checked
    websocket/  WebSockets: the handshake, receive and send of one connection
    settings    how those are bounded
    interface   applications of ASGI 2
    django      threads that Django's requests share, one after another
    lifespan    startup and shutdown
    host        where an application runs: the surface, and the worker's own trio loop
    nurseries   what such applications leave open
    entry       the first request of a task of trio, in the context of the application
    guest       an application on an asyncio loop
    crossing    the way of a request into such an application, and back
    errand      what it awaits of trio meanwhile
    stepping    the asyncio loop in the same thread, and the trio task that steps it
"""

from gateway.backends.asgi.backend import AsgiBackend

__all__ = ["AsgiBackend"]
