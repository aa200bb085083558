"""Durations, sizes, addresses, patterns: what is accepted, what it means, and what is said otherwise."""

# ruff: noqa: E501 - one row is one case

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.address import FdAddress, Origin, TcpAddress, UnixAddress
from gateway.config import values
from gateway.config.values import FromEnvironment


def read(kind: Any, value: Any, directory: Path | str = "/base") -> Any:
    return TypeAdapter(kind).validate_python(value, context={"directory": str(directory)})


def refusal(kind: Any, value: Any, directory: Path | str = "/base") -> str:
    with pytest.raises(ValidationError) as caught:
        read(kind, value, directory)
    (details,) = caught.value.errors()
    return str(details["ctx"]["error"])


@pytest.mark.parametrize(
    ("kind", "value", "meaning"),
    [
        (values.Duration, "30s", 30.0),
        (values.Duration, "250ms", 0.25),
        (values.Duration, "5m", 300.0),
        (values.Duration, "1h", 3600.0),
        (values.Duration, "1.5h", 5400.0),
        (values.Duration, "2d", 172800.0),
        (values.Duration, "0s", 0.0),
        (values.Duration, 0, 0.0),
        (values.Duration, "0", 0.0),
        (values.Timeout, "1ms", 0.001),
        (values.Size, "64KiB", 65536),
        (values.Size, "10MiB", 10485760),
        (values.Size, "1GiB", 1073741824),
        (values.Size, "2TiB", 2199023255552),
        (values.Size, "7B", 7),
        (values.Size, 4096, 4096),
        (values.Size, 0, 0),
        (values.Size, FromEnvironment("4096"), 4096),
        (values.Limit, 1, 1),
        (values.BufferSize, "32KiB", 32768),
        (values.BufferSize, 65535, 65535),
        (values.Workers, 3, 3),
        (values.Workers, "auto", len(os.sched_getaffinity(0))),
        (values.Workers, FromEnvironment("4"), 4),
        (values.FileMode, "0660", 0o660),
        (values.FileMode, "600", 0o600),
        (values.Flag, FromEnvironment("Yes"), True),
        (values.Flag, FromEnvironment("off"), False),
        (values.Count, FromEnvironment(" 12 "), 12),
        (values.Lifespan, True, "on"),
        (values.Lifespan, False, "off"),
        (values.Lifespan, "auto", "auto"),
        (values.Listen, "127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
        (values.Listen, ":8000", TcpAddress("", 8000)),
        (values.Listen, "LocalHost:0", TcpAddress("localhost", 0)),
        (values.Listen, "[::1]:8000", TcpAddress("::1", 8000)),
        (values.Listen, "[0:0::1]:8000", TcpAddress("::1", 8000)),
        (values.Listen, "unix:/run/app.sock", UnixAddress("/run/app.sock")),
        (values.Listen, "unix:../app.sock", UnixAddress("/app.sock")),
        (values.Listen, "fd:3", FdAddress(3)),
        (values.Connect, "app-1.internal:9000", TcpAddress("app-1.internal", 9000)),
        (values.Connect, "unix:app.sock", UnixAddress("/base/app.sock")),
        (values.Upstream, "http://127.0.0.1:3000", Origin(TcpAddress("127.0.0.1", 3000))),
        (values.Upstream, "HTTP://example.com/", Origin(TcpAddress("example.com", 80))),
        (values.Upstream, "http://[::1]", Origin(TcpAddress("::1", 80))),
        (values.Upstream, "http://[::1]:81", Origin(TcpAddress("::1", 81))),
        (values.Upstream, "http://unix:/run/app.sock", Origin(UnixAddress("/run/app.sock"))),
        (values.Upstream, "http://unix:/run/app.sock:", Origin(UnixAddress("/run/app.sock"))),
        (values.Upstream, "https://app.example", Origin(TcpAddress("app.example", 443), secure=True)),
        (values.Upstream, "HTTPS://[::1]:8443", Origin(TcpAddress("::1", 8443), secure=True)),
        (values.Upstream, "https://unix:/run/app.sock", Origin(UnixAddress("/run/app.sock"), secure=True)),
        (values.ServerName, "app.example", "app.example"),
        (values.HostPolicy, "upstream", "upstream"),
        (values.HostPolicy, "app.example:81", "app.example:81"),
        (values.Client, "10.0.0.0/8", ip_network("10.0.0.0/8")),
        (values.Client, "::1", ip_network("::1/128")),
        (values.Client, "unix", "unix"),
        (values.FilePath, "x/../y", Path("/base/y")),
        (values.FilePath, "/x", Path("/x")),
        (values.Destination, "stdout", "stdout"),
        (values.Destination, "stderr", "stderr"),
        (values.Destination, "access.log", Path("/base/access.log")),
        (values.Command, ["./app.fcgi", "-x", "./y"], ("/base/app.fcgi", "-x", "./y")),
        (values.Command, ["php-cgi"], ("php-cgi",)),
        (values.ObjectName, "api.main:app", "api.main:app"),
        (values.ObjectName, "app:factory.make", "app:factory.make"),
        (values.PathPattern, "/", "/"),
        (values.PathPattern, "/*", "/*"),
        (values.PathPattern, "/a b/ü/*", "/a b/ü/*"),
        (values.PathPattern, "*.php", "*.php"),
        (values.PathPattern, r"~^/u/(?P<rest>[0-9]+)\Z", r"~^/u/(?P<rest>[0-9]+)\Z"),
        (values.HostPattern, "API.example.com", "api.example.com"),
        (values.HostPattern, "*.example.com", "*.example.com"),
        (values.HostPattern, "[::1]", "[::1]"),
        (values.Method, "PROPFIND", "PROPFIND"),
        (values.HeaderName, "X-Kind", "x-kind"),
        (values.Mount, "/x/y", "/x/y"),
        (values.TemplateText, "a\n{path.rest} {header.X-Y}", "a\n{path.rest} {header.X-Y}"),
        (values.TemplateText, '{"ok": true}', '{"ok": true}'),
        (values.Target, "https://{host}{path}", "https://{host}{path}"),
        (values.Target, "{scheme}://new{path}", "{scheme}://new{path}"),
        (values.Name, "php-8.2_a", "php-8.2_a"),
        (values.FileName, "nph-*", "nph-*"),
    ],
)
def test_reads(kind: Any, value: Any, meaning: Any) -> None:
    result = read(kind, value)
    assert result == meaning
    assert type(result) is type(meaning)


LISTEN = "expected an address such as 127.0.0.1:8000, [::1]:8000, :8000, unix:/run/app.sock or fd:3, got "
CONNECT = "expected an address such as 127.0.0.1:9000, [::1]:9000 or unix:/run/app.sock, got "
URL = "expected a URL such as http://127.0.0.1:3000, https://app.example or http://unix:/run/app.sock, got "
DURATION = "expected a duration such as 30s or 250ms, got "
SIZE = "expected a size such as 64KiB, 10MiB or a number of bytes, got "
NETWORK = "expected a network such as 10.0.0.0/8, an address, or unix, got "
OBJECT = "expected module:attribute, such as app:application, got "
HOST = "expected a host such as example.com or *.example.com, got "


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (values.Duration, "abc", DURATION + "'abc'"),
        (values.Duration, 30, DURATION + "30"),
        (values.Duration, "30", DURATION + "'30'"),
        (values.Duration, "30 s", DURATION + "'30 s'"),
        (values.Duration, "-1s", DURATION + "'-1s'"),
        (values.Duration, "1s\n", DURATION + "'1s\\n'"),
        (values.Duration, "١s", DURATION + "'١s'"),
        (values.Duration, False, DURATION + "false"),
        (values.Duration, [], DURATION + "a list"),
        (values.Duration, "999d", "expected a duration of at most 365d, got '999d'"),
        (values.Timeout, 0, "expected a duration longer than 0, such as 30s, got 0"),
        (values.Size, "8KB", SIZE + "'8KB'"),
        (values.Size, "8", SIZE + "'8'"),
        (values.Size, 1.5, SIZE + "1.5"),
        (values.Size, True, SIZE + "true"),
        (values.Size, -1, "expected a size between 0 and 8388607TiB, got -1"),
        (values.Size, "99999999TiB", "expected a size between 0 and 8388607TiB, got '99999999TiB'"),
        (values.Size, "9" * 40 + "B", "expected a size between 0 and 8388607TiB, got '" + "9" * 40 + "B'"),
        (values.Limit, 0, "expected a size larger than 0, got 0"),
        (values.BufferSize, "64KiB", "expected a size from 1 to 65535 bytes, the most that uwsgi can express, got '64KiB'"),
        (values.PacketSize, 65537, "expected a size from 8KiB to 64KiB, as containers can be configured to, got 65537"),
        (values.SharedSecret, "", "expected a text of printable ASCII characters, in quotes"),
        (values.SharedSecret, "a\nb", "expected a text of printable ASCII characters, in quotes"),
        (values.SharedSecret, "ä", "expected a text of printable ASCII characters, in quotes"),
        (values.Workers, True, "expected a number of at least 1, or auto, got true"),
        (values.FileMode, 0o660, 'expected permissions in quotes, such as "0660", got 432'),
        (values.FileMode, "0990", 'expected permissions in quotes, such as "0660", got \'0990\''),
        (values.Listen, 8080, LISTEN + "8080"),
        (values.Listen, "8080", LISTEN + "'8080'"),
        (values.Listen, "::1:8000", LISTEN + "'::1:8000'"),
        (values.Listen, "unix:", LISTEN + "'unix:'"),
        (values.Listen, "fd:x", LISTEN + "'fd:x'"),
        (values.Listen, "http://a:1", LISTEN + "'http://a:1'"),
        (values.Listen, "[::g]:1", "expected an IPv6 address between the brackets, got '[::g]:1'"),
        (values.Listen, ":65536", "expected a port of at most 65535, got ':65536'"),
        (values.Listen, "unix:@x", "abstract sockets are not supported: expected a path, got 'unix:@x'"),
        (values.Listen, "unix:/" + "x" * 107, "expected a socket path of at most 107 bytes, got 108"),
        (values.Connect, ":9000", "a backend needs a host: write 127.0.0.1:9000, got ':9000'"),
        (values.Connect, "a:0", "port 0 is for listeners only: expected the backend's port, got 'a:0'"),
        (values.Connect, "fd:3", "fd: is an inherited listening socket; a backend needs an address to connect to"),
        (values.Connect, "tcp://a:1", "expected an address without a scheme, such as 127.0.0.1:9000, got 'tcp://a:1'"),
        (values.Connect, None, CONNECT + "nothing"),
        (values.Connect, "example.com", CONNECT + "'example.com'"),
        (values.Upstream, "127.0.0.1:3000", URL + "'127.0.0.1:3000'"),
        (values.Upstream, 3000, URL + "3000"),
        (values.Upstream, "ftp://a", URL + "'ftp://a'"),
        (values.Upstream, "http://", "a backend needs a host: write 127.0.0.1:80, got 'http://'"),
        (values.Upstream, "https://a/b", "expected a URL without a path (mount strips prefixes), got 'https://a/b'"),
        (values.ServerName, "a b", "expected a host such as app.example, got 'a b'"),
        (values.ServerName, 3, "expected a host such as app.example, got 3"),
        (values.HostPolicy, "a/b", "expected preserve, upstream, or a host such as app.example, got 'a/b'"),
        (values.HostPolicy, True, "expected preserve, upstream, or a host such as app.example, got true"),
        (values.Upstream, "http://a/b", "expected a URL without a path (mount strips prefixes), got 'http://a/b'"),
        (values.Upstream, "http://a?b", "expected a URL without a path (mount strips prefixes), got 'http://a?b'"),
        (values.Upstream, "http://u:p@a", "expected a URL without user and password"),
        (values.Client, "10.0.0.1/8", "'10.0.0.1/8' has bits set below its mask: did you mean 10.0.0.0/8?"),
        (values.Client, "localhost", NETWORK + "'localhost'"),
        (values.Client, 10, NETWORK + "10"),
        (values.FilePath, "", "expected a path, got ''"),
        (values.FilePath, "a\0b", "expected a path, got 'a\\x00b'"),
        (values.Command, "./app", "expected a list of a program and its arguments, each text, got './app'"),
        (values.Command, ["a", 1], "expected a list of a program and its arguments, each text, got a list"),
        (values.Command, [], "expected a program and its arguments, got an empty list"),
        (values.ObjectName, "app", OBJECT + "'app'"),
        (values.ObjectName, "a b:c", OBJECT + "'a b:c'"),
        (values.ObjectName, "app.py:", OBJECT + "'app.py:'"),
        (values.PathPattern, 5, "expected a path pattern such as /exact, /prefix/*, *.php or ~^/user/[0-9]+$, got 5"),
        (values.PathPattern, "/a?b", "expected a path without a query (match it by query:), got '/a?b'"),
        (values.PathPattern, "/a%20b", "paths are compared decoded: write '/a%20b' without percent signs"),
        (values.PathPattern, "/a\tb", "no request has such a path: . and .. are resolved before, got '/a\\tb'"),
        (values.HostPattern, "a:80", "hosts are compared without their port, got 'a:80'"),
        (values.HostPattern, "bücher.de", "expected the ASCII form of the host (xn--…), got 'bücher.de'"),
        (values.HostPattern, "a.*", HOST + "'a.*'"),
        (values.HostPattern, "http://a", HOST + "'http://a'"),
        (values.HostPattern, 1, HOST + "1"),
        (values.Method, "post", "methods are case-sensitive: did you mean POST?"),
        (values.Method, "A B", "expected a method such as GET, got 'A B'"),
        (values.HeaderName, "a:b", "expected the name of a header, got 'a:b'"),
        (values.ResponseHeaderName, "Transfer-Encoding", "transfer-encoding is set by the gateway"),
        (values.WantedValue, 1, "expected text, got 1"),
        (values.WantedValue, "~a", "regular expressions are not supported here yet, got '~a'"),
        (values.Mount, "admin", "expected a path such as /admin, without / at its end, got 'admin'"),
        (values.Mount, "/admin/", "expected a path such as /admin, without / at its end, got '/admin/'"),
        (values.Mount, "/admin/*", "expected a path such as /admin, without / at its end, got '/admin/*'"),
        (values.Mount, "/a//b", "expected a path without empty segments, got '/a//b'"),
        (values.Mount, "/a/../b", "no request has such a path: . and .. are resolved before, got '/a/../b'"),
        (values.VariableName, "A-B", "expected a variable name such as APP_ENV, got 'A-B'"),
        (values.Name, "a b", "expected a name of letters, digits, '-', '_' and '.', got 'a b'"),
        (values.FileName, "a/b", "expected the name of a file, without directories, got 'a/b'"),
        (values.FileName, "..", "expected the name of a file, without directories, got '..'"),
        (values.TemplateText, 5, "expected text, got 5"),
        (values.LineTemplateText, "a\r\nb", "expected text without control characters, got 'a\\r\\nb'"),
        (values.Target, "new", "expected a path such as /new/{path.rest} or a URL, got 'new'"),
        (values.Target, "/a b", "expected a path such as /new/{path.rest} or a URL, got '/a b'"),
    ],
)  # fmt: skip
def test_refuses(kind: Any, value: Any, message: str) -> None:
    assert refusal(kind, value) == message


@pytest.mark.parametrize("pattern", ["x", "*", "*a*", "/a*", "/a/*/b", "~(", "/a/../b", ""])
def test_refuses_path_patterns_that_the_router_would(pattern: str) -> None:
    assert repr(pattern) in refusal(values.PathPattern, pattern)


def test_refuses_unknown_placeholders() -> None:
    assert refusal(values.TemplateText, "{pth}").startswith("unknown placeholder {pth}; ")


def test_directories_must_exist(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read(values.Directory, ".", tmp_path) == tmp_path
    assert refusal(values.Directory, "x", tmp_path) == f"'{tmp_path}/x' does not exist: expected a directory"
    assert refusal(values.Directory, "file", tmp_path) == f"'{tmp_path}/file' is not a directory"


def test_cgi_programs_must_be_executable(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch()
    kind = values.ProgramOrDirectory
    assert read(kind, "program", tmp_path) == program
    assert read(kind, ".", tmp_path) == tmp_path
    values.check_runnable(tmp_path)
    with pytest.raises(ValueError, match="is not executable: chmod \\+x it"):
        values.check_runnable(program)
    program.chmod(0o755)
    values.check_runnable(program)
    assert refusal(kind, "x", tmp_path).endswith(
        "does not exist: expected a program or a directory of programs"
    )


def test_addresses_print_as_they_are_written() -> None:
    for text in ["127.0.0.1:8000", "[::1]:8000", ":8000", "unix:/run/app.sock", "fd:3"]:
        assert str(read(values.Listen, text)) == text


def test_one_value_stands_for_a_list_of_one() -> None:
    kind = Annotated[tuple[values.Method, ...], values.AtLeastOne(), values.Many()]
    assert read(kind, "GET") == ("GET",)
    assert read(kind, ["GET", "POST"]) == ("GET", "POST")
    assert refusal(kind, []) == "expected at least one, got an empty list"
