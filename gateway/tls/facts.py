"""What a TLS connection says about itself, and how applications are told.

Made once for each connection, after its handshake. What needs a certificate to be parsed waits until
somebody asks: most applications never do.
"""

import ssl
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from cryptography import x509

VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
"""RFC 8446 4.2.1: the number of each version that a listener can speak."""

Verification: TypeAlias = Literal["NONE", "SUCCESS"]


class ClientCertificate:
    """The certificate of a client, verified by an authority of the listener."""

    def __init__(self, der: bytes) -> None:
        self.der = der

    @cached_property
    def pem(self) -> str:
        return ssl.DER_cert_to_PEM_cert(self.der)

    @cached_property
    def _parsed(self) -> "x509.Certificate":
        from cryptography import x509  # a daemon without TLS need not load it

        return x509.load_der_x509_certificate(self.der)

    @cached_property
    def subject(self) -> str:
        """The name of its owner (RFC 4514)."""
        return self._parsed.subject.rfc4514_string()

    @cached_property
    def issuer(self) -> str:
        """The name of the authority that signed it (RFC 4514)."""
        return self._parsed.issuer.rfc4514_string()

    @cached_property
    def serial(self) -> str:
        """Its serial number in hexadecimal, two digits for each byte."""
        digits = f"{self._parsed.serial_number:X}"
        return "0" * (len(digits) % 2) + digits

    @cached_property
    def valid(self) -> tuple[str, str]:
        """From when until when, as OpenSSL prints times: ``Jan  1 00:00:00 2026 GMT``."""
        times = self._parsed.not_valid_before_utc, self._parsed.not_valid_after_utc
        start, end = (f"{time:%b} {time.day:2} {time:%H:%M:%S} {time.year} GMT" for time in times)
        return start, end


class TlsFacts:
    """What was agreed on a connection."""

    def __init__(
        self,
        *,
        version: str,
        cipher: str,
        cipher_bits: int,
        cipher_suite: int | None,
        server_name: str | None,
        protocol: str | None,
        server_certificate: str,
        client_certificate: bytes | None,
        has_other_certificate: Callable[[str], bool] | None = None,
    ) -> None:
        self.version = version
        """``TLSv1.2`` or ``TLSv1.3``."""
        self.cipher = cipher
        """OpenSSL's name of the cipher suite."""
        self.cipher_bits = cipher_bits
        """Bits of its key."""
        self.cipher_suite = cipher_suite
        """Its number in the IANA registry."""
        self.server_name = server_name
        """The host that the client asked for (SNI, RFC 6066 3), in lower case."""
        self.protocol = protocol
        """What was chosen by ALPN (RFC 7301)."""
        self.server_certificate = server_certificate
        """Ours, PEM."""
        self.client_certificate = (
            None if client_certificate is None else ClientCertificate(client_certificate)
        )
        """The client's, if it has sent one. One that cannot be verified ends the handshake."""
        self._has_other_certificate = has_other_certificate

    def is_misdirected(self, host: str) -> bool:
        """Whether a request for *host* (lower case) should have come by another connection (RFC 9110 7.4).

        One that has asked for *host* would have been shown another certificate, and this one is not for it.
        Not said to clients that ask for no host: they would get the same certificate each time.
        """
        asked, has_other = self.server_name, self._has_other_certificate
        return asked is not None and asked != host and has_other is not None and has_other(host)

    @property
    def verification(self) -> Verification:
        """What became of the client's certificate, in the words of mod_ssl."""
        return "NONE" if self.client_certificate is None else "SUCCESS"

    @cached_property
    def variables(self) -> dict[str, str]:
        """The variables of CGI-like applications, named as by Apache's mod_ssl; ASCII and native strings."""
        found = {
            "SSL_PROTOCOL": self.version,
            "SSL_CIPHER": self.cipher,
            "SSL_CIPHER_USEKEYSIZE": str(self.cipher_bits),
            "SSL_CLIENT_VERIFY": self.verification,
        }
        if self.server_name is not None:
            found["SSL_TLS_SNI"] = self.server_name
        client = self.client_certificate
        if client is not None:
            found |= {
                "SSL_CLIENT_S_DN": _native(client.subject),
                "SSL_CLIENT_I_DN": _native(client.issuer),
                "SSL_CLIENT_M_SERIAL": client.serial,
                "SSL_CLIENT_V_START": client.valid[0],
                "SSL_CLIENT_V_END": client.valid[1],
                "SSL_CLIENT_CERT": client.pem,
            }
        return found

    def extension(self) -> dict[str, Any]:
        """The ``tls`` extension of an ASGI scope."""
        client = self.client_certificate
        return {
            "server_cert": self.server_certificate,
            # Of the chain Python 3.11 tells only the first; the extension allows for that.
            "client_cert_chain": [] if client is None else [client.pem],
            "client_cert_name": None if client is None else client.subject,
            "client_cert_error": None,
            "tls_version": VERSIONS.get(self.version),
            "cipher_suite": self.cipher_suite,
        }


def _native(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
