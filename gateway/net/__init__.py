"""Sockets: how the tasks of a worker wait for them, and what they are connected to.

::

    pump ─► stream ─► task          what has come
    task ─► stream ─► outbox ─► …   what is written

``pump``        one epoll for all connections and pipes; their tasks parked, woken with what has come
``io_manager``  trio's loop waits in that epoll
``resumption``  who is woken goes on at once, without a turn of trio's loop
``stream``      a connection of it
``outbox``      what is written in one turn of the loop leaves together
``doorbell``    how another thread tells of something
``address``     where a connection leads
``resolver``    names of servers to their addresses, and how long that holds
"""
