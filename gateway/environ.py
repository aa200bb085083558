"""The CGI variables of a request (RFC 3875 section 4.1), for CGI, FastCGI, SCGI, uwsgi and WSGI.

One pure function, so that all five show an application the same request. Values are native strings as
in PEP 3333: every character stands for one byte (Latin-1).

What is not here belongs to the caller: variables from the configuration (they come on top), those that
need a document tree (PATH_TRANSLATED, SCRIPT_FILENAME, DOCUMENT_ROOT), and each protocol's own
(SCGI, ``wsgi.input``). AUTH_TYPE and REMOTE_USER are there if an authorizer has set them, REMOTE_IDENT never:
the gateway itself authenticates nobody and asks no ident server (RFC 3875 4.1.1, 4.1.10, 4.1.11).
"""

from typing import Final

from gateway import __version__
from gateway.protocols.hop_by_hop import HOP_BY_HOP, named_by
from gateway.request import Address, Connection, Request
from gateway.target import judged_path

SOFTWARE: Final = f"gateway/{__version__}"

# RFC 3875 4.1.16: the version has a dot, so HTTP/2 is written as HTTP/2.0.
_PROTOCOLS: Final = {
    "1.0": "HTTP/1.0",
    "1.1": "HTTP/1.1",
    "2": "HTTP/2.0",
    "3": "HTTP/3.0",
}
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}

# An application that saw Transfer-Encoding would try to decode what is decoded already.
_DROPPED: Final = HOP_BY_HOP | frozenset(
    {
        # RFC 3875 4.1.18: what another variable says already; the length is the caller's to know.
        b"content-length",
        # RFC 3875 9.2: credentials that were meant for the gateway.
        b"proxy-authorization",
        # HTTP_PROXY is read by HTTP libraries as the proxy to use (httpoxy, CVE-2016-5385).
        b"proxy",
    }
)

# Header name -> variable, or None for what is dropped. Clients choose the names: both the number of
# entries and the length of a name are bounded, so at most 64 KiB of names is ever kept.
_variables: dict[bytes, str | None] = {}
_VARIABLES_KEPT: Final = 1024
_NAME_LENGTH_KEPT: Final = 64


def build_environ(
    request: Request,
    *,
    script_name: str,
    path_info: str,
    content_length: int | None,
    pass_authorization: bool = True,
) -> dict[str, str]:
    """The variables of *request*; the dict is the caller's to change.

    *script_name* and *path_info* have the form of ``Request.path``. *content_length* is the number of
    bytes in the body, or None if that is unknown. CONTENT_LENGTH is set if and only if there is a body
    of known length, and a body of no bytes is none (RFC 3875 4.1.2); a protocol that always wants the
    variable adds its own ``0``. Authorization is withheld without *pass_authorization*.
    """
    connection = request.connection
    constant = connection.environ
    if constant is None:
        constant = connection.environ = _of_connection(connection)
    query = request.query.decode("latin-1")
    # As sent (Apache, nginx), but without dot segments: front controllers of php look at nothing else, and
    # some take `/admin/../x` for their `/admin`, which the routes have not judged.
    uri = judged_path(request.raw_path, request.path).decode("latin-1")
    # A copy of the constant part that has room for the rest: cheaper than growing a copy key by key.
    environ = {
        **constant,
        "REQUEST_METHOD": request.method,
        "REQUEST_URI": f"{uri}?{query}" if query else uri,
        "SCRIPT_NAME": native(script_name),
        "PATH_INFO": native(path_info),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": _PROTOCOLS.get(request.version) or f"HTTP/{request.version}",
    }
    if path_info == "*":
        environ["PATH_INFO"] = ""  # RFC 3875 4.1.5: it begins with a slash or is empty; `*` is no path
    if request.host:
        environ["SERVER_NAME"] = request.host
    if content_length:
        environ["CONTENT_LENGTH"] = str(content_length)
    _add_headers(environ, request)
    if not pass_authorization:
        environ.pop("HTTP_AUTHORIZATION", None)
    if request.variables is not None:
        environ.update(request.variables)
    return environ


def native(text: str) -> str:
    """*text*, decoded as UTF-8 with surrogate escapes, as a native string: one character per byte."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def variable_name(header: bytes) -> str | None:
    """The variable that carries the field *header* (lower-case), or None if it is not passed on."""
    # `Foo_Bar` and `Foo-Bar` would become one variable, so a client could forge what a proxy in front
    # has checked; and of `Foo.Bar` php makes that one, too. As nginx and Apache do, only names of letters,
    # digits and hyphens are passed on (RFC 9110 17.10).
    if header in _DROPPED or not header.replace(b"-", b"").isalnum():
        return None
    if header == b"content-type":
        return "CONTENT_TYPE"  # RFC 3875 4.1.3
    return "HTTP_" + header.decode("latin-1").upper().replace("-", "_")  # RFC 3875 4.1.18


def _add_headers(environ: dict[str, str], request: Request) -> None:
    connection_options = None
    for name, value in request.headers:
        try:
            variable = _variables[name]
        except KeyError:
            variable = _remember(name)
        if variable is None:
            if name == b"connection":
                connection_options = (
                    value if connection_options is None else connection_options + b"," + value
                )
        elif variable in environ:
            # RFC 3875 4.1.18: one value for repeated fields. RFC 9113 8.2.3: cookies join with "; ".
            separator = "; " if variable == "HTTP_COOKIE" else ", "
            environ[variable] += separator + value.decode("latin-1")
        else:
            environ[variable] = value.decode("latin-1")
    if connection_options is not None:
        for name in named_by(connection_options):
            variable = variable_name(name)
            if variable is not None:
                environ.pop(variable, None)


def _remember(name: bytes) -> str | None:
    variable = variable_name(name)
    if len(name) <= _NAME_LENGTH_KEPT:
        if len(_variables) >= _VARIABLES_KEPT:
            _variables.clear()
        _variables[name] = variable
    return variable


def _of_connection(connection: Connection) -> dict[str, str]:
    """The variables that stay the same for all requests of a connection."""
    scheme = connection.scheme
    remote_addr, remote_port = _address(connection.client)
    server_addr, server_port = _address(connection.server)
    environ = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": SOFTWARE,
        # RFC 3875 4.1.14, when the request names no host; IPv6 in brackets as in a URL.
        "SERVER_NAME": _host_name(connection.server),
        # RFC 3875 4.1.15 and PEP 3333: never empty, though a Unix socket has no port.
        "SERVER_PORT": server_port or _DEFAULT_PORTS.get(scheme, "80"),
        "SERVER_ADDR": server_addr,
        "REMOTE_ADDR": remote_addr,
        "REMOTE_HOST": remote_addr,  # RFC 3875 4.1.9: the address stands in for the name
        "REMOTE_PORT": remote_port,
        "REQUEST_SCHEME": scheme,
    }
    if scheme == "https":
        environ["HTTPS"] = "on"
    if connection.tls is not None:
        environ.update(connection.tls.variables)
    return environ


def _address(address: Address) -> tuple[str, str]:
    """Address and port as text; for Unix sockets as nginx writes them: ``unix:`` and no port.

    Of a client behind a proxy often only the address is known.
    """
    if address is None:
        return "unix:", ""
    host, port = address
    if port is None:
        return native(f"unix:{host}"), ""
    return host, str(port) if port else ""


def _host_name(address: Address) -> str:
    if address is None or address[1] is None:
        return "localhost"
    host = address[0]
    return f"[{host}]" if ":" in host else host
