"""The configuration of listeners: where clients are accepted, and TLS there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from gateway.config.base import Model, Place, written
from gateway.config.values.addresses import Listen
from gateway.config.values.files import FileMode
from gateway.config.values.numbers import Count, Flag, Http2
from gateway.config.values.quantities import Duration
from gateway.config.values.shapes import Short, switch
from gateway.config.values.tls import (
    CertificateFile,
    Ciphers,
    ClientCertificates,
    KeyFile,
    RedirectHttps,
    TlsVersion,
)
from gateway.config.wording import NOT_YET, alternatives, show


class Certificate(Model):
    """A certificate and its key."""

    certificate: CertificateFile
    """PEM: the certificate, followed by those of the chain up to its authority."""
    key: KeyFile
    """PEM: its private key, without a password."""

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        _go_together(self.certificate, self.key)
        return self


class Tls(Model):
    """TLS on a listener: HTTPS."""

    certificate: CertificateFile | None = None
    """PEM: the certificate, followed by those of the chain up to its authority."""
    key: KeyFile | None = None
    """PEM: its private key, without a password."""
    certificates: tuple[Certificate, ...] = ()
    """Several of them in place of one, chosen by the host that a client asks for (SNI) and the names in
    the certificates; the first is for all other hosts."""
    development: Flag = False
    """true: certificates of an authority of this machine's own, in place of any."""
    min_version: TlsVersion = written("1.2")
    """The oldest version of TLS, 1.2 or 1.3."""
    ciphers: Ciphers | None = None
    """OpenSSL's list of ciphers for TLS 1.2; by default all that are good."""
    client_certificates: ClientCertificates = "off"
    """Whether clients are asked for a certificate: off, optional, or required."""
    client_ca: CertificateFile | None = None
    """PEM: the authorities whose certificates clients may show."""
    strict_sni: Flag = False
    """true: clients that ask for no host, or for one that no certificate is for, are refused."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        kinds = ("certificate", "certificates", "development")
        given = [kind for kind in kinds if data.get(kind)]
        if len(given) != 1:
            got = alternatives(given).replace(" or ", " and ") if given else "none"
            yield (), f"expected one of {alternatives(kinds)}, got {got}"
        if bool(data.get("key")) != bool(data.get("certificate")):
            yield (
                (),
                f"certificate and key go together: {'certificate' if data.get('key') else 'key'} is missing",
            )
        asked = switch(data.get("client_certificates", "off"))
        if asked in {"optional", "required"} and data.get("client_ca") is None:
            yield ("client_certificates",), "nothing could verify them: expected client_ca"
        if asked == "off" and data.get("client_ca") is not None:
            yield ("client_ca",), "no client is asked: expected client_certificates: optional or required"

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if self.certificate is not None and self.key is not None:
            _go_together(self.certificate, self.key)
        return self

    @property
    def pairs(self) -> tuple[Certificate, ...]:
        """All certificates that are in files, the default first."""
        if self.certificate is None or self.key is None:
            return self.certificates
        return (Certificate.model_construct(certificate=self.certificate, key=self.key),)


def _go_together(certificate: Path, key: Path) -> None:
    from gateway.tls import files  # what reads certificates takes long to load

    files.check_pair(files.CertificateFiles(certificate, key))


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


class Hsts(Model):
    """Clients are told to come back by https only (RFC 6797)."""

    max_age: Duration = written("365d")
    """How long they remember it; 0 makes them forget."""
    subdomains: Flag = False
    """Whether it is meant for all hosts below this one."""
    preload: Flag = False
    """Whether browsers may have it built in; takes subdomains and 365d."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        if data.get("preload") is True and not (
            data.get("subdomains") is True and data.get("max_age", "365d") == "365d"
        ):
            yield ("preload",), "lists of browsers take hosts with subdomains: true and max_age: 365d only"


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
