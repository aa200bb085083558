"""One module per way to connect a web application; all answer through `gateway.backend.Backend`.

::

    cgi         a program per request (RFC 3875)
    application FastCGI, SCGI and uwsgi applications behind sockets: one backend, three codecs
    ajp         servlet containers: the same with AJP
    intake      which request bodies those with CGI variables take, and WSGI applications
    target      what an upstream that is asked by path is asked for; forwarded: what it is told of the client
    probe       what health checks ask for; max_forwards: what the gateway answers as the last hop
    script      the script file of a path, for applications that have a document root
    http        any web server, keep-alive pool
    wsgi        a Python application in threads of this process
    asgi        a Python application on this process's loop, trio or asyncio
    python      makes the last two of plain options, here or in a process of their own (`gateway.hosted`)
    load        finds the Python application that module:attribute names; start_watch: tells if it takes long
    called      whether it can be called as one of its kind
    disconnect  what is raised inside applications when their client has gone

Applications that the gateway starts itself are `gateway.spawn`'s; the backends above only see the address of
their socket.
"""
