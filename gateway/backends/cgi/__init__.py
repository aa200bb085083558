"""CGI: a program per request (RFC 3875).

A request's path is split where the program is found (SCRIPT_NAME | PATH_INFO), the request body streams
into its standard input, its output streams out as the response, its standard error goes to the log.

::

    backend        a directory of programs, or one: answers requests by them
    program        finds the program of a request
    indexed_query  its arguments, where the query may be some
    environment    what variables it sees
    exchange       one running program with its three pipes
    progress       the wait for it, while it may be idle
    transcript     exchanges written down, for who debugs them

Promises:

* The program sees the CGI variables, PATH, and the configured variables; of our environment what is named.
* The response ends when the program closes its output (RFC 3875 6.1). Then it has ``timeout`` to exit.
* ``timeout`` is for inactivity: no byte in or out for that long. Waiting for the client does not count.
* On timeout, client abort and shutdown its process group gets SIGTERM, and SIGKILL after ``kill_after``;
  it is always reaped. What it left behind on a normal end (in its group, without its output) stays.

Without being told to, it does not run anything that is not executable, look into file types, or pass a query
as arguments (RFC 3875 4.4 is a hole older than the web's memory of it: CVE-2012-1823).
"""

from gateway.backends.cgi.backend import CgiBackend

__all__ = ["CgiBackend"]
