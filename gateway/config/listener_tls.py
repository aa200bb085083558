"""The configuration of TLS on listeners."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from gateway.config.base import Model, Place, written
from gateway.config.values.numbers import Flag
from gateway.config.values.quantities import Duration
from gateway.config.values.shapes import switch
from gateway.config.values.tls import CertificateFile, Ciphers, ClientCertificates, KeyFile, TlsVersion
from gateway.config.wording import alternatives


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
