"""FastCGI 1.0, both roles: the web server's (:class:`FastCgiClient`) and the application's
(:class:`FastCgiServer`). Sections are those of the FastCGI Specification, version 1.0.

================  =========================================================================
``records``       the record format (section 3.3, 8) and the reader that cuts a stream into records
``variables``     name-value pairs (3.4): PARAMS, GET_VALUES
``client``        the web server: sends a request, receives a response
``multiplex``     several requests on one connection, for as many clients
``server``        the application: receives a request, sends a response
``capabilities``  what an application tells of itself: the answer to GET_VALUES (4.1)
================  =========================================================================
"""

from gateway.protocols.fastcgi.capabilities import GET_CAPABILITIES, Capabilities, capabilities_of
from gateway.protocols.fastcgi.client import NOT_FOR_AUTHORIZERS, FastCgiClient, authorizer_variables
from gateway.protocols.fastcgi.records import AbortRequest, FilterData, Role
from gateway.protocols.fastcgi.server import FastCgiServer
from gateway.protocols.fastcgi.variables import decode_pairs, encode_get_values, encode_pairs

__all__ = [
    "GET_CAPABILITIES",
    "NOT_FOR_AUTHORIZERS",
    "AbortRequest",
    "Capabilities",
    "FastCgiClient",
    "FastCgiServer",
    "FilterData",
    "Role",
    "authorizer_variables",
    "capabilities_of",
    "decode_pairs",
    "encode_get_values",
    "encode_pairs",
]
