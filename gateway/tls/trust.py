"""What the gateway trusts and shows as a client of servers behind it: made into a context of OpenSSL."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateway.tls import files as pem
from gateway.tls.context import VERSIONS
from gateway.tls.files import CertificateFiles
from gateway.tls.renewal import RenewedContext


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What is the same for all servers of a backend."""

    verify: bool
    ca: Path | None
    """Authorities to trust instead of the system's."""
    crl: Path | None
    """Certificates that they have revoked; one list for each authority."""
    files: CertificateFiles | None
    """The gateway's own certificate, for servers that ask for one."""
    min_version: Literal["1.2", "1.3"]
    ciphers: str | None
    """OpenSSL's list of ciphers for TLS 1.2."""


def client_context(
    options: ClientOptions, protocols: tuple[str, ...] = (), **told: str
) -> RenewedContext[ssl.SSLContext]:
    """The context of connections that offer *protocols* by ALPN (RFC 7301). Raises ValueError.

    *told* is for the log, when its files have changed.
    """
    files = [path for path in (options.ca, options.crl) if path is not None]
    if options.files is not None:
        files += [options.files.certificate, options.files.key]
    return RenewedContext(lambda: _make(options, protocols), files, **told)


def _make(options: ClientOptions, protocols: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = VERSIONS[options.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    if protocols:
        context.set_alpn_protocols(protocols)
    if options.ciphers is not None:
        pem.check_ciphers(options.ciphers)
        context.set_ciphers(options.ciphers)
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        pem.load_authorities(context, options.ca)
    if options.crl is not None:
        pem.load_revocations(context, options.crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    if options.files is not None:
        pem.load(context, options.files)
    return context
