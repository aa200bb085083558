"""nginx and uWSGI behind the gateway, by TLS: client certificates, sessions, kept connections."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.gateway.tls.secured import AUTHORITY, certificate
from tests.peers.conftest import Gateway, Program, RequireProgram, RunGateway
from tests.peers.nginx import inheriting, nginx_command

NGINX = """
server {{
    listen 127.0.0.1:{port} ssl;
    server_name app.example;
    ssl_certificate {directory}/site.pem;
    ssl_certificate_key {directory}/site-key.pem;
    ssl_client_certificate {directory}/ca.pem;
    ssl_verify_client on;
    location / {{
        return 200 "$host $ssl_server_name $ssl_client_verify $connection_requests $ssl_session_reused";
    }}
    location /large {{ alias {directory}/large; }}
}}
"""

CONFIG = """
backends:
  nginx:
    http: https://127.0.0.1:{nginx}
    host: app.example
    tls: {{ca: ca.pem, server_name: app.example, certificate: own.pem, key: own-key.pem}}
  fresh:
    http: https://127.0.0.1:{nginx}
    host: app.example
    pool: {{idle: 0}}
    tls: {{ca: ca.pem, server_name: app.example, certificate: own.pem, key: own-key.pem}}
  nobody:
    http: https://127.0.0.1:{nginx}
    host: app.example
    tls: {{ca: ca.pem, server_name: app.example}}
  plain:
    http: http://127.0.0.1:{nginx}
  uwsgi:
    uwsgi: 127.0.0.1:{uwsgi}
    tls: {{ca: ca.pem}}
routes:
  - {{match: {{path: /fresh}}, backend: fresh}}
  - {{match: {{path: /nobody}}, backend: nobody}}
  - {{match: {{path: /plain}}, backend: plain}}
  - {{match: {{path: /uwsgi}}, backend: uwsgi}}
  - backend: nginx
"""

APPLICATION = """
def application(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["REQUEST_METHOD"].encode(), b" ", body]
"""

LARGE = bytes(range(256)) * 20_000


@pytest.fixture(scope="module")
def gateway(
    run_gateway: RunGateway, require_program: RequireProgram, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    nginx = require_program("nginx", "apt-get install nginx")
    uwsgi = require_program("uwsgi", "apt-get install uwsgi-core uwsgi-plugin-python3")
    directory = tmp_path_factory.mktemp("behind")
    certificate(directory, "app.example", "127.0.0.1")
    certificate(directory, "gateway.example", file="own")
    (directory / "ca.pem").write_bytes(AUTHORITY.cert_pem.bytes())
    (directory / "large").write_bytes(LARGE)
    (directory / "application.py").write_text(APPLICATION)
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        ports = [int(each.getsockname()[1]) for each in sockets]
        stack.enter_context(
            Program(
                nginx_command(nginx, directory, NGINX.format(directory=directory, port=ports[0])),
                pass_fds=[sockets[0].fileno()],
                stdout=subprocess.DEVNULL,
                env=inheriting(sockets[:1]),
            )
        )
        running = Program(
            [
                *(uwsgi, "--plugin", "python3", "--master", "--need-app", "--wsgi-file", "application.py"),
                *("--suwsgi-socket", f"127.0.0.1:{ports[1]},site.pem,site-key.pem"),
            ],
            cwd=directory,
            stdout=subprocess.DEVNULL,
        )
        sockets[1].close()
        stack.enter_context(running)
        running.wait_for(lambda line: "spawned uWSGI worker" in line)
        yield stack.enter_context(
            run_gateway(directory, CONFIG.format(nginx=ports[0], uwsgi=ports[1]), expect=("backend failed",))
        )


def test_nginx_sees_name_and_certificate(gateway: Gateway) -> None:
    """B02; the connection is used again."""
    first, second = gateway.get("/").text.split(), gateway.get("/").text.split()
    assert first[:3] == ["app.example", "app.example", "SUCCESS"]
    assert int(second[3]) == int(first[3]) + 1


def test_session_is_resumed(gateway: Gateway) -> None:
    assert gateway.get("/fresh").text.split()[3:] == ["1", "."]
    assert gateway.get("/fresh").text.split()[3:] == ["1", "r"]


def test_nginx_wants_a_certificate(gateway: Gateway) -> None:
    """It answers 400 by HTTP rather than by an alert of TLS."""
    answer = gateway.get("/nobody")
    assert answer.status == 400
    assert "No required SSL certificate was sent" in answer.text


def test_clear_text_to_the_port_of_tls(gateway: Gateway) -> None:
    answer = gateway.get("/plain")
    assert answer.status == 400
    assert "The plain HTTP request was sent to HTTPS port" in answer.text


def test_large_file(gateway: Gateway) -> None:
    assert gateway.get("/large").body == LARGE


def test_uwsgi_over_tls(gateway: Gateway) -> None:
    """UW-14: an answer without a length ends with the connection, which uWSGI does not announce."""
    answer = gateway.post("/uwsgi", b"body")
    assert (answer.status, answer.text) == (200, "POST body")
