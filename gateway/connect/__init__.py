"""Tunnels to servers that clients name themselves: CONNECT (RFC 9110 9.3.6), where a route allows it.

::

    CONNECT host:port ─► handler ─► allowed? ─► resolver ─► allowed? ─► upstream.dial ─► 200
                                                                        upstream.tunnel ◄─┘

``allowed``  which hosts, addresses and ports: nothing but what is named
``handler``  one request, from the target to the end of its tunnel
"""
