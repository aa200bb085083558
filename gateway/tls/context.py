"""The certificates of a listener: which one a client is shown, and what becomes of changed files.

Promises: a client gets the certificate whose names fit the host that it asks for (SNI, RFC 6066 3), an
exact name before a wildcard (which stands for one label, RFC 9525 6.3), the first of the list if none
fits or it asks for none. Files are looked at every :data:`LOOK_INTERVAL` seconds: what was renewed is
used for new connections; what cannot be used is said once, and the certificate from before stays.

All certificates of a listener share its versions, ciphers and rules about client certificates, so that no
host can be entered by the rules of another.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.errors import StartError
from gateway.logger import get_logger
from gateway.tls import files as pem
from gateway.tls.facts import TlsFacts
from gateway.tls.files import CertificateFiles
from gateway.tls.renewal import RenewedContext

log = get_logger()

LOOK_INTERVAL: Final = 2.0
"""Seconds between two looks at the files (`renewal`)."""

ClientCertificates: TypeAlias = Literal["off", "optional", "required"]

VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY: Final = {
    "off": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """What is the same for all certificates of a listener."""

    min_version: Literal["1.2", "1.3"]
    ciphers: str | None
    """OpenSSL's list of ciphers for TLS 1.2; TLS 1.3 has its own, all of them good."""
    client_certificates: ClientCertificates
    client_ca: Path | None
    """PEM certificates of the authorities that may sign those of clients."""
    strict_sni: bool
    """Refuse clients that ask for no host, or for one that no certificate is for."""
    protocols: tuple[str, ...]
    """What is offered by ALPN (RFC 7301), the best first."""


class TlsSession(ssl.SSLObject):
    """A server's side of a connection; remembers what the client has asked for."""

    server_name: str | None = None
    refusal = ""
    """Why it was refused, if it was by us: OpenSSL says only that a callback has failed."""


class TlsContext(ssl.SSLContext):
    """The context of one certificate."""

    server_certificate = ""
    """PEM."""
    names: tuple[str, ...] = ()


def _renewed(options: TlsOptions, files: CertificateFiles) -> RenewedContext[TlsContext]:
    """The context of one certificate. Raises ValueError if the files cannot be used."""

    def make() -> TlsContext:
        context = make_context(options)
        certificate = pem.load(context, files)
        describe(context, certificate)
        problem = pem.validity_problem(certificate)
        if problem is not None:
            log.warning("certificate not valid", certificate=str(files.certificate), problem=problem)
        return context

    watched = [files.certificate, files.key]
    if options.client_ca is not None:
        watched.append(options.client_ca)
    return RenewedContext(make, watched, certificate=str(files.certificate))


class Certificates:
    """The certificates of one listener."""

    def __init__(
        self, options: TlsOptions, files: Sequence[CertificateFiles], *, given: Sequence[TlsContext] = ()
    ) -> None:
        """From *files*, and contexts that were made elsewhere. Raises StartError."""
        self._strict = options.strict_sni
        self._given = given
        try:
            self._files = [_renewed(options, each) for each in files]
        except ValueError as error:
            raise StartError(f"TLS: {error}") from error
        self._index()

    @property
    def context(self) -> TlsContext:
        """The context to begin a handshake with."""
        return self._default

    def facts(self, session: ssl.SSLObject) -> TlsFacts:
        """What was agreed on, after the handshake."""
        context = session.context
        assert isinstance(session, TlsSession)
        assert isinstance(context, TlsContext)
        cipher = session.cipher()
        assert cipher is not None
        return TlsFacts(
            version=session.version() or "",
            cipher=cipher[0],
            cipher_bits=cipher[2],
            cipher_suite=_suite(context, cipher[0]),
            server_name=session.server_name,
            protocol=session.selected_alpn_protocol(),
            server_certificate=context.server_certificate,
            client_certificate=session.getpeercert(binary_form=True),
            has_other_certificate=partial(self._has_other, context),
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at the files until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(LOOK_INTERVAL)  # noqa: TID251 - files have no readiness to wait for
            self.refresh()

    def refresh(self) -> None:
        """Look at the files once."""
        renewed = [certificate for certificate in self._files if certificate.refresh()]
        if renewed:
            self._index()

    def _index(self) -> None:
        contexts = [*(certificate.context for certificate in self._files), *self._given]
        self._default = contexts[0]
        self._by_name: dict[str, TlsContext] = {}
        for context in contexts:
            context.sni_callback = self._choose
            for name in context.names:
                self._by_name.setdefault(name, context)

    def find(self, host: str) -> TlsContext | None:
        """The context whose certificate is for *host* (lower case)."""
        return self._by_name.get(host) or self._by_name.get(_wildcard(host))

    def _has_other(self, context: TlsContext, host: str) -> bool:
        """Whether a certificate is for *host*, and that of *context* (perhaps renewed since) is not."""
        host = host.removesuffix(".")
        fits = host in context.names or _wildcard(host) in context.names
        return not fits and self.find(host) is not None

    def _choose(self, session: ssl.SSLObject, host: str | None, _context: ssl.SSLContext) -> int | None:
        """Called by OpenSSL in the middle of the handshake, once the client has said what it wants."""
        found = None
        if host is not None:
            host = host.lower().removesuffix(".")
            assert isinstance(session, TlsSession)
            session.server_name = host
            found = self.find(host)
        if found is not None:
            session.context = found
        elif self._strict:
            assert isinstance(session, TlsSession)
            asked = "the client asks for no host" if host is None else f"no certificate is for {host}"
            session.refusal = f"strict_sni: {asked}"
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME  # RFC 6066 3
        return None


def make_context(options: TlsOptions) -> TlsContext:
    """A context without a certificate. Raises ValueError."""
    context = TlsContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = TlsSession
    context.minimum_version = VERSIONS[options.min_version]
    # A client could make us work for it again and again (CVE-2011-1473).
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(options.protocols))
    if options.ciphers is not None:
        pem.check_ciphers(options.ciphers)
        context.set_ciphers(options.ciphers)
    if options.client_ca is not None:
        pem.load_authorities(context, options.client_ca)
    context.verify_mode = _VERIFY[options.client_certificates]
    return context


def describe(context: TlsContext, certificate: x509.Certificate) -> None:
    """Note in *context* what its certificate says."""
    context.names = tuple(pem.names_of(certificate))
    context.server_certificate = certificate.public_bytes(Encoding.PEM).decode("ascii")


def _wildcard(host: str) -> str:
    """The name that stands for *host* and its siblings."""
    return "*." + host.partition(".")[2]


_suites: dict[str, int] = {}


def _suite(context: ssl.SSLContext, name: str) -> int | None:
    """The number of a cipher suite, which OpenSSL tells in its list of ciphers only."""
    if name not in _suites:
        _suites.update((each["name"], each["id"] & 0xFFFF) for each in context.get_ciphers())
    return _suites.get(name)
