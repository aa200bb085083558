"""The daemon: what stands between clients and `protocols`.

The way of a request, by module::

    listener ─► front/ ─► request ─► router ─► filters/ ─► static/, actions
                                                   └─────► backends/ ─► upstream/ ─► protocols ─► application

    pump        one epoll for all connections; their tasks parked, woken with the bytes
    networks    sets of clients by address, for routes and trusted proxies
    environ     the CGI variables of a request, for CGI, FastCGI, SCGI, uwsgi, AJP and WSGI
    intake      which request bodies a backend takes
    spool       those of unknown length, stored until it is known
    confinement the user and the limits of programs that the gateway starts; process: their life
    failure     the one place where a failure becomes a response; failure_pages, negotiation: in which form
    config/     the YAML file as frozen models, all mistakes at once, with their lines
    build       makes what runs of the configuration; build_routes the routes and their filters
    daemon      opens listeners and backends, stops them from the inside out
    spawn/      applications that the gateway starts itself; appserver/ serves WSGI ones in them
    loading     finds module:attribute
    control/    the control socket and metrics: how a running daemon is looked at
    logs        events and the access log
    cli         the commands
"""

__version__ = "0.1.0"
