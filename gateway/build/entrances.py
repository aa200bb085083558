"""The entrance of each listening socket, as its listener is configured: TLS, HSTS, or a redirect to https.

All use the one service of the worker; a listener that answers differently has a variant of it.
"""

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from gateway.config import Config
from gateway.front.entrance import Entrance
from gateway.front.hsts import hsts_value
from gateway.front.service import Service
from gateway.listener import ListeningSocket
from gateway.router import Route, Router

if TYPE_CHECKING:
    from gateway.config.listener_tls import Tls
    from gateway.tls.context import Certificates

_PROTOCOLS: Final = {True: ("h2", "http/1.1"), False: ("http/1.1",), "only": ("h2",)}
"""What is offered by ALPN (RFC 7301), the best first."""

Door: TypeAlias = tuple[ListeningSocket, Entrance]


class Entrances:
    """All entrances of a worker, and the certificates that are looked at while it runs."""

    def __init__(self, config: Config, service: Service, sockets: Sequence[ListeningSocket]) -> None:
        """Raises StartError if a certificate cannot be used."""
        self.certificates: list[Certificates] = []
        self._config = config
        self._service = service
        self._https_port = _https_port(sockets)
        self._made: dict[int, Entrance] = {}
        self.doors: list[Door] = [(listening, self._entrance(listening)) for listening in sockets]

    def _entrance(self, listening: ListeningSocket) -> Entrance:
        """One for each listener: a host name may stand for several sockets."""
        listener = listening.listener
        key = id(listening if listener is None else listener)
        if key not in self._made:
            self._made[key] = self._make(listening)
        return self._made[key]

    def _make(self, listening: ListeningSocket) -> Entrance:
        service = self._service
        listener = listening.listener
        if listener is None:
            return Entrance(service)
        if listener.redirect_https:
            from gateway.actions import HttpsRedirect

            port = self._https_port if listener.redirect_https is True else listener.redirect_https
            service = replace(service, router=Router([Route(HttpsRedirect(port))]))
            return Entrance(service, proxy_protocol=listener.proxy_protocol, http2=listener.http2)
        if listener.hsts is not None:
            hsts = listener.hsts
            value = hsts_value(hsts.max_age, subdomains=hsts.subdomains, preload=hsts.preload)
            service = replace(service, hsts=value)
        return Entrance(
            service,
            proxy_protocol=listener.proxy_protocol,
            certificates=None if listener.tls is None else self._certificates(listener.tls, listener.http2),
            http2=listener.http2,
        )

    def _certificates(self, tls: "Tls", http2: bool | Literal["only"]) -> "Certificates":
        # A daemon without TLS loads none of it.
        from gateway.tls.context import Certificates, TlsOptions
        from gateway.tls.files import CertificateFiles

        options = TlsOptions(
            min_version=tls.min_version,
            ciphers=tls.ciphers,
            client_certificates=tls.client_certificates,
            client_ca=tls.client_ca,
            strict_sni=tls.strict_sni,
            protocols=_PROTOCOLS[http2],
        )
        if tls.development:
            from gateway.tls.development import development_context

            hosts = [host for route in self._config.routes for host in route.match.host or ()]
            made = Certificates(options, [], given=[development_context(options, hosts)])
        else:
            made = Certificates(options, [CertificateFiles(each.certificate, each.key) for each in tls.pairs])
        self.certificates.append(made)
        return made


def _https_port(sockets: Sequence[ListeningSocket]) -> int:
    """The port of the first listener with TLS; 443 if there is none."""
    for listening in sockets:
        secured = listening.listener is not None and listening.listener.tls is not None
        if secured and listening.sock.family in (socket.AF_INET, socket.AF_INET6):
            return int(listening.sock.getsockname()[1])
    return 443
