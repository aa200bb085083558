"""Certificates and keys in files: whether they can be used, said in one sentence each.

For the configuration, which tells mistakes with their lines, and for the contexts. All functions raise
ValueError with a message for the operator and nothing else for a file that is missing or wrong.
"""

import os
import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.reading import open_at_once


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate with the chain up to its authority, and its key; both PEM."""

    certificate: Path
    key: Path


def read(path: Path) -> bytes:
    """The content of *path*, a regular file: OpenSSL reads it once more, and so does a renewal."""
    try:
        with open(path, "rb", opener=open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError(f"{path} is read more than once: expected a regular file")
            return file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of *path*, which is the server's own."""
    data = read(path)
    try:
        return x509.load_pem_x509_certificates(data)[0]
    except ValueError:
        raise ValueError(f"{path} has no certificate in PEM form") from None


def check_key(path: Path) -> None:
    """Raise ValueError unless *path* is a key that needs no password."""
    data = read(path)
    try:
        load_pem_private_key(data, None)
    except TypeError:
        raise ValueError(
            f"{path} is encrypted: the gateway asks for no password (openssl pkey -in … -out … decrypts it)"
        ) from None
    except Exception as error:  # UnsupportedAlgorithm, and what Rust says about ASN.1
        raise ValueError(f"{path} has no private key in PEM form") from error


def load_authorities(context: ssl.SSLContext, path: Path) -> None:
    """Make *context* trust the authorities whose certificates *path* has."""
    read_certificate(path)
    _load_trusted(context, path)


def load_revocations(context: ssl.SSLContext, path: Path) -> None:
    """Make *context* know the lists of revoked certificates that *path* has."""
    check_revocations(path)
    _load_trusted(context, path)


def _load_trusted(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:  # the first one is sound
        raise ValueError(f"{path} has something in PEM form that OpenSSL cannot read") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def check_revocations(path: Path) -> None:
    """Raise ValueError unless *path* has a list of revoked certificates."""
    data = read(path)
    try:
        x509.load_pem_x509_crl(data)
    except ValueError:
        raise ValueError(f"{path} has no certificate revocation list in PEM form") from None


def check_ciphers(ciphers: str) -> None:
    """Raise ValueError unless OpenSSL knows a cipher of the list *ciphers*."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(ciphers)
    except ssl.SSLError:
        raise ValueError(f"OpenSSL knows no cipher of {ciphers!r}") from None


def load(context: ssl.SSLContext, files: CertificateFiles) -> x509.Certificate:
    """Make *context* show the certificate of *files*, which is returned."""
    certificate = read_certificate(files.certificate)
    check_key(files.key)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{files.key} is not the key of {files.certificate}") from None
        what = (error.reason or str(error)).replace("_", " ").lower()
        raise ValueError(f"{files.certificate} and {files.key} cannot be used: {what}") from None
    except OSError as error:
        raise ValueError(f"{files.certificate} or {files.key} cannot be read: {error.strerror}") from None
    return certificate


def check_pair(files: CertificateFiles) -> None:
    """Raise ValueError unless *files* go together."""
    load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files)


def _refuse_password() -> NoReturn:
    raise ValueError("the key is encrypted")


def names_of(certificate: x509.Certificate) -> list[str]:
    """The hosts that *certificate* is for, in lower case; ``*.domain`` stands for all right below it."""
    # RFC 9525 2: the common name is not looked at where there is a subject alternative name.
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return [str(name.value).lower() for name in common]
    return [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]


def validity_problem(certificate: x509.Certificate) -> str | None:
    """What is wrong with the time, as a sentence; None if the certificate is valid now."""
    now = datetime.now(UTC)
    if now > certificate.not_valid_after_utc:
        return f"expired {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if now < certificate.not_valid_before_utc:
        return f"not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return None
