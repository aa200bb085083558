"""The configuration of listeners: where clients are accepted."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from gateway.config.base import Model, Place
from gateway.config.on_use import OnUse
from gateway.config.values.addresses import Listen
from gateway.config.values.files import FileMode
from gateway.config.values.numbers import Count, Flag, Http2, RedirectHttps
from gateway.config.values.shapes import Short
from gateway.config.wording import NOT_YET, show

if TYPE_CHECKING:
    from gateway.config.listener_tls import Hsts, Tls
else:
    Hsts = Annotated[Any, OnUse("gateway.config.listener_tls", "Hsts")]
    Tls = Annotated[Any, OnUse("gateway.config.listener_tls", "Tls")]


_TLS_SHORT: Any = {
    "anyOf": [
        {"const": "development"},
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"certificate": {"type": "string"}, "key": {"type": "string"}},
                "required": ["certificate", "key"],
                "additionalProperties": False,
            },
        },
    ]
}


def _tls(value: Any) -> Any:
    if value == "development":
        return {"development": True}
    return {"certificates": value} if isinstance(value, list) else value


class Listener(Model):
    """A socket on which clients are accepted."""

    later: ClassVar[dict[str, str]] = {
        "fastcgi": f"FastCGI listeners are {NOT_YET}",
        "scgi": f"SCGI listeners are {NOT_YET}",
        "uwsgi": f"uwsgi listeners are {NOT_YET}",
    }

    address: Listen = Field(alias="http")
    """Where to accept HTTP/1.1 and HTTP/2. Port 0 lets the kernel choose; the port is logged."""
    mode: FileMode | None = None
    """Permissions of a Unix socket, such as "0660"; by default what the umask leaves."""
    backlog: Count = 2048
    """Connections that may wait to be accepted."""
    proxy_protocol: Flag = False
    """Whether every connection begins with a PROXY header (version 1 or 2), as a load balancer sends it.
    Only trusted_proxies may connect then; all others are closed."""
    tls: (
        Annotated[
            Tls, Short(_tls, _TLS_SHORT, "development, a mapping with certificate and key, or a list of such")
        ]
        | None
    ) = None
    """HTTPS: a certificate and its key, a list of them, or development."""
    hsts: Hsts | None = None
    """With tls: responses tell clients to come back by https only, if the application does not."""
    redirect_https: RedirectHttps = False
    """Answer everything with a redirect (308) to https: true for the port of the first listener with tls,
    or the port that clients see."""
    http2: Http2 = True
    """Whether clients may speak HTTP/2: by ALPN over TLS, in clear text by beginning with its preface; only:
    nothing else is spoken."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        address = data.get("http")
        if data.get("mode") is not None and isinstance(address, str) and not address.startswith("unix:"):
            yield ("mode",), f"permissions belong to a Unix socket (unix:/path), not to {show(address)}"
        if data.get("hsts") is not None and data.get("tls") is None:
            yield ("hsts",), "clients must not believe it in clear text (RFC 6797 8.1): expected tls"
        if data.get("redirect_https") and data.get("tls") is not None:
            yield ("redirect_https",), "this listener has tls: it would redirect to itself"


# ---- all of them together


def aimless_redirects(listeners: Any) -> Iterator[tuple[Place, str]]:
    """Redirects to https where nothing serves it."""
    listeners = listeners if isinstance(listeners, list) else []
    if any(isinstance(listener, dict) and listener.get("tls") is not None for listener in listeners):
        return
    for position, listener in enumerate(listeners):
        if isinstance(listener, dict) and listener.get("redirect_https") is True:
            place: Place = ("listeners", position, "redirect_https")
            yield place, "no listener has tls: expected the port of https"


def shared_addresses(listeners: Any) -> Iterator[tuple[Place, str]]:
    """Listeners that could not be opened beside each other."""
    first: dict[str, int] = {}
    for position, listener in enumerate(listeners if isinstance(listeners, list) else []):
        address = listener.get("http") if isinstance(listener, dict) else None
        # Port 0 is another port each time.
        if not isinstance(address, str) or address.endswith(":0"):
            continue
        if address in first:
            yield (
                ("listeners", position, "http"),
                f"listeners[{first[address]}] has the address {show(address)} already",
            )
        first.setdefault(address, position)


def untrusted_headers(listeners: Any) -> Iterator[tuple[Place, str]]:
    """PROXY headers that nobody is trusted to send."""
    for position, listener in enumerate(listeners if isinstance(listeners, list) else []):
        if isinstance(listener, dict) and listener.get("proxy_protocol") is True:
            yield (
                ("listeners", position, "proxy_protocol"),
                "nobody is trusted to send PROXY headers: expected trusted_proxies with the load balancer",
            )
