"""gateway.backends.cgi, with real programs: small shell and Python scripts."""

import errno
import grp
import os
import pwd
import re
import select
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.backends.cgi import CgiBackend, exchange
from gateway.backends.cgi.program import Execute
from gateway.errors import BackendError, Cause, ClientGone, Phase, RequestError, StartError
from gateway.logs.lines import LINE_LIMIT
from gateway.logs.stderr import MAX_STDERR
from gateway.net.pump import Pump
from gateway.programs import process
from gateway.programs.confinement import Confinement, ResourceLimits
from gateway.protocols.events import Headers
from gateway.request import MAX_INFORMATIONAL, NO_BODY, Body, Request, Responder
from gateway.slots import Slots
from gateway.spool import BodyPolicy
from gateway.template import Template
from tests.gateway.backends import cgi_harness
from tests.gateway.backends.cgi_harness import make_backend
from tests.gateway.conftest import BytesBody, FailingBody, RecordingResponder, make_intake, make_request
from tests.gateway.served import gateway_of, pumping, until

pytestmark = pytest.mark.usefixtures("no_leak")

HELLO = "printf 'Content-Type: text/plain\\n\\nhello'"
VARIABLES = "printf 'Content-Type: text/plain\\n\\n'; env"
STREAM = make_intake("stream")
CAT = "printf 'Content-Type: text/plain\\n\\n'; cat"


class Programs:
    """A directory of programs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def sh(self, name: str, script: str, mode: int = 0o755) -> Path:
        return self.file(name, f"#!/bin/sh\n{script}\n", mode)

    def python(self, name: str, script: str) -> Path:
        return self.file(name, f"#!{sys.executable}\n{script}\n")

    def file(self, name: str, content: str, mode: int = 0o755) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    def fifo(self, name: str) -> Path:
        """For programs to tell something: `await_fifo` waits for it."""
        path = self.root / name
        os.mkfifo(path)
        return path


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    root = tmp_path / "cgi-bin"
    root.mkdir()
    return Programs(root)


class Outside:
    """The reading end of a named pipe that a program writes to."""

    def __init__(self, path: Path) -> None:
        # Opened for writing too, so that there is never an end.
        self.descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    async def read(self) -> bytes:
        with trio.fail_after(60):
            await trio.lowlevel.wait_readable(self.descriptor)
        return os.read(self.descriptor, 4096)

    def close(self) -> None:
        os.close(self.descriptor)


async def answer(
    programs: Programs | Path, request: Request, responder: RecordingResponder | None = None, **options: Any
) -> RecordingResponder:
    """Answer one request by a backend of its own."""
    responder = responder or RecordingResponder(method=request.method)
    path = programs.root if isinstance(programs, Programs) else programs
    failure: Exception | None = None
    async with pumping() as pump, trio.open_nursery() as nursery:
        backend = make_backend(path, pump, **options)
        try:
            await nursery.start(backend.run)
            await backend.handle(request, responder)
        except Exception as error:  # out of the nursery as it is, not in a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return responder


def get(
    programs: Programs | Path,
    target: str | bytes = "/x",
    *,
    responder: RecordingResponder | None = None,
    method: str = "GET",
    headers: list[tuple[bytes, bytes]] | None = None,
    mount: str = "",
    body: Any = None,
    client: Any = ("127.0.0.1", 40000),
    **options: Any,
) -> RecordingResponder:
    """The response to one request."""
    target = target.encode() if isinstance(target, str) else target
    extra = {} if body is None else {"body": body}
    request = make_request(target, method=method, headers=headers, mount=mount, client=client, **extra)
    return trio.run(partial(answer, programs, request, responder, **options))


def variables(response: RecordingResponder) -> dict[str, str]:
    assert response.status == 200
    pairs = (line.partition(b"=") for line in response.body.splitlines())
    return {name.decode(): value.decode() for name, _, value in pairs}


# ---- the way to the program


def test_document_response(programs: Programs) -> None:
    """CGI-33."""
    programs.sh("x", HELLO)
    response = get(programs)
    assert (response.status, response.reason) == (200, b"OK")
    assert response.headers == [(b"content-type", b"text/plain")]
    assert response.body == b"hello"
    assert response.ended
    assert not response.unflushed


@pytest.mark.parametrize(
    ("target", "mount", "script_name", "path_info"),
    [
        ("/x", "", "/x", ""),
        ("/x/", "", "/x", "/"),
        ("/x/a/b", "", "/x", "/a/b"),
        ("/x//a//", "", "/x", "//a//"),
        ("/m/n/x/a%20b", "/m/n", "/m/n/x", "/a b"),
        ("/d/e/y/z", "", "/d/e/y", "/z"),
        ("/%C3%A4/%FF", "", "/ä", "/\udcff"),
    ],
)
def test_path_is_split_at_the_program(
    programs: Programs, target: str, mount: str, script_name: str, path_info: str
) -> None:
    """CGI-8, CGI-9, CGI-16, CGI-24."""
    for name in ("x", "d/e/y", "ä"):
        programs.sh(name, VARIABLES)
    response = get(programs, target, mount=mount)
    found = dict(line.split(b"=", 1) for line in response.body.splitlines())
    assert found[b"SCRIPT_NAME"] == os.fsencode(script_name)
    assert found[b"PATH_INFO"] == os.fsencode(path_info)
    filename = os.fsencode(programs.root) + os.fsencode(script_name.removeprefix(mount))
    assert found[b"SCRIPT_FILENAME"] == filename
    if path_info:
        assert found[b"PATH_TRANSLATED"] == os.fsencode(programs.root) + os.fsencode(path_info)
    else:
        assert b"PATH_TRANSLATED" not in found


def test_one_program_gets_the_whole_rest(programs: Programs) -> None:
    """CGI-16, CGI-30."""
    path = programs.sh("only", f"{VARIABLES}; echo CWD=$(pwd)")
    found = variables(get(path, "/git/repo.git/info/refs?service=x", mount="/git"))
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/git", "/repo.git/info/refs")
    assert found["QUERY_STRING"] == "service=x"
    assert found["CWD"] == str(programs.root)


def test_working_directory_is_the_programs(programs: Programs) -> None:
    """CGI-30."""
    programs.sh("d/y", "printf 'Content-Type: text/plain\\n\\n'; pwd")
    assert get(programs, "/d/y").body == f"{programs.root}/d\n".encode()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/missing", 404),
        ("/plain", 403),
        ("/d", 403),
        ("/d/", 403),
        ("/", 403),
        ("", 403),
        ("//x", 404),
        ("/d//y", 404),
        ("/d%2Fy", 404),
        ("/fifo", 404),
        ("/" + "n" * 300, 404),
        ("/out", 403),
        ("/out-directory/secret", 403),
        ("/dangling", 404),
        ("/loop", 404),
        ("/sibling", 403),
    ],
)
def test_no_such_program(programs: Programs, target: str, status: int) -> None:
    """CGI-43, and no way out of the directory."""
    programs.sh("x", HELLO)
    programs.sh("d/y", HELLO)
    programs.sh("plain", HELLO, mode=0o644)
    programs.fifo("fifo")
    outside = Programs(programs.root.parent / "outside")
    secret = outside.sh("secret", HELLO)
    Programs(programs.root.parent / "cgi-bin-2").sh("z", HELLO)
    (programs.root / "out").symlink_to(secret)
    (programs.root / "out-directory").symlink_to(outside.root)
    (programs.root / "dangling").symlink_to("nowhere")
    (programs.root / "loop").symlink_to("loop")
    (programs.root / "sibling").symlink_to("../cgi-bin-2/z")
    with pytest.raises(RequestError) as raised:
        get(programs, f"/m{target}", mount="/m")
    assert raised.value.status == status


def test_links_inside_the_directory_are_followed(programs: Programs) -> None:
    programs.sh("d/y", HELLO)
    (programs.root / "link").symlink_to("d")
    assert get(programs, "/link/y").body == b"hello"


def test_path_of_the_directory_may_be_a_link(programs: Programs) -> None:
    programs.sh("x", HELLO)
    link = programs.root.parent / "link"
    link.symlink_to(programs.root)
    assert get(link).body == b"hello"


@pytest.mark.parametrize("target", ["/m", "/m/", "/m/d/", "/m/d"])
def test_index_stands_for_its_directory(programs: Programs, target: str) -> None:
    programs.sh("index", VARIABLES)
    programs.sh("d/index", VARIABLES)
    found = variables(get(programs, target, mount="/m", rules=cgi_harness.rules(index="index")))
    assert found["SCRIPT_NAME"] == target.rstrip("/") + "/index"
    assert found["PATH_INFO"] == ""


# ---- what may be run, and by what

ARGUMENTS = "printf 'Content-Type: text/plain\\n\\n'; for word; do printf '<%s>' \"$word\"; done"


def test_file_is_run_by_the_interpreter_of_its_extension(programs: Programs) -> None:
    """B21, cgi.assign: it need not be executable, and its first line does not count."""
    programs.file(
        "x.note", "printf 'Content-Type: text/plain\\n\\n'; echo $1 $0 $REDIRECT_STATUS", mode=0o644
    )
    rules = cgi_harness.rules(interpreters={".note": ("/bin/sh",)})
    response = get(programs, "/x.note/rest", rules=rules)
    assert response.body == f"{programs.root}/x.note 200\n".encode()


def test_interpreter_may_have_arguments(programs: Programs) -> None:
    programs.file("x.note", ARGUMENTS, mode=0o644)
    command = ("/bin/sh", "-c", '. "$1"; echo "$0"', "zero")
    response = get(programs, "/x.note", rules=cgi_harness.rules(interpreters={".note": command}))
    assert response.body == f"<{programs.root}/x.note>zero\n".encode()


@pytest.mark.parametrize(
    ("name", "mode", "execute", "status"),
    [
        ("x.note", 0o644, "auto", 200),
        ("x.note", 0o644, "x-only", 403),
        ("x.note", 0o755, "x-only", 200),
        ("x.sh", 0o644, "auto", 403),
        ("x.sh", 0o755, "x-only", 200),
        ("x.sh", 0o644, "shebang", 200),
        ("plain.sh", 0o644, "shebang", 403),
    ],
)
def test_which_files_are_run(programs: Programs, name: str, mode: int, execute: Execute, status: int) -> None:
    """B21, cgi.execute-x-only."""
    programs.file(name, HELLO if name == "plain.sh" else f"#!/bin/sh\n{HELLO}", mode)
    rules = cgi_harness.rules(interpreters={".note": ("/bin/sh",)}, execute=execute)
    if status == 200:
        assert get(programs, f"/{name}", rules=rules).body == b"hello"
        return
    with pytest.raises(RequestError) as raised:
        get(programs, f"/{name}", rules=rules)
    assert raised.value.status == status


def test_shebang_has_one_argument(programs: Programs) -> None:
    """As execve(2) has it."""
    programs.file("x", "#! /bin/echo Content-Type: a/b; c=d \n", mode=0o644)
    with pytest.raises(BackendError, match="inside the response head") as raised:
        get(programs, rules=cgi_harness.rules(execute="shebang"))
    assert raised.value.cause is Cause.TERMINATED


@pytest.mark.parametrize(("name", "status"), [("x.cgi", 200), ("x.note", 200), ("x.txt", 403), ("cgi", 403)])
def test_other_extensions_are_not_run(programs: Programs, name: str, status: int) -> None:
    """cgi-allowed-ext: a data file with a wrong mode is no program."""
    programs.sh(name, HELLO)
    rules = cgi_harness.rules(extensions=(".cgi", ".pl"), interpreters={".note": ("/bin/sh",)})
    if status == 200:
        assert get(programs, f"/{name}", rules=rules).body == b"hello"
        return
    with pytest.raises(RequestError, match="extension") as raised:
        get(programs, f"/{name}", rules=rules)
    assert raised.value.status == status


@pytest.mark.parametrize(
    ("method", "query", "words"),
    [
        ("GET", "one+two%20three+%C3%A4", b"<one><two three><\xc3\xa4>"),
        ("HEAD", "one", b""),  # no body, that is
        ("GET", "a%3Db", b"<a=b>"),
        ("GET", "", b""),
        ("GET", "a=b", b""),
        ("GET", "one+-s", b""),
        ("GET", "%2Ds", b""),
        ("GET", "-d+allow_url_include%3d1", b""),
        ("GET", "one+%00", b""),
        ("GET", "one++two", b""),
        ("POST", "one", b""),
    ],
)
def test_query_as_arguments(programs: Programs, method: str, query: str, words: bytes) -> None:
    """CGI-29, CVE-2012-1823: all words or none, and never one that could be an option."""
    programs.sh("x", ARGUMENTS)
    rules = cgi_harness.rules(indexed_query=True)
    assert get(programs, f"/x?{query}", method=method, rules=rules).body == words
    assert get(programs, f"/x?{query}", method=method).body == b""


# ---- the environment


def test_environment_is_that_of_the_request_and_nothing_of_ours(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CGI-1 to CGI-23; complaint 31 (httpoxy, configured variables win)."""
    monkeypatch.setenv("SECRET", "ours")
    programs.sh("x", VARIABLES)
    headers = [
        (b"host", b"example.com"),
        (b"x-tea", b"green"),
        (b"proxy", b"http://evil"),
        (b"authorization", b"Basic Zm9v"),
        (b"x-set", b"by the client"),
    ]
    configured = {
        "HTTP_X_SET": Template.parse("by us"),
        "METHOD_AGAIN": Template.parse("{method} ä"),
        "LANG": Template.parse("C.UTF-8"),
    }
    found = variables(get(programs, "/x?a=b+c", headers=headers, variables=configured))
    shell = {"PWD", "SHLVL", "_", "OLDPWD"}
    assert {name: value for name, value in found.items() if name not in shell} == {
        "DOCUMENT_ROOT": str(programs.root),
        "GATEWAY_INTERFACE": "CGI/1.1",
        "HTTP_HOST": "example.com",
        "HTTP_X_SET": "by us",
        "HTTP_X_TEA": "green",
        "LANG": "C.UTF-8",
        "METHOD_AGAIN": "GET ä",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PATH_INFO": "",
        "QUERY_STRING": "a=b+c",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_HOST": "127.0.0.1",
        "REMOTE_PORT": "40000",
        "REQUEST_METHOD": "GET",
        "REQUEST_SCHEME": "http",
        "REQUEST_URI": "/x?a=b+c",
        "SCRIPT_FILENAME": f"{programs.root}/x",
        "SCRIPT_NAME": "/x",
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_NAME": "example.com",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": found["SERVER_SOFTWARE"],
    }


def test_variables_of_ours_are_passed_on_by_name(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """PassEnv, pass_env; M09."""
    monkeypatch.setenv("OURS", "passed ä")
    monkeypatch.setenv("SECRET", "not passed")
    monkeypatch.setenv("BOTH", "not this")
    monkeypatch.delenv("ABSENT", raising=False)
    programs.sh("x", VARIABLES)
    configured = {"BOTH": Template.parse("configured")}
    found = variables(get(programs, variables=configured, pass_env=["OURS", "ABSENT", "BOTH"]))
    assert (found["OURS"], found["BOTH"]) == ("passed ä", "configured")
    assert not {"ABSENT", "SECRET"} & set(found)


@pytest.mark.parametrize("wanted", [True, False])
def test_authorization_is_passed_on_if_wanted(programs: Programs, wanted: bool) -> None:
    """CGIPassAuth; CGI-4, CGI-14: nobody was authenticated here, so neither AUTH_TYPE nor REMOTE_USER."""
    programs.sh("x", VARIABLES)
    found = variables(get(programs, headers=[(b"authorization", b"Basic Zm9v")], pass_authorization=wanted))
    assert found.get("HTTP_AUTHORIZATION") == ("Basic Zm9v" if wanted else None)
    assert not {"AUTH_TYPE", "REMOTE_USER"} & set(found)


def test_authorization_can_be_configured(programs: Programs) -> None:
    """CGI-23: not by itself."""
    programs.sh("x", VARIABLES)
    configured = {"HTTP_AUTHORIZATION": Template.parse("{header.authorization}")}
    headers = [(b"authorization", b"Basic Zm9v")]
    found = variables(get(programs, headers=headers, variables=configured))
    assert found["HTTP_AUTHORIZATION"] == "Basic Zm9v"


def test_program_gets_three_descriptors_and_no_other(programs: Programs) -> None:
    """Complaint 29."""
    script = "import os; print('Content-Type: text/plain\\n'); print(*sorted(os.listdir('/proc/self/fd')))"
    programs.python("x", script)
    assert get(programs, method="POST", body=BytesBody(b"abc")).body == b"0 1 2 3\n"  # 3: the listing


# ---- the request body


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1_000_000])
@pytest.mark.parametrize("waits", [False, True])
def test_body_of_known_length(programs: Programs, size: int, waits: bool) -> None:
    """CGI-5, CGI-26; complaint 29: the end of input comes after CONTENT_LENGTH bytes."""
    programs.sh("x", f"{CAT}; echo :$CONTENT_LENGTH")
    content = os.urandom(size)
    body = BytesBody(*(content[i : i + 60_000] for i in range(0, size, 60_000)), waits=waits)
    response = get(programs, method="POST", body=body)
    assert response.body == content + (b":%d\n" % size if size else b":\n")


@pytest.mark.parametrize("size", [0, 1_000, 300_000])
@pytest.mark.parametrize("memory", [500, 1_000_000])
def test_body_of_unknown_length_is_spooled(programs: Programs, size: int, memory: int) -> None:
    """CGI-5, CGI-27, complaint 11."""
    programs.sh("x", f"{CAT}; echo :$CONTENT_LENGTH")
    content = os.urandom(size)
    body = BytesBody(content, sized=False, waits=True)
    response = get(programs, method="POST", body=body, intake=make_intake(spool_memory=memory))
    assert response.body == content + (b":%d\n" % size if size else b":\n")


def test_body_of_unknown_length_may_be_streamed(programs: Programs) -> None:
    programs.sh("x", f"{CAT}; echo :$CONTENT_LENGTH")
    body = BytesBody(b"one", b"two", sized=False, waits=True)
    assert get(programs, method="POST", body=body, intake=STREAM).body == b"onetwo:\n"


def test_body_of_unknown_length_may_be_rejected(programs: Programs) -> None:
    """CGI-27; complaint 11: the 411 says why, and which option decides it."""
    programs.sh("x", HELLO)
    with pytest.raises(RequestError, match="body: spool") as raised:
        get(programs, method="POST", body=BytesBody(b"one", sized=False), intake=make_intake("reject"))
    assert raised.value.status == 411


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("policy", ["spool", "stream"])
@pytest.mark.parametrize("waits", [True, False])
def test_body_is_bounded(programs: Programs, sized: bool, policy: BodyPolicy, waits: bool) -> None:
    """Whether or not its length is told, and whether or not it is stored."""
    programs.sh("x", CAT)
    body = BytesBody(b"x" * 60, b"x" * 41, sized=sized, waits=waits)
    with pytest.raises(RequestError) as raised:
        get(programs, method="POST", body=body, intake=make_intake(policy, max_body=100))
    assert raised.value.status == 413


def test_program_without_a_body_reads_the_end(programs: Programs) -> None:
    programs.sh("x", f"{CAT}; echo end")
    assert get(programs).body == b"end\n"


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_program_need_not_read_its_input(programs: Programs, size: int) -> None:
    """CGI-28."""
    programs.sh("x", f"exec 0<&-; {HELLO}")
    assert get(programs, method="POST", body=BytesBody(b"x" * size)).body == b"hello"


class Stalling(BytesBody):
    """A client that never sends it."""

    async def read(self) -> bytes:
        await trio.sleep_forever()
        raise AssertionError


def test_answer_may_come_before_the_body_is_complete(programs: Programs) -> None:
    """CGI-26, complaint 16: the response is whole though the client never sends the rest."""
    programs.sh("x", HELLO)

    body = Stalling(b"x" * 100, waits=True)
    assert get(programs, method="POST", body=body).body == b"hello"


def test_program_may_answer_while_it_reads(programs: Programs) -> None:
    """FCGI-10's counterpart: both directions at once, far more than the pipes hold."""
    programs.sh("x", CAT)
    content = os.urandom(65_536) * 64
    body = BytesBody(*(content[i : i + 65_536] for i in range(0, len(content), 65_536)), waits=True)
    assert get(programs, method="POST", body=body).body == content


@pytest.mark.parametrize("error", [RequestError(400, "bad chunk"), ClientGone("reset")])
def test_failing_body_ends_the_program(programs: Programs, error: RequestError | ClientGone) -> None:
    programs.sh("x", CAT)
    with pytest.raises(type(error)) as raised:
        get(
            programs,
            method="POST",
            body=FailingBody(b"some", error=error),
            intake=make_intake("stream"),
        )
    assert raised.value is error


# ---- the response


def test_output_is_passed_on_as_it_comes(programs: Programs) -> None:
    """CGI-39; what is ready is flushed before waiting."""
    fifo = programs.fifo("go")
    programs.sh("x", f"printf 'Content-Type: text/plain\\n\\none'; cat {fifo}; printf two")

    class Watching(RecordingResponder):
        async def flush(self) -> None:
            await super().flush()
            if self.body == b"one" and not self.ended:
                with open(fifo, "w") as go:  # noqa: ASYNC230 (the reader is there, or comes at once)
                    go.write("-")

    response = get(programs, responder=Watching())
    assert response.body == b"one-two"


def test_head_has_no_body(programs: Programs) -> None:
    """CGI-38."""
    programs.sh("x", HELLO)
    response = get(programs, method="HEAD")
    assert response.headers == [(b"content-type", b"text/plain")]
    assert response.body == b""
    assert response.ended


def test_client_redirect(programs: Programs) -> None:
    """CGI-35."""
    programs.sh("x", "printf 'Location: https://example.org/\\n\\n'")
    response = get(programs)
    assert response.status == 302
    assert response.header(b"location") == b"https://example.org/"


def test_local_redirect_is_answered_by_the_router(programs: Programs) -> None:
    """CGI-34."""
    programs.sh("x", "printf 'Location: /other/p%%20q?r=s\\n\\n'")
    seen: list[Request] = []

    async def dispatch(request: Request, responder: Responder) -> None:
        seen.append(request)
        responder.start(200, [])
        responder.end()
        await responder.flush()

    response = get(programs, method="POST", body=BytesBody(b"abc"), dispatch=dispatch)
    assert response.ended
    (request,) = seen
    assert (request.method, request.path, request.query) == ("GET", "/other/p q", b"r=s")
    assert request.body.length == 0


def test_local_redirects_in_a_circle_end(programs: Programs) -> None:
    """CGI-34."""
    programs.sh("x", "echo again >> count; printf 'Location: /x\\n\\n'")
    backend: CgiBackend

    async def main() -> None:
        nonlocal backend

        async def dispatch(request: Request, responder: Responder) -> None:
            await backend.handle(request, responder)

        async with pumping() as pump, trio.open_nursery() as nursery:
            backend = make_backend(programs.root, pump, dispatch=dispatch)
            await nursery.start(backend.run)
            with pytest.raises(BackendError, match="loop") as raised:
                await backend.handle(make_request(b"/x"), RecordingResponder())
            assert raised.value.cause is Cause.MALFORMED
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert (programs.root / "count").read_text().splitlines() == ["again"] * 11


def test_nph_output_is_a_whole_http_response(programs: Programs) -> None:
    """CGI-42."""
    programs.sh("nph-x", r"printf 'HTTP/1.1 418 Teapot\r\nX-Tea: green\r\n\r\nshort and stout'")
    response = get(programs, "/nph-x")
    assert (response.status, response.reason) == (418, b"Teapot")
    assert response.headers == [(b"x-tea", b"green")]
    assert response.body == b"short and stout"


def test_nph_names_are_configured(programs: Programs) -> None:
    programs.sh("x.nph", r"printf 'HTTP/1.1 200 OK\r\n\r\nraw'")
    assert get(programs, "/x.nph", nph=["nph-*", "*.nph"]).body == b"raw"


# ---- what goes wrong


@pytest.mark.parametrize(
    ("script", "phase", "detail"),
    [
        ("exit 0", Phase.FIRST_BYTE, "without a response; exit status 0"),
        ("exit 3", Phase.FIRST_BYTE, "without a response; exit status 3"),
        ("kill -9 $$", Phase.FIRST_BYTE, r"without a response; signal 9 \(SIGKILL\)"),
        ("printf 'Content-Type: text/plain\\n'", Phase.HEAD, "inside the response head; exit status 0"),
    ],
)
def test_ends_without_a_response(programs: Programs, script: str, phase: Phase, detail: str) -> None:
    """CGI-39: as a server that closes the connection."""
    programs.sh("x", script)
    with pytest.raises(BackendError, match=detail) as raised:
        get(programs)
    assert (raised.value.cause, raised.value.phase) == (Cause.TERMINATED, phase)


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ("echo 'no header'; echo; cat /dev/zero", "malformed header line"),
        ("printf 'X-Foo: bar\\n\\n'", "neither Content-Type, Location nor Status"),
    ],
)
def test_malformed_output(programs: Programs, script: str, detail: str) -> None:
    """CGI-32, CGI-39."""
    path = programs.sh("x", script)
    with pytest.raises(BackendError, match=detail) as raised:
        get(programs)
    assert raised.value.cause is Cause.MALFORMED
    assert raised.value.backend == "tools"
    assert raised.value.address == str(path)


def test_last_words_are_apart_from_the_detail(programs: Programs) -> None:
    """CGI-39; they are for the developer, a traceback may hold secrets."""
    programs.sh("x", "echo 'the password is wrong' >&2; exit 1")
    with pytest.raises(BackendError) as raised:
        get(programs)
    assert "password" not in raised.value.detail
    assert raised.value.last_words == ["the password is wrong"]


def test_head_is_bounded(programs: Programs) -> None:
    programs.sh("x", "while :; do echo 'X-More: and more'; done")
    with pytest.raises(BackendError) as raised:
        get(programs)
    assert raised.value.cause is Cause.HEAD_TOO_LARGE


def test_body_longer_than_promised(programs: Programs) -> None:
    """14.3: what was promised is passed on; a program that goes on writing is not waited for."""
    programs.sh("x", r"printf 'Content-Type: text/plain\nContent-Length: 4\n\nfine'; exec yes")
    with capture_logs() as logs:
        response = get(programs)
    assert response.body == b"fine"
    assert response.ended
    assert [entry["event"] for entry in logs] == [
        "the response is longer than its Content-Length",
        "CGI program failed",
    ]


def test_body_shorter_than_promised(programs: Programs) -> None:
    programs.sh("x", "printf 'Content-Type: text/plain\\nContent-Length: 10\\n\\nfive!'")
    response = RecordingResponder()
    with pytest.raises(BackendError) as raised:
        get(programs, responder=response)
    assert (raised.value.cause, raised.value.phase) == (Cause.INCOMPLETE, Phase.BODY)
    assert not response.ended


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (
            "#!/no/such/interpreter\n",
            "the interpreter in its first line does not exist: /no/such/interpreter",
        ),
        ("#!/bin/sh\r\n", "CR LF"),
        ("neither\n", "no program of this machine"),
    ],
)
def test_program_that_cannot_be_started(programs: Programs, content: str, detail: str) -> None:
    programs.file("x", content)
    with pytest.raises(BackendError, match=detail) as raised:
        get(programs)
    assert (raised.value.cause, raised.value.phase) == (Cause.NOT_STARTED, Phase.SPAWN)
    assert raised.value.errno in (errno.ENOENT, errno.ENOEXEC)


def test_informational_responses_are_bounded(programs: Programs) -> None:
    """H-11: a program that never comes to its answer would otherwise never be found too slow."""
    programs.sh("nph-x", "while :; do printf 'HTTP/1.1 102 Processing\\r\\n\\r\\n'; done")
    response = RecordingResponder()
    with pytest.raises(BackendError, match="informational") as raised:
        get(programs, b"/nph-x", responder=response)
    assert raised.value.cause is Cause.MALFORMED
    assert len(response.informed) == MAX_INFORMATIONAL


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EAGAIN])
def test_lack_of_processes_or_descriptors_is_an_overload(
    programs: Programs, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    programs.sh("x", HELLO)
    monkeypatch.setattr(process, "start_program", exhausted)
    with pytest.raises(BackendError) as raised:
        get(programs)
    assert (raised.value.cause, raised.value.phase) == (Cause.OVERLOADED, Phase.SPAWN)


def test_stderr_is_logged_by_line_with_the_request(programs: Programs) -> None:
    """Complaints 5, 27: it never makes a response an error."""
    programs.sh("x", f"echo one >&2; {HELLO}; printf two >&2")
    request = make_request(b"/x")
    with capture_logs() as logs:
        response = trio.run(partial(answer, programs, request))
    assert response.body == b"hello"
    assert [entry["line"] for entry in logs] == ["one", "two"]
    for entry in logs:
        assert entry["request_id"] == request.id
        assert entry["backend"] == "tools"
        assert entry["program"] == str(programs.root / "x")


def test_flood_of_stderr_neither_blocks_nor_fills_the_log(programs: Programs) -> None:
    """Complaint 27."""
    programs.sh("x", f"head -c 3000000 /dev/zero | tr '\\0' x >&2; {HELLO}")
    with capture_logs() as logs:
        assert get(programs).body == b"hello"
    *lines, last = logs
    logged = sum(len(entry["line"]) for entry in lines)
    assert MAX_STDERR <= logged <= MAX_STDERR + LINE_LIMIT
    assert last["event"] == "application stderr dropped"
    assert last["lines"] >= (3_000_000 - logged) // LINE_LIMIT
    assert max(len(entry["line"]) for entry in lines) <= LINE_LIMIT


def test_line_behind_a_flood_of_stderr_is_caught_and_kept(programs: Programs) -> None:
    programs.sh("x", f"yes a notice | head -n 10000 >&2; echo 'PHP Fatal error: no memory' >&2; {HELLO}")
    with pytest.raises(BackendError, match="catch_stderr: PHP Fatal error: no memory") as raised:
        get(programs, catch_stderr=re.compile("Fatal error"))
    assert raised.value.last_words[-2:] == ["a notice", "PHP Fatal error: no memory"]


def test_exit_status_is_logged(programs: Programs) -> None:
    programs.sh("x", f"{HELLO}; exit 4")
    with capture_logs() as logs:
        assert get(programs).body == b"hello"
    assert [(entry["event"], entry["end"]) for entry in logs] == [("CGI program failed", "exit status 4")]


def test_last_words_need_no_line_end(programs: Programs) -> None:
    programs.sh("x", "printf 'out of' >&2; printf ' memory' >&2; exit 1")
    with pytest.raises(BackendError) as raised:
        get(programs)
    assert raised.value.last_words == ["out of memory"]


@pytest.mark.parametrize("promised", ["", "Content-Length: 4\\n"])
def test_killed_program_has_not_said_all(programs: Programs, promised: str) -> None:
    """CGI-39: the end of the output is no end of the response when a signal has ended both."""
    programs.sh("x", f"printf 'Content-Type: text/plain\\n{promised}\\nsome'; kill -SEGV $$")
    response = RecordingResponder()
    if promised:
        with capture_logs() as logs:
            assert get(programs, responder=response).body == b"some"
        assert [entry["end"] for entry in logs] == ["signal 11 (SIGSEGV)"]
        return
    with pytest.raises(BackendError, match=r"ended by signal 11 \(SIGSEGV\)") as raised:
        get(programs, responder=response)
    assert (raised.value.cause, raised.value.phase) == (Cause.INCOMPLETE, Phase.BODY)
    assert not response.ended


def test_caught_line_of_stderr_is_a_failure(programs: Programs) -> None:
    """fastcgi_catch_stderr: it answers 200 all the same, and says what is wrong where nobody looks."""
    programs.sh("x", f"echo 'a notice' >&2; printf 'PHP Fatal error: no memory' >&2; {HELLO}")
    with pytest.raises(BackendError, match="catch_stderr: PHP Fatal error: no memory") as raised:
        get(programs, catch_stderr=re.compile("Fatal error"))
    assert raised.value.cause is Cause.MALFORMED
    assert raised.value.last_words == ["a notice", "PHP Fatal error: no memory"]


def test_other_lines_of_stderr_are_no_failure(programs: Programs) -> None:
    programs.sh("x", f"echo 'a notice' >&2; {HELLO}")
    fifo = programs.fifo("go")
    programs.sh("y", f"{HELLO}; cat {fifo} > /dev/null; echo 'Fatal error, too late' >&2")
    catch = re.compile("Fatal error")
    with capture_logs():
        assert get(programs, method="HEAD", catch_stderr=re.compile("fatal")).status == 200

        class Watching(RecordingResponder):
            async def flush(self) -> None:
                await super().flush()
                if self.body == b"hello" and not self.ended:
                    with open(fifo, "w") as go:  # noqa: ASYNC230 (the reader is there, or comes at once)
                        go.write("-")

        assert get(programs, "/y", responder=Watching(), catch_stderr=catch).body == b"hello"


# ---- how many


async def many(programs: Programs, slots: Slots, count: int) -> list[RecordingResponder | BackendError]:
    """The answers to *count* requests at once, in the order in which they came."""
    answers: list[RecordingResponder | BackendError] = []

    async def one() -> None:
        responder = RecordingResponder()
        try:
            await backend.handle(make_request(b"/x"), responder)
            answers.append(responder)
        except BackendError as error:
            answers.append(error)

    async with pumping() as pump, trio.open_nursery() as nursery:
        backend = make_backend(programs.root, pump, slots=slots)
        await nursery.start(backend.run)
        async with trio.open_nursery() as requests:
            for _ in range(count):
                requests.start_soon(one)
        nursery.cancel_scope.cancel()
    return answers


def test_no_more_programs_run_than_may(programs: Programs) -> None:
    """docker#1977: the rest waits."""
    programs.sh("x", f"mkdir running || exit 1; {HELLO}; rmdir running")
    answers = trio.run(
        many, programs, Slots(1, queue=10, queue_time=60, backend="tools", running="programs run"), 6
    )
    assert [getattr(answer, "body", answer) for answer in answers] == [b"hello"] * 6


# ---- transcript


def transcript_of(programs: Programs, path: Path, **options: Any) -> str:
    headers = [(b"authorization", b"Basic Zm9v"), (b"cookie", b"id=7"), (b"x-tea", b"green")]
    configured = {"DATABASE_PASSWORD": Template.parse("secret")}
    with capture_logs():
        try:
            get(
                programs, "/x?q", method="POST", headers=headers, body=BytesBody(b"b" * 3000),
                variables=configured, pass_authorization=True, **options,
            )  # fmt: skip
        except BackendError:
            pass
    return path.read_text() if path.exists() else ""


def test_transcript_of_a_failure(programs: Programs, tmp_path: Path) -> None:
    """B25, ScriptLog: all that is needed to see what is wrong, without credentials."""
    path = tmp_path / "transcript"
    programs.sh("x", "echo oops >&2; echo 'no header'; echo; cat >&2")
    text = transcript_of(programs, path, transcript=cgi_harness.transcript(path, excerpt=100))
    first, second, *lines = text.splitlines()
    assert re.fullmatch(r"%% \S+Z POST /x\?q [0-9a-f]{16} malformed header line.*", first)
    assert second == f"%% {programs.root}/x"
    assert "HTTP_X_TEA=green" in lines
    assert "HTTP_AUTHORIZATION=[left out]" in lines
    assert "HTTP_COOKIE=[left out]" in lines
    assert "DATABASE_PASSWORD=[left out]" in lines
    body, stderr, stdout = map(lines.index, ("%body", "%stderr", "%stdout"))
    assert lines[body + 1] == "b" * 100
    assert lines[stderr + 1] == "oops"
    assert lines[stdout + 1] == "no header"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("script", "always", "outcome"),
    [
        (HELLO, False, None),
        (HELLO, True, "exit status 0"),
        (f"{HELLO}; exit 3", False, "exit status 3"),
        ("exec cat < /dev/null", False, "without a response"),
    ],
)
def test_what_is_written_down(
    programs: Programs, tmp_path: Path, script: str, always: bool, outcome: str | None
) -> None:
    path = tmp_path / "transcript"
    programs.sh("x", script)
    text = transcript_of(programs, path, transcript=cgi_harness.transcript(path, always=always))
    assert (outcome in text) if outcome else not text


def test_transcript_is_bounded_and_nobody_elses(programs: Programs, tmp_path: Path) -> None:
    path = tmp_path / "transcript"
    path.write_text("-" * 900)
    path.chmod(0o644)
    programs.sh("x", "exit 1")
    for _ in range(2):
        assert len(transcript_of(programs, path, transcript=cgi_harness.transcript(path, size=1000))) == 1000
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_transcript_that_cannot_be_written_fails_no_request(programs: Programs, tmp_path: Path) -> None:
    programs.sh("x", HELLO)
    with capture_logs() as logs:
        missing = cgi_harness.transcript(tmp_path / "missing" / "transcript", always=True)
        assert get(programs, transcript=missing).body == b"hello"
    assert [entry["event"] for entry in logs] == ["transcript cannot be written"]


@pytest.mark.parametrize("is_read", [False, True])
def test_transcript_is_a_regular_file(is_read: bool, programs: Programs, tmp_path: Path) -> None:
    """fifo(7): one that nobody reads would hold up the whole daemon, one that is full as well."""
    path = tmp_path / "transcript"
    os.mkfifo(path)
    programs.sh("x", HELLO)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if is_read else None
    with capture_logs() as logs:
        assert get(programs, transcript=cgi_harness.transcript(path, always=True)).body == b"hello"
    (entry,) = logs
    assert entry["event"] == "transcript cannot be written"
    if reader is not None:
        assert "no regular file" in entry["cause"]
        os.close(reader)


def test_transcript_of_a_stored_body(programs: Programs, tmp_path: Path) -> None:
    path = tmp_path / "transcript"
    programs.sh("x", CAT)
    body = BytesBody(b"stored" * 100, sized=False)
    transcript = cgi_harness.transcript(path, always=True, excerpt=6)
    get(programs, method="POST", body=body, intake=make_intake(spool_memory=10), transcript=transcript)
    assert "%body\nstored\n%stdout\nConten\n" in path.read_text()


# ---- time


def test_silent_program_is_ended(programs: Programs) -> None:
    """CGI-31, complaint 28: TERM, then KILL, for the whole group."""
    fifo = programs.fifo("pipe")
    programs.sh("x", f"trap '' TERM; exec 9> {fifo}; while :; do sleep 1000; done")
    with pytest.raises(BackendError, match=r"nothing in or out for 0\.01 s") as raised:
        get(programs, timeout=0.01, kill_after=0.01)
    assert (raised.value.cause, raised.value.phase) == (Cause.READ_TIMEOUT, Phase.FIRST_BYTE)


@pytest.mark.parametrize("script", ["echo noise >&2", "cat /dev/zero >&2"])
def test_noise_on_stderr_is_no_progress(programs: Programs, script: str) -> None:
    programs.sh("x", f"while :; do {script}; done")
    with capture_logs(), pytest.raises(BackendError) as raised:
        get(programs, timeout=0.05, kill_after=0)
    assert raised.value.cause is Cause.READ_TIMEOUT


class FlushEvent(RecordingResponder):
    """Tells when something was flushed, or all of the response."""

    def __init__(self, *, all_of_it: bool) -> None:
        super().__init__()
        self.flushed = trio.Event()
        self._all = all_of_it

    async def flush(self) -> None:
        await super().flush()
        if self.ended or not self._all:
            self.flushed.set()


class LargestGap(RecordingResponder):
    """How many bytes were written between two flushes at most."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self._gap = 0

    def write(self, data: bytes) -> None:
        self._gap += len(data)
        self.largest = max(self.largest, self._gap)

    def end(self, trailers: Headers | None = None) -> None:
        self.ended = True

    def try_flush(self) -> bool:
        self._gap = 0
        return super().try_flush()


def test_program_that_is_faster_than_its_reader_is_not_kept_in_memory(programs: Programs) -> None:
    """14.5: its output need never run dry, so what is queued has a bound of its own."""
    programs.sh("x", "printf 'Content-Type: text/plain\\n\\n'; exec head -c 50000000 /dev/zero")
    responder = LargestGap()
    trio.run(partial(answer, programs, make_request(b"/x"), responder))
    assert responder.ended
    assert responder.largest <= 128 * 1024


def answer_and_let_time_pass(
    programs: Programs, responder: FlushEvent, request: Request | None = None
) -> None:
    """After the flush, nothing happens for longer than the timeout."""
    clock = trio.testing.MockClock(rate=1.0)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            asked = request or make_request(b"/x")
            nursery.start_soon(partial(answer, programs, asked, responder, timeout=60))
            await responder.flushed.wait()
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(61)

    trio.run(main, clock=clock)


def test_client_that_does_not_read_costs_no_turns(programs: Programs) -> None:
    """What has come meanwhile waits in the pipe; error output is logged all the same."""
    first, second = programs.fifo("first"), programs.fifo("second")
    programs.sh("x", f"{HELLO}; read go < {first}; echo ' and more'; echo oops >&2; read go < {second}")

    class Slow(RecordingResponder):
        async def flush(self) -> None:
            await super().flush()
            if self.body == b"hello" and not logs:
                await tell(first)
                await until(lambda: bool(logs))
                with trio.fail_after(10):
                    # It would never come to this if somebody were told of the output again and again.
                    await trio.testing.wait_all_tasks_blocked()
                await tell(second)

    with capture_logs() as logs:
        assert get(programs, responder=Slow()).body == b"hello and more\n"
    assert [entry["line"] for entry in logs] == ["oops"]


async def tell(fifo: Path) -> None:
    """Let a program go on that reads a line."""
    descriptor = os.open(fifo, os.O_RDWR)  # which waits for no reader
    os.write(descriptor, b"\n")
    await until(lambda: not select.select([descriptor], [], [], 0)[0])  # it was read
    os.close(descriptor)


def test_grandchild_that_holds_the_output_is_ended(programs: Programs) -> None:
    programs.sh("x", f"{HELLO}; sleep 1000 &")
    responder = FlushEvent(all_of_it=False)
    with pytest.RaisesGroup(BackendError) as raised:
        answer_and_let_time_pass(programs, responder)
    (error,) = raised.value.exceptions
    assert isinstance(error, BackendError)
    assert (error.cause, error.phase) == (Cause.READ_TIMEOUT, Phase.BODY)
    assert responder.body == b"hello"
    assert not responder.ended


@pytest.mark.parametrize("body", [NO_BODY, Stalling(b"x" * 100, waits=True)], ids=["no body", "stalled body"])
@pytest.mark.parametrize("descriptors", [True, False])
def test_program_that_lives_on_after_its_response_is_ended(
    programs: Programs, descriptors: bool, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response is complete when the output is closed; then the program has the timeout to exit."""
    if not descriptors:

        def exhausted(_pid: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr(os, "pidfd_open", exhausted)
    programs.sh("x", f"{HELLO}; exec >&-; sleep 1000")
    responder = FlushEvent(all_of_it=True)
    with capture_logs() as logs:
        answer_and_let_time_pass(programs, responder, make_request(b"/x", method="POST", body=body))
    assert responder.body == b"hello"
    assert [entry["event"] for entry in logs] == ["CGI program does not exit"]


@pytest.mark.skipif(not str(exchange.__file__).endswith(".py"), reason="compiled, it calls the pump's own")
def test_what_the_kernel_cannot_watch_is_a_failure_that_leaves_nothing(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """epoll_ctl(2): no memory, or more descriptors than a user may watch. The error output comes second."""
    programs.sh("x", "sleep 1000")
    watch = Pump.watch

    def exhausted(pump: Pump, fd: int, callback: Callable[[], None], *, edge: bool = False) -> None:
        if not edge:
            os.stat(programs.root / "no descriptor")
        watch(pump, fd, callback, edge=edge)

    monkeypatch.setattr(Pump, "watch", exhausted)
    with pytest.raises(BackendError) as raised:
        get(programs)
    assert raised.value.phase is Phase.SPAWN


def test_waiting_for_the_client_is_not_the_programs_fault(programs: Programs) -> None:
    """Complaint 19: a slow upload is no silence of the program."""
    programs.sh("x", CAT)
    clock = trio.testing.MockClock()

    class Slow(BytesBody):
        async def read(self) -> bytes:
            clock.jump(100)
            await trio.testing.wait_all_tasks_blocked()
            return await super().read()

    async def main() -> None:
        body = Slow(b"one", b"two", waits=True)
        response = await answer(programs, make_request(b"/x", method="POST", body=body), timeout=60)
        assert response.body == b"onetwo"

    trio.run(main, clock=clock)


def test_cancelled_request_ends_its_program(programs: Programs) -> None:
    """CGI-31, complaint 30: the client has gone, or the daemon stops."""
    ready, gone = Outside(programs.fifo("ready")), Outside(programs.fifo("gone"))
    script = "trap 'echo bye > gone; exit' TERM; echo > ready; while :; do sleep 1000 & wait; done"
    programs.sh("x", script)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(answer, programs, make_request(b"/x")))
            await ready.read()
            nursery.cancel_scope.cancel()
        assert await gone.read() == b"bye\n"

    trio.run(main)
    ready.close()
    gone.close()


def test_cut_body_has_no_end(programs: Programs) -> None:
    """FCGI-20: a program that reads to the end, and that SIGTERM does not end, never takes it for whole."""
    ready = Outside(programs.fifo("ready"))
    programs.sh("x", "trap '' TERM; echo > ready; cat > body; echo > whole")

    class CutBody(FailingBody):
        async def read(self) -> bytes:
            return self.read_nowait() or await trio.sleep_forever()

    async def main() -> None:
        request = make_request(b"/x", method="POST", body=CutBody(b"some", error=ClientGone("reset")))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(answer, programs, request, intake=STREAM, kill_after=0.2))
            await ready.read()
            nursery.cancel_scope.cancel()

    trio.run(main)
    ready.close()
    assert not (programs.root / "whole").exists()


def test_client_that_has_gone_ends_the_program(programs: Programs) -> None:
    programs.sh("x", f"{HELLO}; cat /dev/zero")

    class Gone(RecordingResponder):
        async def flush(self) -> None:
            raise ClientGone("reset")

    with pytest.raises(ClientGone):
        get(programs, responder=Gone())


# ---- start


def test_rejects_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"tools: .*/nowhere: no such file or directory"):
        get(tmp_path / "nowhere")


def test_rejects_one_program_that_is_not_executable(programs: Programs) -> None:
    path = programs.sh("x", HELLO, mode=0o644)
    assert not path.stat().st_mode & stat.S_IXUSR
    with pytest.raises(StartError, match="is not executable"):
        get(path)


# ---- configured


def configured(programs: Programs, target: str, **options: Any) -> tuple[int, bytes]:
    """Status and body of the answer to a GET of *target*, by a gateway with a cgi backend of *options*."""
    received = b""

    async def main() -> None:
        nonlocal received
        config = {
            "backends": {"tools": {"cgi": str(programs.root), **options}},
            "routes": [{"backend": "tools"}],
        }
        async with gateway_of(config) as served:
            # HTTP/1.0: the body as it is.
            received = await served.ask(
                f"GET {target} HTTP/1.0\r\nAuthorization: Basic Zm9v\r\n\r\n".encode()
            )

    with capture_logs():
        trio.run(main)
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_everything_configured_reaches_the_program(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file to the process, by way of the whole gateway."""
    monkeypatch.setenv("OURS", "passed")
    script = f"{ARGUMENTS}; echo $OURS $HTTP_AUTHORIZATION; ulimit -n; ulimit -f"
    programs.file("x.note", script, mode=0o644)
    programs.sh("data.txt", HELLO)
    options: dict[str, Any] = {
        "interpreter": {".note": ["sh", "-e"]},
        "extensions": [".cgi"],
        "pass_env": "OURS",
        "pass_authorization": True,
        "indexed_query": True,
        "limits": {"open_files": 100, "file_size": "1KiB"},
        "max_processes": 1,
        "queue": 0,
        "transcript": {"file": str(tmp_path / "transcript"), "always": True},
    }
    status, body = configured(programs, "/x.note?one+two", **options)
    assert status == 200
    assert body == b"<one><two>passed Basic Zm9v\n100\n2\n"  # blocks of 512 bytes
    assert "%% " in (tmp_path / "transcript").read_text()
    assert configured(programs, "/data.txt", **options)[0] == 403


def test_caught_line_by_configuration(programs: Programs) -> None:
    programs.sh("x", f"echo 'Fatal error' >&2; {HELLO}")
    assert configured(programs, "/x", catch_stderr="^Fatal")[0] == 502


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users: run the tests as root")
def test_program_runs_as_its_user(programs: Programs) -> None:
    programs.sh("x", "printf 'Content-Type: text/plain\\n\\n'; id -u; id -g")
    for directory in (programs.root, *programs.root.parents):
        if directory.stat().st_uid == os.geteuid() and directory.is_relative_to(tempfile.gettempdir()):
            directory.chmod(directory.stat().st_mode | 0o011)
    nobody = pwd.getpwnam("nobody")
    status, body = configured(programs, "/x", user="nobody", group="audio", limits={"processes": 50})
    assert (status, body) == (200, b"%d\n%d\n" % (nobody.pw_uid, grp.getgrnam("audio").gr_gid))


# ---- confinement


def test_program_that_uses_up_its_cpu_time(programs: Programs) -> None:
    """RLimitCPU."""
    programs.sh("x", "while :; do :; done")
    confinement = Confinement(limits=ResourceLimits(cpu=0.1))
    with pytest.raises(BackendError, match=r"signal 24 \(SIGXCPU\): its CPU time is used up") as raised:
        get(programs, confinement=confinement)
    assert raised.value.cause is Cause.READ_TIMEOUT


def test_program_that_cannot_be_started_in_confinement(programs: Programs) -> None:
    """It is found out before the program that confines it says so in its own way."""
    programs.file("x", "#!/no/such/interpreter\n")
    with pytest.raises(BackendError, match="does not exist: /no/such/interpreter") as raised:
        get(programs, confinement=Confinement(limits=ResourceLimits(core=0)))
    assert (raised.value.cause, raised.value.phase) == (Cause.NOT_STARTED, Phase.SPAWN)
