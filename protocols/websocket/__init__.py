"""WebSocket (RFC 6455), the server's side after the handshake, and the facts of the handshake itself.

====================  ====================================================================
``handshake``         key, accept value, subprotocols: plain functions
``deflate``           permessage-deflate (RFC 7692): negotiation, bounded inflating
``server``            `WebSocketServer`: messages in, messages out, over wsproto
====================  ====================================================================
"""

from protocols.websocket.deflate import Deflate, negotiate
from protocols.websocket.handshake import accept_value, is_key, offered_subprotocols
from protocols.websocket.server import ABNORMAL, NO_STATUS, Closed, Pong, WebSocketServer, is_close_code

__all__ = [
    "ABNORMAL",
    "NO_STATUS",
    "Closed",
    "Deflate",
    "Pong",
    "WebSocketServer",
    "accept_value",
    "is_close_code",
    "is_key",
    "negotiate",
    "offered_subprotocols",
]
