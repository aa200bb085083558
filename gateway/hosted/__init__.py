"""Python applications in processes of their own (`process: own`): what happens to them happens to no other.

The process is this gateway once more, without configuration and routes: it has the same backends, WSGI's
threads and ASGI's loops, behind a Unix socket. The gateway's own process keeps the clients, the routes and
the filters::

    client ─► front ─► router ─► HostedBackend ─► SpawnedUpstream ══ Unix socket ══► front ─► Inside ─► WSGI,
                                                         │                                              ASGI
                                                  SpawnedApplication: starts, watches, recycles

    backend    the gateway's side: a request as it goes to the process, and its failures as they come back
    told       what each side tells the other, as fields of HTTP/1.1
    options    what the process is started with, and the backend that it makes of it
    server     the process: accepts on the sockets that it inherits, until it is to stop
    inside     its handler: the request as the gateway has told it
    command    its command line

Between the two goes HTTP/1.1, for what it carries both ways already: bodies as they come, with back-pressure,
100 (Continue), early hints, trailers, WebSocket after an upgrade. All other facts go as they are in fields of
our own, so that an application sees the same request as if it ran in the gateway's process.

Where there are several processes, each has a socket of its own, too, so that the gateway can give a request
to the one that has the fewest (`gateway.upstream.seats`). Whoever accepts on a common socket keeps what it
has taken, and the connections on which more will come: it had most of the requests, while others had none.
The common one is for what comes while none of them is there.

Nobody else can connect: the sockets are in a private directory.
"""
