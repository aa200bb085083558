"""One small program in every language and protocol that people have: each sees the same request.

CGI in Perl, shell, Python and C; FastCGI by libfcgi, fcgiwrap and flup; SCGI by flup and uWSGI; uwsgi by
uWSGI, gunicorn and the gateway's own server; WSGI inside the gateway; and nginx as a web server behind
the gateway that passes on to the gateway, which makes the gateway the server behind nginx as well.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.peers.conftest import CHECKOUT, SBIN, WAIT, Gateway, RequireProgram, RunGateway, start_on_socket
from tests.peers.nginx import nginx_command

NAMES = "REQUEST_METHOD SCRIPT_NAME PATH_INFO QUERY_STRING CONTENT_LENGTH HTTP_X_TAG"

SHELL = rf"""#!/bin/sh
status='201 Created'
if [ "$PATH_INFO" = /early ]; then status='413 Content Too Large'; fi
printf 'Status: %s\nContent-Type: text/plain\nX-Test: a\nX-Test: b\n\n' "$status"
for name in {NAMES}; do
    eval "value=\${{$name:--}}"
    printf '%s=%s\n' "$name" "$value"
done
echo
if [ "$PATH_INFO" != /early ]; then exec cat; fi
"""

PERL = rf"""#!/usr/bin/perl
use strict; use warnings;
binmode STDIN; binmode STDOUT;
my $early = $ENV{{PATH_INFO}} eq '/early';
print 'Status: ', $early ? '413 Content Too Large' : '201 Created', "\r\n";
print "Content-Type: text/plain\r\nX-Test: a\r\nX-Test: b\r\n\r\n";
print $_, '=', length($ENV{{$_}} // '') ? $ENV{{$_}} : '-', "\n" for qw({NAMES});
print "\n";
unless ($early) {{ print while read STDIN, $_, 65536; }}
"""

PYTHON = f"""#!{sys.executable} -IS
import os, shutil, sys
out = sys.stdout.buffer
early = os.environb[b"PATH_INFO"] == b"/early"
out.write(b"Status: 413 Content Too Large\\n" if early else b"Status: 201 Created\\n")
out.write(b"Content-Type: text/plain\\nX-Test: a\\nX-Test: b\\n\\n")
for name in b"{NAMES}".split():
    out.write(b"%s=%s\\n" % (name, os.environb.get(name) or b"-"))
out.write(b"\\n")
if not early:
    shutil.copyfileobj(sys.stdin.buffer, out)
"""

# Without FCGI a CGI program; with it a FastCGI application, by the same source (libfcgi's way).
C = r"""
#ifdef FCGI
#include <fcgi_stdio.h>
#else
#include <stdio.h>
#define FCGI_Accept() (served++ ? -1 : 0)
static int served;
#endif
#include <stdlib.h>
#include <string.h>

static const char *names[] = {"REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING",
                              "CONTENT_LENGTH", "HTTP_X_TAG"};
static char buffer[65536];

static const char *value(const char *name) {
    const char *found = getenv(name);
    return found && *found ? found : "-";
}

int main(void) {
    while (FCGI_Accept() >= 0) {
        int early = strcmp(value("PATH_INFO"), "/early") == 0;
        printf("Status: %s\r\n", early ? "413 Content Too Large" : "201 Created");
        printf("Content-Type: text/plain\r\nX-Test: a\r\nX-Test: b\r\n\r\n");
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            printf("%s=%s\n", names[i], value(names[i]));
        printf("\n");
        size_t size;
        while (!early && (size = fread(buffer, 1, sizeof buffer, stdin)) > 0)
            fwrite(buffer, 1, size, stdout);
    }
    return 0;
}
"""

INSTALL = {
    "perl": "apt-get install perl",
    "cc": "apt-get install gcc",
    "fcgiwrap": "apt-get install fcgiwrap",
    "uwsgi": "apt-get install uwsgi-core uwsgi-plugin-python3",
    "nginx": "apt-get install nginx",
}

KINDS: dict[str, tuple[str | None, str]] = {
    # kind: the program that it needs, the backend
    "cgi-sh": (None, "{cgi: echo.sh}"),
    "cgi-perl": ("perl", "{cgi: echo.pl}"),
    "cgi-python": (None, "{cgi: echo.py}"),
    "cgi-c": ("cc", "{cgi: echo-cgi}"),
    "fastcgi-c": ("cc", "{fastcgi: {spawn: {command: [./echo-fcgi], processes: 2}}}"),
    # haproxy#2936: a process serves one connection, so there is one for each of the tests' clients.
    "fastcgi-c-kept": (
        "cc",
        "{fastcgi: {spawn: {command: [./echo-fcgi], processes: 8}}, keep_connection: true}",
    ),
    "fcgiwrap": ("fcgiwrap", "{fastcgi: 'unix:fcgiwrap.sock', root: ., split: .sh}"),
    "fastcgi-flup": (None, "{fastcgi: {spawn: {wsgi: echo_app:app, processes: 2}}}"),
    "fastcgi-flup-shared": (None, "{fastcgi: 'unix:flup.sock', keep_connection: true, multiplex: true}"),
    "scgi-flup": (None, "{scgi: {spawn: {wsgi: echo_app:app}}}"),
    "scgi-uwsgi": ("uwsgi", "{scgi: 'unix:uwsgi-scgi.sock'}"),
    "uwsgi": ("uwsgi", "{uwsgi: 'unix:uwsgi.sock', buffer_size: 4096}"),
    "uwsgi-gunicorn": (None, "{uwsgi: 'unix:gunicorn.sock'}"),
    "uwsgi-spawned": (None, "{uwsgi: {spawn: {wsgi: echo_app:app, processes: 2}}}"),
    "wsgi": (None, "{wsgi: echo_app:app}"),
    "http-nginx": ("nginx", "{http: 'http://unix:nginx.sock'}"),
}

SCRIPTS = {"fcgiwrap": "/fcgiwrap/echo.sh", "http-nginx": "/wsgi", "uwsgi-gunicorn": "-"}
"""SCRIPT_NAME, where it is not the mount: a script below it; the application behind the proxy; and
gunicorn keeps it from the application, whatever the protocol says."""


def target(kind: str, path: str) -> str:
    return (SCRIPTS["fcgiwrap"] if kind == "fcgiwrap" else f"/{kind}") + path


NGINX = """
upstream gateway {{ server 127.0.0.1:{port}; keepalive 4; }}
server {{
    listen unix:{directory}/nginx.sock;
    client_max_body_size 0;
    add_header X-Connection $connection always;
    location / {{
        proxy_pass http://gateway/wsgi/;
        proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off;
    }}
}}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs."""
    directory = tmp_path_factory.mktemp("programs")
    for name, text in {"echo.sh": SHELL, "echo.pl": PERL, "echo.py": PYTHON}.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    for name in ("echo_app.py", "flup_multiplexed.py"):
        shutil.copy(CHECKOUT / "tests/peers/apps" / name, directory)
    if shutil.which("cc"):
        (directory / "echo.c").write_text(C)
        for command in (["-o", "echo-cgi"], ["-DFCGI", "-o", "echo-fcgi", "-lfcgi"]):
            done = subprocess.run(
                ["cc", "-O1", "echo.c", *command], cwd=directory, capture_output=True, text=True
            )
            assert done.returncode == 0, f"apt-get install gcc libfcgi-dev: {done.stderr}"
    return directory


@pytest.fixture(scope="module")
def gateway(directory: Path, run_gateway: RunGateway) -> Iterator[Gateway]:
    """A gateway in front of all kinds whose programs are there."""
    path = os.environ.get("PATH", os.defpath) + SBIN
    found = {program: shutil.which(program, path=path) for program in INSTALL}
    kinds = {kind: text for kind, (program, text) in KINDS.items() if program is None or found[program]}
    lines = ["access_log: false", "backends:", *(f"  {kind}: {text}" for kind, text in kinds.items())]
    lines += ["routes:"]
    lines += [f"  - {{match: {{path: /{kind}/*}}, mount: /{kind}, backend: {kind}}}" for kind in kinds]
    with ExitStack() as stack:
        if fcgiwrap := found["fcgiwrap"]:
            start_on_socket(stack, directory, "fcgiwrap", [fcgiwrap, "-c", "2"], stdin=True)
        if uwsgi := found["uwsgi"]:
            for name, option in (("uwsgi", "--socket"), ("uwsgi-scgi", "--scgi-socket")):
                served = [option, "fd://{}", "--wsgi-file", "echo_app.py", "--callable", "app", "--need-app"]
                start_on_socket(
                    stack, directory, name, [uwsgi, "--plugin", "python3", "--die-on-term", *served]
                )
        start_on_socket(
            stack, directory, "flup", [sys.executable, "flup_multiplexed.py", "echo_app"], stdin=True
        )
        gunicorn = ["-m", "gunicorn", "--protocol", "uwsgi", "--bind", "fd://{}", "--no-control-socket"]
        gunicorn += ["--graceful-timeout", "0", "--uwsgi-allow-from", "*", "--worker-class", "gthread"]
        start_on_socket(
            stack, directory, "gunicorn", [sys.executable, *gunicorn, "--threads", "2", "echo_app:app"]
        )
        running = stack.enter_context(run_gateway(directory, "\n".join(lines)))
        if nginx := found["nginx"]:
            http = NGINX.format(directory=directory, port=running.port)
            start_on_socket(stack, directory, "nginx", nginx_command(nginx, directory, http))
        yield running


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest, require_program: RequireProgram) -> str:
    """Each kind; skipped if its program is missing."""
    name: str = request.param
    program = KINDS[name][0]
    if program is not None:
        require_program(program, INSTALL[program])
    return name


def shown(kind: str, method: str, *, path: str = "/a b/ü", length: int = 0, tag: str = "t") -> bytes:
    """What the program says about a request, before the body."""
    if kind == "uwsgi-gunicorn":
        path = path.encode().decode("latin-1")  # it encodes the bytes of PATH_INFO once more
    return (
        f"REQUEST_METHOD={method}\nSCRIPT_NAME={SCRIPTS.get(kind, f'/{kind}')}\nPATH_INFO={path}\n"
        f"QUERY_STRING=q=1&r\nCONTENT_LENGTH={length or '-'}\nHTTP_X_TAG={tag}\n\n"
    ).encode()


def upload(kind: str) -> bytes:
    """A body of more than any buffer on the way, about 300 kB.

    fcgiwrap writes all of it to the program before it reads anything, so there it must fit into a pipe.
    """
    return bytes(range(256)) * (200 if kind == "fcgiwrap" else 1200)


PATH = "/a%20b/%C3%BC?q=1&r"


def test_get(gateway: Gateway, kind: str) -> None:
    """rules.md 14.1, 14.2: the same request is the same to every program, and so is the response."""
    response = gateway.get(target(kind, PATH), x_tag="t")
    assert response.status == 201
    assert response.body == shown(kind, "GET")
    assert response.headers.get_all("X-Test") == ["a", "b"]
    assert response.headers["Content-Type"] == "text/plain"
    assert "Status" not in response.headers


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_post(gateway: Gateway, kind: str, chunked: bool) -> None:
    """CGI-27, caddy#5236: the body arrives whole, with its length, however it was sent."""
    body = upload(kind)
    response = gateway.post(
        target(kind, PATH), iter([body[:1000], body[1000:]]) if chunked else body, x_tag="t"
    )
    assert response.status == 201
    assert response.body == shown(kind, "POST", length=len(body)) + body


def test_empty_chunked_post(gateway: Gateway, kind: str) -> None:
    """haproxy#2499: the application is told that there is no more."""
    response = gateway.post(target(kind, PATH), iter([]), x_tag="t")
    assert response.body == shown(kind, "POST")


def test_head(gateway: Gateway, kind: str) -> None:
    """RFC 9110 9.3.2: nothing of what a program writes for HEAD is taken for the next response."""
    connection = gateway.connect()
    try:
        for method, body in (("HEAD", b""), ("GET", shown(kind, "GET")), ("HEAD", b"")):
            connection.request(method, target(kind, PATH), headers={"X-Tag": "t"})
            response = connection.getresponse()
            assert (response.status, response.read()) == (201, body)
    finally:
        connection.close()


# fcgiwrap itself answers 502 when its program does not read the body.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "fcgiwrap"], indirect=True)
def test_answer_before_the_body_is_read(gateway: Gateway, kind: str) -> None:
    """haproxy#3425, gunicorn#840: the response reaches a client that sends on until it is told to stop."""
    head = f"POST {target(kind, '/early?q=1&r')} HTTP/1.1\r\nHost: x\r\nX-Tag: t\r\n"
    head += "Content-Length: 3000000\r\n\r\n"
    with socket.create_connection((gateway.host, gateway.port), WAIT) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(head.encode() + bytes(3_000_000))
        received = b""
        with connection.makefile("rb") as stream:
            while not received.endswith((b"HTTP_X_TAG=t\n\n", b"0\r\n\r\n")) and (line := stream.readline()):
                received += line
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"PATH_INFO=/early\n" in received


def test_many_at_once(gateway: Gateway, kind: str) -> None:
    """rules.md 14.4: every answer is the one to its own request."""
    start = threading.Barrier(8)

    def client(number: int) -> None:
        connection = gateway.connect()
        try:
            start.wait()
            for turn in range(5):
                tag = f"{number}-{turn}"
                body = tag.encode() * 1000
                connection.request("POST", target(kind, PATH), body, {"X-Tag": tag})
                answer = connection.getresponse().read()
                assert answer == shown(kind, "POST", length=len(body), tag=tag) + body
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(client, range(8)))


def test_connections_to_nginx_are_kept(gateway: Gateway, require_program: RequireProgram) -> None:
    require_program("nginx", INSTALL["nginx"])
    seen = {gateway.get(target("http-nginx", PATH), x_tag="t").headers["X-Connection"] for _ in range(5)}
    assert len(seen) == 1
