"""AJP/1.3, both roles: the web server's (:class:`AjpClient`) and the container's (:class:`AjpServer`).
Sections are those of https://tomcat.apache.org/connectors-doc/ajp/ajpv13a.html.

===============  ==========================================================================
``packets``      the packet format, its data types, and the reader that cuts a stream into packets
``request``      Forward Request: CGI variables to and from its fields, headers and attributes
``response``     Send Headers and the other messages of a container
``client``       the web server: sends a request, receives a response
``server``       the container: receives a request, sends a response
===============  ==========================================================================

What AJP has no field for comes from variables whose names begin with ``AJP_``, as in Apache: they are request
attributes, without that prefix.
"""

from gateway.protocols.ajp.client import AjpClient
from gateway.protocols.ajp.packets import CPING_PACKET, CPONG_PACKET, DEFAULT_PACKET_SIZE, LARGEST_PACKET_SIZE
from gateway.protocols.ajp.request import check_size, is_told
from gateway.protocols.ajp.server import AjpServer

__all__ = [
    "CPING_PACKET",
    "CPONG_PACKET",
    "DEFAULT_PACKET_SIZE",
    "LARGEST_PACKET_SIZE",
    "AjpClient",
    "AjpServer",
    "check_size",
    "is_told",
]
