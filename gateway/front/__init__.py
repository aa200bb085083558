"""The fronts: one per protocol that clients speak. Each turns bytes into Requests and answers them.

``entrance``      from an accepted socket to the connection that serves it
``proxy_header``  the PROXY header in front of a connection
``tls_handshake`` the beginning of a TLS connection, and clients that do not get further
``http1/``        HTTP/1.1 and 1.0 connections
``http2/``        HTTP/2 connections
``duplex``        what tunnels have in common, whatever version of HTTP they came by
``linger``        the end of a connection whose client may still be sending
``service``       what every front shares: the router, limits, timeouts, and how failures are answered
``fields``        the fields of a response that are the gateway's own
``pieces``        files that go through our own memory
``proxies``       whom a request comes from, if a trusted proxy says so
``caps``          how many connections there may be
``patience``      how long a client may keep the gateway waiting
``hsts``          the field by which clients are told to come back by https only
"""
