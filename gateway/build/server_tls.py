"""Turns what is configured about TLS to a backend's servers into what dials them."""

import ssl

from gateway.config import server_tls as models
from gateway.config.balancing import HTTPServer, Server
from gateway.errors import StartError
from gateway.logger import get_logger
from gateway.net.address import ServiceAddress, TcpAddress
from gateway.tls.client import ServerTls
from gateway.tls.renewal import RenewedContext

log = get_logger()


class TlsMaker:
    """Makes the TLS of each server of a backend; the context is theirs together."""

    def __init__(self, backend: str, config: models.ServerTls | None, http: bool) -> None:
        self._backend = backend
        self._config = config
        self._http = http
        self.renewed: RenewedContext[ssl.SSLContext] | None = None
        """The context, if one of the servers needs it."""

    def to(self, server: Server | HTTPServer) -> ServerTls | None:
        """That of *server*; None for one in clear text.

        The certificate is for who is asked for, not for what name servers make of that, who could send the
        gateway to anybody (RFC 9525 6.1).
        """
        if isinstance(server, HTTPServer):
            if not server.origin.secure:
                return None
        elif self._config is None:
            return None
        if self.renewed is None:
            self.renewed = self._make_context()
        name = None if self._config is None else self._config.server_name
        address = server.address
        if name is None and isinstance(address, TcpAddress):
            name = address.host
        elif name is None and isinstance(address, ServiceAddress):
            name = address.domain
        # uWSGI never says the end (2.0.21), so for other protocols nothing depends on it.
        return ServerTls(self.renewed, name, says_end=self._http)

    def _make_context(self) -> RenewedContext[ssl.SSLContext]:
        from gateway.tls import files as pem  # what reads certificates takes long to load
        from gateway.tls import trust

        config = self._config or models.ServerTls()
        files = None
        if config.certificate is not None and config.key is not None:
            files = pem.CertificateFiles(config.certificate, config.key)
        if not config.verify:
            log.warning("certificates of servers are not verified", backend=self._backend)
        options = trust.ClientOptions(
            verify=config.verify,
            ca=config.ca,
            crl=config.crl,
            files=files,
            min_version=config.min_version,
            ciphers=config.ciphers,
        )
        try:
            # HTTP/2 (ALPN h2) would need a codec that has several requests on a connection.
            return trust.client_context(options, ("http/1.1",) if self._http else (), backend=self._backend)
        except ValueError as error:
            raise StartError(f"backend {self._backend}: TLS: {error}") from error
