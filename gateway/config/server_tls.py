"""The settings of TLS to the servers of a backend."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Self, TypeAlias

from pydantic import model_validator

from gateway.config.base import Model, Place, written
from gateway.config.values.numbers import Flag
from gateway.config.values.requests import ServerName
from gateway.config.values.shapes import Switched
from gateway.config.values.tls import CertificateFile, Ciphers, KeyFile, RevocationFile, TlsVersion


class ServerTls(Model):
    """TLS to the servers of a backend."""

    verify: Flag = True
    """Whether their certificates are looked at. false: anybody in between can read and change everything."""
    ca: CertificateFile | None = None
    """PEM: the authorities that are trusted; by default those of the system."""
    crl: RevocationFile | None = None
    """PEM: certificates that the authorities have revoked, a list of each of them."""
    server_name: ServerName | None = None
    """The host that is asked for (SNI) and that the certificate has to be for; by default the one in the URL
    or address; for srv:_app._tcp.example.com it is example.com."""
    certificate: CertificateFile | None = None
    """PEM: a certificate of the gateway's own, for servers that want one."""
    key: KeyFile | None = None
    """PEM: its private key, without a password."""
    min_version: TlsVersion = written("1.2")
    """The oldest version of TLS, 1.2 or 1.3."""
    ciphers: Ciphers | None = None
    """OpenSSL's list of ciphers for TLS 1.2; by default all that are good."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        if bool(data.get("key")) != bool(data.get("certificate")):
            missing = "certificate" if data.get("key") else "key"
            yield (), f"certificate and key go together: {missing} is missing"
        if data.get("verify") is False:
            for key in ("ca", "crl"):
                if data.get(key) is not None:
                    yield (key,), "with verify: false no certificate is looked at"

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if self.certificate is not None and self.key is not None:
            from gateway.tls import files  # what reads certificates takes long to load

            files.check_pair(files.CertificateFiles(self.certificate, self.key))
        return self


TlsOrFlag: TypeAlias = Annotated[ServerTls | None, Switched("verify and server_name")]


SPAWNED_WITHOUT_TLS: Final = "what is spawned is on this machine, and reached without TLS"


def tls_contradictions(kind: str, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    """What is wrong with ``tls`` of a backend, given the servers below *kind*."""
    tls = data.get("tls")
    addresses = _addresses(data.get(kind))
    if kind == "http":
        secure = [url[8:] for url in addresses if url[:8].lower() == "https://"]
        if tls and not secure:
            yield ("tls",), "no server has TLS: expected an https URL"
    else:
        secure = addresses if tls else []
    named = isinstance(tls, dict) and (tls.get("server_name") or tls.get("verify") is False)
    if not named and any(address.startswith("unix:") for address in secure):
        yield (
            ("tls",),
            "a Unix socket has no name that its certificate is compared with: expected server_name",
        )


def _addresses(value: Any) -> list[str]:
    """The addresses or URLs of one or several servers, as far as they are text."""
    servers = value if isinstance(value, list) else [value]
    found = [
        server.get("address", server.get("url")) if isinstance(server, dict) else server for server in servers
    ]
    return [address for address in found if isinstance(address, str)]
