"""WebSockets as ASGI 3.0 sees them.

``handshake``  whether a client's offer is right
``exchange``   receive and send of one connection, and the task that reads for it
``inbox``      what has arrived for the application
``clock``      when a ping, a pong, or the end is due
``messages``   what applications send, checked
``output``     the way to the client
"""
