"""The configuration of backends: a kind is a class, found by its key.

``fastcgi: …`` makes a :class:`gateway.config.backends.application.FastCGIBackend`::

    common       what several kinds have in common
    destination  servers, or an application to spawn
    cgi          programs started for each request
    application  applications behind FastCGI, SCGI and uwsgi
    ajp          servlet containers
    http         web servers
    python       ASGI and WSGI applications, inside the daemon or in processes of their own
    process      the part of them about processes of their own
    kinds        all of them: which one a mapping is
"""
