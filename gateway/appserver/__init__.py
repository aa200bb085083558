"""Serves a WSGI application in a process of its own, on the listening socket that it inherits.

`gateway.spawn` starts it as ``python -m gateway.appserver PROTOCOL module:attribute``; it is no
command for people, and knows nothing of the daemon. ::

    __main__    loading, signals
    arguments   the part of the command line that `gateway.hosted` has, too
    bootstrap   runs it by the Python of a virtual environment
    checked     what the application says in start_response
    report      tells the supervisor that it is ready, or has served enough
    listener    accepts connections on descriptor 0 until SIGTERM, lets what runs finish
    polling     waits for sockets, however many there are
    flup        FastCGI and SCGI, by the library of that name
    uwsgi       uwsgi, by our own codec

Threads, not trio: a WSGI application blocks (PEP 3333).
"""
