"""The daemon: what stands between clients and applications.

The way of a request, by module::

    listener ─► front/ ─► request ─► router ─► filters/ ─► static/, actions, connect/
                                                   └─────► backends/ ─► upstream/ ─► protocols/ ─► application

Connections:

    protocols/   codecs without I/O: bytes in, events out
    net/         the pump, which waits for all sockets of a worker, and its streams; addresses and names
    tls/         TLS on listeners and to servers: certificates, handshakes, what they tell

A request, and what is made of it:

    backend      what answers one: a handler; and with a lifetime, a backend
    target       the one form of a path; path_pattern: what routes compare it with
    networks     sets of clients by address, for routes and trusted proxies
    template     texts with placeholders, for redirects, answers, fields and variables
    environ      its CGI variables, for CGI, FastCGI, SCGI, uwsgi, AJP and WSGI
    spool        request bodies of unknown length, stored until they end
    slots        how much of a backend runs at the same time, and who waits
    passing      the Responder that filters of responses are made of
    derived      requests that the gateway makes from a client's
    local_redirect  the answer of a program that is another path of this server
    references   the fields by which a response names a file, or such a path

What goes wrong, and what is told of it:

    errors       what can go wrong, and whose fault it is; stacks: where, in the words of a traceback
    failure/     the one place where it becomes a response, and in which form
    logs/        events and the access log; logger: whose they are; escape: what of others is printed in them

What makes and runs it all:

    cli/         the commands and their options
    config/      the YAML file as frozen models, all mistakes at once, with their lines
    reading      a file at once, or not at all
    build/       makes what runs of the configuration
    daemon       opens listeners and backends, stops them from the inside out
    listener     listening sockets; connections: those of clients, to their end
    supervisor/  workers, one or several, replaced without a gap; turns: the file that they share
    shutdown/    the end of a process: its signals, its steps, who is told of it
    control/     the socket for gateway status, reload and stop, and metrics
    runtime/     what a process has of Python and of the system, and its watchdog

Programs and applications:

    programs/    the start, life and end of a program, its user and limits
    spawn/       applications that the gateway starts itself; appserver/ serves WSGI ones in them
    hosted/      WSGI and ASGI applications in processes of their own: this gateway once more
    loading      finds module:attribute; virtualenv: packages of a virtual environment

What takes a millisecond to import, and few configurations use, is imported by the function that uses it;
models of the configuration by `config.on_use`. tests/gateway/test_start.py has the list.
"""

__version__ = "0.1.0"
