"""What TLS on a listener is made of."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, ValidationInfo

from gateway.config.values.files import PATH_SCHEMA, parse_path
from gateway.config.values.parsed import Parsed, ParsedInPlace
from gateway.config.values.shapes import switch
from gateway.config.wording import expected


def parse_certificate_file(value: Any, info: ValidationInfo) -> Path:
    """A PEM file with a certificate."""
    from gateway.tls import files  # what reads certificates takes long to load

    path = parse_path(value, info)
    files.read_certificate(path)
    return path


def parse_key_file(value: Any, info: ValidationInfo) -> Path:
    """A PEM file with a private key that needs no password."""
    from gateway.tls import files

    path = parse_path(value, info)
    files.check_key(path)
    return path


def parse_revocation_file(value: Any, info: ValidationInfo) -> Path:
    """A PEM file with lists of revoked certificates."""
    from gateway.tls import files

    path = parse_path(value, info)
    files.check_revocations(path)
    return path


def parse_ciphers(value: Any) -> str:
    """A list of ciphers as OpenSSL writes it (ciphers(1))."""
    from gateway.tls import files

    if not isinstance(value, str) or not value or "\0" in value:
        raise expected("a list of OpenSSL's names of ciphers, such as ECDHE+AESGCM:ECDHE+CHACHA20", value)
    files.check_ciphers(value)
    return value


def parse_tls_version(value: Any) -> Literal["1.2", "1.3"]:
    """The number of a version; YAML reads 1.2 without quotes as a number."""
    if value in ("1.2", 1.2):
        return "1.2"
    if value in ("1.3", 1.3):
        return "1.3"
    raise expected("1.2 or 1.3", value)


CertificateFile: TypeAlias = Annotated[Path, ParsedInPlace(parse_certificate_file, PATH_SCHEMA)]
KeyFile: TypeAlias = Annotated[Path, ParsedInPlace(parse_key_file, PATH_SCHEMA)]
RevocationFile: TypeAlias = Annotated[Path, ParsedInPlace(parse_revocation_file, PATH_SCHEMA)]
Ciphers: TypeAlias = Annotated[str, Parsed(parse_ciphers, {"type": "string", "minLength": 1})]
TlsVersion: TypeAlias = Annotated[
    Literal["1.2", "1.3"],
    Parsed(parse_tls_version, {"enum": ["1.2", "1.3", 1.2, 1.3]}),
]
ClientCertificates: TypeAlias = Annotated[Literal["off", "optional", "required"], BeforeValidator(switch)]
