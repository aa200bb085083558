"""Sans-I/O codecs of the protocols between web servers and applications: bytes in, events out.

No sockets, no trio, no clock, no logging in here; a test imports the package with trio blocked.

====================  ====================================================================
``events``            the shared vocabulary of all codecs
``errors``            what a codec may raise, by whose fault it is
``memo``              what the same bytes meant the last time
``codec``             the surface: ``send``, ``receive_data``, ``next_event``
``buffer``            the receive buffer
``grammar``           what all have in common: tokens, numbers, what breaks a field
``cgi``               the CGI response (RFC 3875 section 6), shared by CGI, FastCGI, SCGI, uwsgi
``variables``         the variables of a request, whatever carries them
``fastcgi``           FastCGI 1.0, both roles
``single``            what SCGI and uwsgi share: one request per connection, ended by its close
``scgi``              SCGI, both roles
``uwsgi``             the uwsgi packet protocol, both roles
``ajp``               AJP/1.3, both roles
``http1``             HTTP/1.1 (RFC 9112) over httptools, both roles
``websocket``         WebSocket (RFC 6455) over wsproto, the server's side
``http2``             HTTP/2 (RFC 9113), the server's role
``proxy_protocol``    the PROXY header (versions 1 and 2) in front of a connection
``forwarded``         X-Forwarded-* and Forwarded (RFC 7239)
``hop_by_hop``        the fields that end with a connection
``lists``             comma-separated lists in fields
``trailers``          which trailer fields may pass, for all HTTP
``reasons``           the reason phrases of statuses
====================  ====================================================================

A member of an Enum takes 50 ns to find on its class (CPython 3.11), more than what is then done with it:
those that each request needs many times are globals, here and elsewhere.
"""
