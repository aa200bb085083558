"""Talking to applications behind sockets: FastCGI, SCGI, uwsgi and HTTP upstreams.

::

    backend ─► upstream ─► pool (an idle connection, or dial a new one) ─► exchange (codec ⇄ stream)

``upstream``   the addresses of one backend, whose turn it is, and the one repair of a stale connection
``dial``       connects, within a deadline
``pool``       idle connections of one address, kept where the protocol allows it
``exchange``   drives any client codec: request out, response in, failures typed
``stderr``     the error stream of an application during one exchange
``tunnel``     what becomes of a 101: bytes both ways between client and upstream
"""
