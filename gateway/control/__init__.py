"""How a running daemon is looked at and told what to do, over sockets of its own.

::

    gateway status, reload, stop ─► client ─► control socket ─► handlers ─► state of the workers
    Prometheus ───────────────────────────► metrics listener ─► handlers ─► metrics ◄──┘

The supervisor answers (`gateway.supervisor.control`), by asking the workers (`all_workers`). One process
alone has no control socket, and tells its metrics itself (`gateway.daemon`).

``state``     what the worker is doing, as plain values
``metrics``   the same in Prometheus' format
``handlers``  what the control socket and the metrics listener answer
``client``    the other end of the control socket, for the commands
``table``     the state as tables on a terminal
"""
