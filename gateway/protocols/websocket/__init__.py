"""WebSocket (RFC 6455), the server's side after the handshake, and the facts of the handshake itself.

====================  ====================================================================
``handshake``         key, accept value, subprotocols: plain functions
``deflate``           permessage-deflate (RFC 7692): negotiation, bounded inflating
``server``            `WebSocketServer`: messages in, messages out, over wsproto
====================  ====================================================================

They are imported one by one: wsproto, with all that it imports, takes 30 ms to load, and a handshake needs
none of it.
"""
