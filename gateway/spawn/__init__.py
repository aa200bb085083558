"""Applications that the gateway starts itself and keeps alive.

::

    application  the lifetime of all: what is started, stopped, replaced; what requests wait for
    processes    follows each process from its start to its end
    schedule     decides how many, when, and which
    process      one running process: its end, what it reports
    output       what it writes, to the log
    command      what is run, in which environment
    endpoint     where the application listens: a socket of the gateway's, or its own
    place        whose the place is, of two workers; turn: the locks by which they agree
    home         the directories of sockets

A process that ends is started again, after a pause that doubles while they keep ending soon. When none is
alive and none will be soon, nothing waits: requests are refused, those in the backlog are turned away. At
the end each process gets the stop signal, a time, and SIGKILL with its group, and is reaped; the socket's
directory is removed.

When the gateway is killed itself (SIGKILL), the server processes for *wsgi* applications end by themselves; a
command gets its stop signal from the kernel.

It does not know what the processes speak; `gateway.backends` talks to the address.
"""

from gateway.programs.restarts import GiveUp
from gateway.spawn.application import Protocol, SpawnedApplication
from gateway.spawn.schedule import Processes, Recycling

__all__ = ["GiveUp", "Processes", "Protocol", "Recycling", "SpawnedApplication"]
