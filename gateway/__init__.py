"""The daemon: everything that touches trio.

The way of a request, by module::

    listener ─► front/ ─► request ─► router ─► static, redirect, respond
                                        └────► backends/ ─► (protocols/) ─► the application

    pump        one epoll for all sockets; connection tasks parked, woken with their bytes
    config/     the YAML file as frozen models, all mistakes at once, with their lines
    daemon      opens listeners and backends, stops them from the inside out
    cli         the commands
"""

__version__ = "0.1.0"
