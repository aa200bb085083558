"""AJP with programs that others wrote: Tomcat and flup behind the gateway, Apache and lighttpd in front of a
container's codec."""

import hashlib
import http.client
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.protocols.ajp import AjpServer
from gateway.protocols.events import NEED_DATA, Data, EndOfMessage, RequestVariables, ResponseHead
from tests.gateway.served import unused_port
from tests.peers.conftest import WAIT, Gateway, Program, RequireProgram, RunGateway
from tests.peers.tomcat import TOMCAT, run_tomcat

LARGE = 30_000_000
"""Bytes of a large upload or download."""

CONNECTORS = """
<Connector protocol="AJP/1.3" address="127.0.0.1" port="0" secret="s3cret" tomcatAuthentication="false"
           allowedRequestAttributesPattern="note" />
<Connector protocol="AJP/1.3" address="127.0.0.1" port="0" secretRequired="false" packetSize="65536" />
"""

PAGE = '<%@ page session="false" trimDirectiveWhitespaces="true" contentType="text/plain; charset=UTF-8" %>'

PAGES = {
    "info.jsp": PAGE
    + """<%
        String[] lines = {
            "method=" + request.getMethod(), "uri=" + request.getRequestURI(),
            "query=" + request.getQueryString(), "protocol=" + request.getProtocol(),
            "scheme=" + request.getScheme(), "secure=" + request.isSecure(),
            "server=" + request.getServerName() + ":" + request.getServerPort(),
            "client=" + request.getRemoteAddr() + " " + request.getRemotePort(),
            "local=" + request.getLocalAddr(), "user=" + request.getRemoteUser(),
            "x-a=" + request.getHeader("X-A"), "connection=" + request.getHeader("Connection"),
            "length=" + request.getContentLengthLong(), "note=" + request.getAttribute("note"),
            "cipher=" + request.getAttribute("jakarta.servlet.request.cipher_suite"),
            "bits=" + request.getAttribute("jakarta.servlet.request.key_size"),
            "tls=" + request.getAttribute("org.apache.tomcat.util.net.secure_protocol_version"),
        };
        out.print(String.join("\\n", lines)); %>""",
    "form.jsp": PAGE + """<% out.print(request.getParameter("a") + "|" + request.getParameter("b")); %>""",
    "upload.jsp": PAGE
    + """<%
        java.security.MessageDigest md5 = java.security.MessageDigest.getInstance("MD5");
        byte[] block = new byte[20000];
        long size = 0;
        int count;
        java.io.InputStream body = request.getInputStream();
        while ((count = body.read(block)) >= 0) { md5.update(block, 0, count); size += count; }
        out.print(size + " " + String.format("%032x", new java.math.BigInteger(1, md5.digest()))); %>""",
    "download.jsp": PAGE
    + """<%
        String block = "0123456789".repeat(1000);
        for (int i = 0; i < 3000; i++) { out.print(block); if (i % 100 == 0) out.flush(); } %>""",
    "early.jsp": PAGE + """<% response.setStatus(413); out.print("too much"); %>""",
    "none.jsp": PAGE + """<% response.setStatus(204); %>""",
    "fails.jsp": PAGE + """<% if (true) throw new IllegalStateException("on purpose"); %>""",
    "headers.jsp": PAGE
    + """<%
        response.addHeader("X-Twice", "1"); response.addHeader("X-Twice", "2");
        response.addCookie(new jakarta.servlet.http.Cookie("a", "1"));
        response.addCookie(new jakarta.servlet.http.Cookie("b", "2")); %>""",
    "session.jsp": PAGE.replace('"false"', '"true"')
    + """<%
        Integer visits = (Integer) session.getAttribute("visits");
        visits = visits == null ? 1 : visits + 1;
        session.setAttribute("visits", visits);
        out.print(visits); %>""",
}

CONFIG = """
access_log: false
listeners:
  - http: 127.0.0.1:0
  - http: 127.0.0.1:0
    tls: development
trusted_proxies: [127.0.0.1]
limits: {{headers: 64KiB}}
backends:
  tomcat:
    ajp: 127.0.0.1:{port}
    secret: s3cret
    ping: 5s
    variables: {{AJP_note: "see {{path}}", REMOTE_USER: "{{header.x-user}}"}}
  streamed: {{ajp: 127.0.0.1:{port}, secret: s3cret, body: stream}}
  large: {{ajp: 127.0.0.1:{large_port}, packet_size: 64KiB}}
  stranger: {{ajp: 127.0.0.1:{port}, secret: wrong}}
routes:
  - match: {{path: /streamed/*}}
    mount: /streamed
    backend: streamed
  - match: {{path: /large/*}}
    mount: /large
    backend: large
  - match: {{path: /stranger/*}}
    mount: /stranger
    backend: stranger
  - backend: tomcat
"""


def pieces(size: int) -> Iterator[bytes]:
    """*size* bytes in blocks that differ."""
    for number in range(size // 100_000):
        yield (b"%09d " % number) * 10_000


def digest(size: int) -> str:
    md5 = hashlib.md5()
    for piece in pieces(size):
        md5.update(piece)
    return f"{size} {md5.hexdigest()}"


# ---- Tomcat behind the gateway


@pytest.fixture(scope="module")
def tomcat(require_program: RequireProgram, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """A Tomcat of its own; the ports of its AJP connectors."""
    program = require_program(TOMCAT, "apt-get install tomcat10-common")
    base = tmp_path_factory.mktemp("tomcat")
    (base / "webapps/ROOT").mkdir(parents=True)
    for name, text in PAGES.items():
        (base / "webapps/ROOT" / name).write_text(text)
    with run_tomcat(program, base, CONNECTORS) as ports:
        yield ports


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, tomcat: list[int]) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("gateway")
    config = directory / "gateway.yaml"
    config.write_text(CONFIG.format(port=tomcat[0], large_port=tomcat[1]))
    env = {**os.environ, "XDG_CACHE_HOME": str(directory / "cache")}
    with Gateway(config, cwd=directory, env=env) as running:
        yield running
    assert running.status == 0
    events = [json.loads(line) for line in running.lines]
    assert [event for event in events if event["level"] in ("error", "critical")] == []


def facts(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.split("\n"))


def test_request_as_a_servlet_sees_it(gateway: Gateway) -> None:
    """AJP-3 to AJP-5, the secret among them."""
    response = gateway.get(
        "/x/%69nfo.jsp/../../info.jsp?q=%20", X_A="\xe4", X_User="me", Connection="close, X-Hop"
    )
    assert response.status == 200, response.text
    found = facts(response.text)
    port = found["client"].split()[1]
    assert int(port) > 0
    assert found == {
        "method": "GET",
        "uri": "/info.jsp",
        "query": "q=%20",
        "protocol": "HTTP/1.1",
        "scheme": "http",
        "secure": "false",
        "server": f"127.0.0.1:{gateway.port}",
        "client": f"127.0.0.1 {port}",
        "local": "127.0.0.1",
        "user": "me",
        "x-a": "\xe4",
        "connection": "null",
        "length": "-1",
        "note": "see /info.jsp",
        "cipher": "null",
        "bits": "null",
        "tls": "null",
    }


def test_tls_as_a_servlet_sees_it(gateway: Gateway) -> None:
    port = int(gateway.https.rpartition(":")[2])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=WAIT, context=context)) as connection:
        connection.request("GET", "/info.jsp")
        found = facts(connection.getresponse().read().decode())
    assert (found["scheme"], found["secure"], found["tls"]) == ("https", "true", "TLSv1.3")
    assert found["cipher"].startswith("TLS_")
    assert found["bits"] in ("128", "256")
    assert found["server"] == f"127.0.0.1:{port}"


def test_client_behind_a_proxy(gateway: Gateway) -> None:
    found = facts(gateway.get("/info.jsp", X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https").text)
    assert (found["client"].split()[0], found["scheme"]) == ("192.0.2.7", "https")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "PROPFIND", "PATCH"])
def test_methods(gateway: Gateway, method: str) -> None:
    response = gateway.request(method, "/info.jsp", b"" if method == "PATCH" else None)
    # A JSP answers three methods: it knows which one it was.
    if method in ("GET", "HEAD"):
        assert response.status == 200
        assert response.body[:10] == (b"method=GET" if method == "GET" else b"")
    elif method != "OPTIONS":
        assert response.status == 405


@pytest.mark.parametrize("target", ["/form.jsp", "/streamed/form.jsp", "/large/form.jsp"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [10, 40_000])
def test_form(gateway: Gateway, target: str, chunked: bool, size: int) -> None:
    """Of unknown length, too: spooled, or streamed, which Tomcat takes by its Transfer-Encoding."""
    form = urlencode({"a": "x" * size, "b": "ä &="}).encode()
    response = gateway.post(
        target,
        iter([form[:7], form[7:]]) if chunked else form,
        Content_Type="application/x-www-form-urlencoded; charset=UTF-8",
    )
    assert response.text == f"{'x' * size}|ä &="


@pytest.mark.parametrize("target", ["/upload.jsp", "/large/upload.jsp"])
@pytest.mark.parametrize("size", [0, 1, 8186, 8187, 65536, 1_000_000])
def test_upload(gateway: Gateway, target: str, size: int) -> None:
    """AJP-6: it reads to the end, which an empty packet tells."""
    body = os.urandom(size)
    assert gateway.post(target, body).text == f"{size} {hashlib.md5(body).hexdigest()}"


@pytest.mark.parametrize("target", ["/upload.jsp", "/streamed/upload.jsp", "/large/upload.jsp"])
def test_large_upload(gateway: Gateway, target: str) -> None:
    before = gateway.resident()
    assert gateway.post(target, pieces(LARGE)).text == digest(LARGE)
    assert gateway.peak() - before < 20_000_000


@pytest.mark.parametrize("target", ["/download.jsp", "/large/download.jsp"])
def test_large_download(gateway: Gateway, target: str) -> None:
    before = gateway.resident()
    response = gateway.get(target)
    assert len(response.body) == LARGE
    assert hashlib.md5(response.body).digest() == hashlib.md5(b"0123456789" * (LARGE // 10)).digest()
    assert gateway.peak() - before < 20_000_000


def test_expectation(gateway: Gateway) -> None:
    """The gateway says 100 when the first packet is due: AJP has no way for a container to."""
    with socket.create_connection((gateway.host, gateway.port), WAIT) as client:
        client.sendall(
            b"POST /upload.jsp HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        received = b""
        while piece := client.recv(65536):
            received += piece
    assert hashlib.md5(b"abc").hexdigest().encode() in received


@pytest.mark.parametrize("size", [100, 100_000])
def test_answer_without_reading_the_body(gateway: Gateway, size: int) -> None:
    """And the connection is in step for the next request."""
    for _ in range(3):
        response = gateway.post("/early.jsp", b"x" * size)
        assert (response.status, response.text) == (413, "too much")
        assert gateway.post("/upload.jsp", b"").text == f"0 {hashlib.md5().hexdigest()}"


def test_response_headers(gateway: Gateway) -> None:
    """AJP-7: common ones and others, repeated ones kept; the reason is the standard one."""
    response = gateway.get("/headers.jsp")
    assert response.headers.get_all("X-Twice") == ["1", "2"]
    assert response.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert response.headers["Content-Type"] == "text/plain;charset=UTF-8"
    with closing(gateway.connect()) as connection:
        connection.request("GET", "/none.jsp")
        answer = connection.getresponse()
        assert (answer.status, answer.reason, answer.read()) == (204, "No Content", b"")
        connection.request("GET", "/nothing")
        answer = connection.getresponse()
        assert (answer.status, answer.reason) == (404, "Not Found")


def test_failure_of_a_servlet(gateway: Gateway) -> None:
    response = gateway.get("/fails.jsp")
    assert response.status == 500
    assert "on purpose" in response.text
    assert gateway.get("/none.jsp").status == 204


def test_session(gateway: Gateway) -> None:
    """By cookie, and by the URL, whose parameters go on as they are."""
    response = gateway.get("/session.jsp")
    cookie = response.headers["Set-Cookie"].partition(";")[0]
    assert gateway.get("/session.jsp", Cookie=cookie).text == "2"
    assert gateway.get(f"/session.jsp;jsessionid={cookie.partition('=')[2]}").text == "3"


def test_secret_that_is_wrong(gateway: Gateway) -> None:
    """AJP-10: Tomcat answers 403, and closes."""
    for _ in range(2):
        assert gateway.get("/stranger/info.jsp").status == 403
        assert gateway.post("/stranger/info.jsp", b"x" * 20_000).status == 403


def test_head_larger_than_a_packet(gateway: Gateway) -> None:
    """AJP-10."""
    assert gateway.get("/info.jsp", Cookie="x" * 8000).status == 431
    assert facts(gateway.get("/info.jsp", X_A="x" * 7000).text)["x-a"] == "x" * 7000
    assert facts(gateway.get("/large/info.jsp", X_A="x" * 50_000).text)["x-a"] == "x" * 50_000


def test_dot_segments_cannot_be_hidden(gateway: Gateway) -> None:
    """Tomcat alone would take it for /info.jsp."""
    assert gateway.get("/streamed/..;/info.jsp").status == 400


def test_many_requests_at_once(gateway: Gateway) -> None:
    """Connections are shared in turn, with a sign of life each time."""
    answers: list[str] = []

    def ask(number: int) -> None:
        for turn in range(5):
            body = b"%d" % number * (turn * 4000)
            answers.append(gateway.post("/upload.jsp", body).text)
            assert answers[-1] == f"{len(body)} {hashlib.md5(body).hexdigest()}"

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(answers) == 40


# ---- flup behind the gateway

FLUP = """
import sys
from flup.server.ajp import WSGIServer

def application(environ, start_response):
    body = environ["wsgi.input"].read()
    names = "REQUEST_METHOD REQUEST_URI QUERY_STRING REMOTE_ADDR SERVER_NAME HTTP_X_A note"
    seen = "|".join(environ.get(name, "-") for name in names.split())
    start_response("200 Fine", [("Content-Type", "text/plain"), ("X-Test", "a"), ("X-Test", "b")])
    return [seen.encode("latin-1"), b"|", body]

class Server(WSGIServer):
    def _setupSocket(self):
        sock = super()._setupSocket()
        print("listening on", sock.getsockname()[1], file=sys.stderr, flush=True)
        return sock

Server(application, bindAddress=("127.0.0.1", 0), loggingLevel=50).run()
"""


@pytest.fixture(scope="module")
def flup(run_gateway: RunGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Program([sys.executable, "-c", FLUP]) as program:
        port = program.wait_for(lambda line: line.startswith("listening on")).split()[-1]
        config = (
            f"backends: {{app: {{ajp: '127.0.0.1:{port}', variables: {{AJP_note: 'n'}}}}}}\n"
            "routes: [{backend: app}]"
        )
        with run_gateway(tmp_path_factory.mktemp("flup"), config) as gateway:
            yield gateway


def test_wsgi_application_of_flup(flup: Gateway) -> None:
    """Its connections are used again for requests with and without a body."""
    for _ in range(2):
        response = flup.get("/a%20b?c=d", X_A="1")
        assert response.text == "GET|/a%20b|c=d|127.0.0.1|127.0.0.1|1|n|"
        assert response.headers.get_all("X-Test") == ["a", "b"]
        assert flup.post("/", b"abc").body.endswith(b"|abc")


@pytest.mark.parametrize("size", [8186, 8187, 300_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_upload_to_flup(flup: Gateway, size: int, chunked: bool) -> None:
    """flup knows bodies with a length only, which spooling gives them."""
    body = os.urandom(size)
    assert flup.post("/", iter([body]) if chunked else body).body.endswith(b"|" + body)


def test_download_from_flup(flup: Gateway) -> None:
    assert len(flup.post("/", b"x" * 1_000_000).body) > 1_000_000


# ---- Apache and lighttpd in front of the codec of a container


class Container:
    """Answers each request with what it was; its codec is that of `protocols.ajp`."""

    def __init__(self, listener: socket.socket, secret: str | None) -> None:
        self.requests: list[dict[str, str]] = []
        self.failures: list[BaseException] = []
        self.connections = 0
        self._listener = listener
        self._secret = secret

    def run(self) -> None:
        with ExitStack() as stack:
            while True:
                try:
                    sock, _ = self._listener.accept()
                except OSError:  # the test is over
                    return
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                thread.start()
                stack.callback(thread.join, WAIT)

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(WAIT)
        codec = AjpServer(secret=self._secret)
        body = b""
        with sock:
            try:
                while True:
                    event: Any = codec.next_event()
                    if event is NEED_DATA:
                        sock.sendall(codec.data_to_send())
                        if not (data := sock.recv(65536)):
                            return
                        codec.receive_data(data)
                    elif isinstance(event, RequestVariables):
                        self.requests.append(dict(event.variables))
                        body = b""
                    elif isinstance(event, Data):
                        body += event.data
                    else:
                        sock.sendall(self._answer(codec, body))
            except Exception as error:
                self.failures.append(error)

    def _answer(self, codec: AjpServer, body: bytes) -> bytes:
        headers = [(b"content-type", b"text/plain"), (b"x-test", b"a"), (b"set-cookie", b"c=d")]
        answer = codec.send(ResponseHead(200, headers, b"OK"))
        answer += codec.send(Data(b"%d %b" % (len(body), hashlib.md5(body).hexdigest().encode())))
        if self.requests[-1]["QUERY_STRING"] == "large":
            answer += codec.send(Data(b"x" * 1_000_000))
        return answer + codec.send(EndOfMessage())


@contextmanager
def container(secret: str | None = None) -> Iterator[tuple[Container, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = Container(listener, secret)
        thread = threading.Thread(target=answering.run, daemon=True)
        thread.start()
        try:
            yield answering, listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(WAIT)


def ask(
    port: int, method: str, target: str, body: Any = None, **fields: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)) as connection:
        chunked = body is not None and not isinstance(body, bytes)
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, target, body, headers, encode_chunked=chunked)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


APACHE = """
ServerName localhost
ServerRoot {directory}
PidFile {directory}/pid
DefaultRuntimeDir {directory}
Mutex file:{directory} default
Listen 127.0.0.1:{port}
StartServers 1
ServerLimit 1
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_ajp_module {modules}/mod_proxy_ajp.so
LoadModule env_module {modules}/mod_env.so
ErrorLog /dev/stderr
SetEnv AJP_note something
ProxyPass / ajp://127.0.0.1:{container}/ secret=s3cret ping=5
"""


@pytest.fixture
def apache(require_program: RequireProgram, tmp_path: Path) -> Iterator[tuple[Container, int]]:
    program = require_program("apache2", "apt-get install apache2")
    port = unused_port()
    with container("s3cret") as (answering, container_port):
        config = tmp_path / "apache.conf"
        config.write_text(
            APACHE.format(
                directory=tmp_path, port=port, container=container_port, modules="/usr/lib/apache2/modules"
            )
        )
        with Program([program, "-f", str(config), "-DFOREGROUND"]) as running:
            running.wait_for(lambda line: "resuming normal operations" in line)
            yield answering, port
    assert answering.failures == []


def test_apache_in_front(apache: tuple[Container, int]) -> None:
    """mod_proxy_ajp: its secret, its signs of life, its attributes."""
    answering, port = apache
    status, headers, body = ask(port, "GET", "/a%20b?c=d", X_A="1")
    assert (status, headers["X-Test"], headers["Set-Cookie"]) == (200, "a", "c=d")
    assert body == b"0 " + hashlib.md5().hexdigest().encode()
    (request,) = answering.requests
    assert request["REQUEST_URI"] == "/a%20b?c=d"
    assert (request["REQUEST_METHOD"], request["HTTP_X_A"], request["AJP_note"]) == ("GET", "1", "something")
    assert (request["REMOTE_ADDR"], request["SERVER_ADDR"]) == ("127.0.0.1", "127.0.0.1")
    assert int(request["REMOTE_PORT"]) > 0


@pytest.mark.parametrize("size", [0, 1, 8186, 8187, 1_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_upload_through_apache(apache: tuple[Container, int], size: int, chunked: bool) -> None:
    answering, port = apache
    body = os.urandom(size)
    for _ in range(2):
        answer = ask(port, "POST", "/", iter([body] if body else []) if chunked else body)[2]
        assert answer == f"{size} {hashlib.md5(body).hexdigest()}".encode()
    assert answering.connections == 1


def test_download_through_apache(apache: tuple[Container, int]) -> None:
    assert len(ask(apache[1], "GET", "/?large")[2]) > 1_000_000


LIGHTTPD = """
server.document-root = "{directory}"
server.bind = "127.0.0.1"
server.port = {port}
server.modules = ("mod_ajp13")
server.upload-dirs = ("{directory}")
ajp13.server = ("/" => (("host" => "127.0.0.1", "port" => {container}, "check-local" => "disable")))
"""


@pytest.fixture
def lighttpd(require_program: RequireProgram, tmp_path: Path) -> Iterator[tuple[Container, int]]:
    program = require_program("lighttpd", "apt-get install lighttpd")
    port = unused_port()
    with container() as (answering, container_port):
        config = tmp_path / "lighttpd.conf"
        config.write_text(LIGHTTPD.format(directory=tmp_path, port=port, container=container_port))
        with Program([program, "-D", "-f", str(config)]) as running:
            running.wait_for(lambda line: "server started" in line)
            yield answering, port


def test_lighttpd_in_front(lighttpd: tuple[Container, int]) -> None:
    """mod_ajp13 1.4.69 has no secret, and the packets of its bodies lack their length: Tomcat takes none."""
    answering, port = lighttpd
    status, headers, body = ask(port, "GET", "/a?c=d", X_A="1", Cookie="e=f")
    assert (status, headers["X-Test"], headers["Set-Cookie"]) == (200, "a", "c=d")
    assert body == b"0 " + hashlib.md5().hexdigest().encode()
    (request,) = answering.requests
    assert (request["REQUEST_METHOD"], request["REQUEST_URI"]) == ("GET", "/a?c=d")
    assert (request["HTTP_X_A"], request["HTTP_COOKIE"], request["REMOTE_ADDR"]) == ("1", "e=f", "127.0.0.1")
    assert len(ask(port, "GET", "/?large")[2]) > 1_000_000
    assert answering.failures == []
