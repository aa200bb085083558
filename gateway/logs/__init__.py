"""Logs: events of the gateway and of the applications in it, and the access log.

On a terminal they are lines to read, with colours; elsewhere JSON, one object a line. Times are ISO 8601
in UTC.

Promises: whatever a client or an application puts into a value, an entry is one line (a traceback is
indented below its entry) without control characters: nobody can forge an entry or talk to the operator's
terminal. Each entry is written at once, so none is lost when the daemon ends; one that cannot be
written (disk full, reader gone) is dropped, because a log must not stop what it tells about.

``events``  what happens, logged by `gateway.logger`
``bridge``  what applications log by `logging` and `warnings`, and Python: it is passed on to it
``rendering``  what an event looks like
``access``  the access log: a line for each request
``lines``   what programs and applications write to their error streams, cut into lines
``stderr``  what an application writes to its error stream during one request
``output``  in which form, and how an entry is written
"""
