"""WSGI applications (PEP 3333) inside the daemon, in persistent worker threads.

::

    from_options  makes the backend of plain options
    backend   one application: loads it, makes the environ, answers through the Responder
    threads   the worker threads, and the one wake-up that brings their results back
    call      one call of the application: the thread's half of the conversation
    stuck     calls that take very long are told about
    head      checks what start_response is given and turns it into header fields
    input     wsgi.input for a body that has not arrived whole
    websocket WebSockets that the application speaks itself, on a socket in its environ
    streams   wsgi.errors and wsgi.file_wrapper
"""

from gateway.backends.wsgi.backend import WsgiBackend

__all__ = ["WsgiBackend"]
