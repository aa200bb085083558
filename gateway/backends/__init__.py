"""One module per way to connect a web application; all answer through `gateway.backend.Backend`.

::

    cgi         a program per request (RFC 3875)
    application FastCGI, SCGI and uwsgi applications behind sockets: one backend, three codecs
    ajp         servlet containers: the same with AJP
    target      what an upstream that is asked by path is asked for
    script      the script file of a path, for applications that have a document root
    http        any web server, keep-alive pool
    wsgi        a Python application in threads of this process
    asgi        a Python application on this process's loop, trio or asyncio
    load        finds the Python application that module:attribute names

Applications that the gateway starts itself (``spawn``) are `gateway.supervisor`'s; the backends above
only see the address of their socket.
"""
