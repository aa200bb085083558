"""One module per way to connect a web application; all answer through `gateway.backend.Backend`.

::

    cgi         a program per request (RFC 3875)
    fastcgi     sockets of a FastCGI application, pooled where it keeps them open
    scgi        a socket per request, netstring head
    uwsgi       a socket per request, uwsgi variable block
    http        any web server, keep-alive pool
    wsgi        a Python application in threads of this process
    asgi        a Python application on this process's loop, trio or asyncio

Applications that the gateway starts itself (``spawn``) are `gateway.supervisor`'s; the backends above
only see the address of their socket.
"""
