"""Talking to applications behind sockets: FastCGI, SCGI, uwsgi and HTTP upstreams.

::

    backend ─► upstream ─► group: choose a server ─► pool (an idle connection, or dial a new one) ─► exchange
                 ▲  │           ▲                                                        (codec ⇄ stream)
                 │  │           └── health ◄──────────── what became of it ◄───────────────────┤
                 │  └─► queue, hold: wait                                                      │
                 └───────── retry: another server? ◄───────────────────────────────────────────┘

    check ─► dial ─► a question of its own ─► health

``upstream``   one request: which server, a try, and what then
``spawned``    the same for applications that the gateway has started
``upkeep``     what goes on beside the requests: names, checks, capabilities, idle connections
``tries``      what became of the tries of one request
``group``      the servers of one backend: who may be chosen, who is ejected
``balance``    how one of several is chosen; plain functions
``sticky``     clients that stay with their server by a cookie
``server``     one server: its connections, the requests in flight, its latency
``health``     whether it is up, from what became of its requests; a plain state machine
``names``      servers that are known by name, and come and go
``check``      active health checks: each server is asked now and then
``capabilities``  what FastCGI applications tell of themselves: each server is asked at the start, and again
``retry``      whether there is another try after a failure; a plain decision
``lookout``    whether a server that keeps a request waiting is frozen
``replay``     request bodies that can be sent twice
``queue``      requests that wait for a connection; first come, first served
``hold``       requests that wait for a server to come back
``pool``       idle connections of one server, kept where the protocol allows it
``shared_pool``  as ``pool``, where several requests may be on a connection at the same time
``seats``      as ``pool``, where several processes each have a socket of their own
``multiplex``  such a connection, and what each of its requests sees of it
``ping``       whether an idle connection is alive, where the protocol can ask
``dial``       connects, within a deadline
``proxy_header``  the PROXY header that a connection begins with, if it is to
``exchange``   drives any client codec: request out, response in, failures typed
``terms``      what holds for all exchanges with one backend
``outcome``    what one may come to beside an answer and a failure
``rewriting``  addresses and cookies in answers of web servers, as clients have to see them
``switch``     what becomes of a 101
``tunnel``     bytes both ways between a client and a server, behind a 101 or CONNECT
"""
