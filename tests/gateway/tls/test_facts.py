"""What applications are told about the connection: the ASGI `tls` extension, and the variables of mod_ssl."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.backends.asgi.scope import http_scope
from gateway.environ import build_environ
from gateway.request import Request, Responder, respond
from gateway.tls.facts import TlsFacts
from tests.gateway.conftest import make_request
from tests.gateway.served import LAST_GET, run
from tests.gateway.tls.secured import authority_file, certificate, client_context, secured, tls_options

CLIENTS = trustme.CA(organization_name="Issuer")


def told(
    directory: Path, version: ssl.TLSVersion, shows: trustme.LeafCert | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The scope and the variables of one request."""
    found: list[tuple[dict[str, Any], dict[str, str]]] = []

    async def answer(request: Request, responder: Responder) -> None:
        variables = build_environ(request, script_name="", path_info="/", content_length=None)
        found.append((dict(http_scope(request, {}, {})), variables))
        await respond(responder, 200, [], b"")

    options = tls_options(client_certificates="optional", client_ca=authority_file(directory, CLIENTS))

    async def main() -> None:
        async with secured(answer, [certificate(directory, "localhost")], options) as served:
            await served.ask(LAST_GET, context=client_context(version=version, shows=shows))

    run(main)
    ((scope, variables),) = found
    return scope, variables


@pytest.mark.parametrize(
    ("version", "number"), [(ssl.TLSVersion.TLSv1_2, 0x0303), (ssl.TLSVersion.TLSv1_3, 0x0304)]
)
def test_tls_extension(version: ssl.TLSVersion, number: int, tmp_path: Path) -> None:
    """EXT-9."""
    shown = CLIENTS.issue_cert("client@example.com", common_name="client", organization_name="Acme, Inc.")
    scope, variables = told(tmp_path, version, shown)
    assert scope["scheme"] == "https"
    extension = scope["extensions"]["tls"]
    assert extension["server_cert"] == (tmp_path / "site.pem").read_text()
    assert extension["client_cert_chain"] == [shown.cert_chain_pems[0].bytes().decode()]
    assert extension["client_cert_name"] == variables["SSL_CLIENT_S_DN"]
    assert extension["client_cert_name"].startswith("CN=client,OU=")
    assert extension["client_cert_name"].endswith("O=Acme\\, Inc.")  # RFC 4514 2.4
    assert extension["client_cert_error"] is None
    assert extension["tls_version"] == number
    # IANA: TLS_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    assert extension["cipher_suite"] == (0x1302 if number == 0x0304 else 0xC02C)


def test_tls_extension_without_a_client_certificate(tmp_path: Path) -> None:
    """EXT-9."""
    scope, variables = told(tmp_path, ssl.TLSVersion.TLSv1_3, None)
    extension = scope["extensions"]["tls"]
    assert extension["client_cert_chain"] == []
    assert extension["client_cert_name"] is None
    assert variables["HTTPS"] == "on"
    assert variables["REQUEST_SCHEME"] == "https"
    assert variables["SSL_PROTOCOL"] == "TLSv1.3"
    assert variables["SSL_TLS_SNI"] == "localhost"
    assert variables["SSL_CLIENT_VERIFY"] == "NONE"


def test_clear_text_has_neither() -> None:
    """EXT-9: only on TLS connections; a header cannot pretend otherwise."""
    request = make_request(headers=[(b"ssl-client-verify", b"SUCCESS"), (b"https", b"on")])
    assert "tls" not in http_scope(request, {}, {})["extensions"]
    variables = build_environ(request, script_name="", path_info="/", content_length=None)
    assert [name for name in variables if name.startswith(("SSL", "HTTPS"))] == []


def test_serial_number_has_whole_bytes() -> None:
    der = ssl.PEM_cert_to_DER_cert(CLIENTS.issue_cert("a.example").cert_chain_pems[0].bytes().decode())
    facts = TlsFacts(
        version="TLSv1.3",
        cipher="TLS_AES_128_GCM_SHA256",
        cipher_bits=128,
        cipher_suite=0x1301,
        server_name=None,
        protocol=None,
        server_certificate="",
        client_certificate=der,
    )
    serial = facts.variables["SSL_CLIENT_M_SERIAL"]
    assert len(serial) % 2 == 0
    assert serial == serial.upper()
