"""Processes that serve, replaced without a gap: they share the listening sockets of one supervisor.

::

                     ┌─ signals, control socket, changed files
    supervisor ──────┤
      │ sockets      └─► generation ─► worker process ══channel══ worker ─► gateway.daemon.work
      │                     │              └─ restarted when it dies
      └─ the same to all    └─ one for each configuration; the next is ready before the last retires

``supervisor``  the lifetime of all: generations follow each other, and end
``generation``  the workers of one configuration, all at once; restarts
``process``     one worker as the supervisor sees it
``worker``      the same process from within; ``__main__`` loads it
``standby``     workers that have loaded the gateway, and wait to be told what to be
``channel``     what the two say to each other
``sockets``     which listening sockets stay, are opened and closed when the configuration changes
``share``       what one of several workers gets of what is bounded for all
``watch``       changes of files, for --reload
``totals``      what all workers do, added up
``control``     the control socket and the listeners of metrics
``all_workers`` what they tell

A worker is a new interpreter, not a fork: what it loads is what is in the files now.

All workers accept on the same sockets, so that a connection which waits is taken by whoever is there. With
a socket for each (SO_REUSEPORT) the kernel would spread connections more evenly, but those that wait at a
worker would be lost with it, at each reload; and they would wait for it while others have nothing to do.
Each connection wakes all workers that wait; those that come too late have spent some 30 µs, and they had
nothing to do. (EPOLLEXCLUSIVE would wake one, but is not passed on by an epoll that is waited for by another,
and wakes mostly the same one.)

The supervisor's own end: SIGTERM, SIGINT and SIGQUIT let all workers finish, a second one hurries them. When
it is killed, workers see the end of their channel and finish by themselves.
"""
