"""The CGI variables of a request: rules CGI-1 to CGI-24."""

from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import __version__
from gateway import environ as environ_module
from gateway.environ import build_environ, native, variable_name
from gateway.request import Request
from gateway.target import decode_path, split_target
from tests.gateway.conftest import make_request


def environ_of(request: Request, content_length: int | None = 0, **options: Any) -> dict[str, str]:
    return build_environ(
        request,
        script_name=request.mount,
        path_info=request.rest,
        content_length=content_length,
        **options,
    )


def test_a_plain_request_has_exactly_these_variables() -> None:
    """CGI-1, CGI-3, CGI-7, CGI-11, CGI-12, CGI-15, CGI-17 to CGI-20: the whole environ of a GET."""
    request = make_request(
        b"/m/x/y?a=b%20c",
        mount="/m",
        headers=[(b"host", b"example.com:8080"), (b"user-agent", b"curl/8")],
        client=("192.0.2.7", 40000),
        server=("192.0.2.1", 8080),
    )
    assert environ_of(request) == {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "HTTP_HOST": "example.com:8080",
        "HTTP_USER_AGENT": "curl/8",
        "PATH_INFO": "/x/y",
        "QUERY_STRING": "a=b%20c",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_HOST": "192.0.2.7",
        "REMOTE_PORT": "40000",
        "REQUEST_METHOD": "GET",
        "REQUEST_SCHEME": "http",
        "REQUEST_URI": "/m/x/y?a=b%20c",
        "SCRIPT_NAME": "/m",
        "SERVER_ADDR": "192.0.2.1",
        "SERVER_NAME": "example.com",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": f"gateway/{__version__}",
    }


def test_each_environ_is_a_dict_of_its_own() -> None:
    """CGI-1, WSGI-1: what the application changes, the next request does not see."""
    request = make_request()
    first = environ_of(request)
    expected = dict(first)
    first.clear()
    assert environ_of(request) == expected


def test_facts_of_the_connection_are_computed_once() -> None:
    """The constant part is kept with the connection."""
    request = make_request(client=("192.0.2.7", 1))
    environ_of(request)
    assert request.connection.environ is not None
    assert request.connection.environ["REMOTE_ADDR"] == "192.0.2.7"
    assert "REQUEST_METHOD" not in request.connection.environ


@pytest.mark.parametrize(("length", "expected"), [(0, None), (None, None), (1, "1"), (123456, "123456")])
def test_content_length_if_and_only_if_there_is_a_body(length: int | None, expected: str | None) -> None:
    """CGI-5: what the front decoded counts, not the field that the client sent."""
    request = make_request(method="POST", headers=[(b"content-length", b"99")])
    environ = environ_of(request, length)
    assert environ.get("CONTENT_LENGTH") == expected
    assert "HTTP_CONTENT_LENGTH" not in environ


def test_content_type_is_set_only_if_sent() -> None:
    """CGI-6, CGI-23."""
    environ = environ_of(make_request(headers=[(b"content-type", b"text/plain")]))
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert "HTTP_CONTENT_TYPE" not in environ
    assert "CONTENT_TYPE" not in environ_of(make_request())


def test_query_string_is_set_without_a_query() -> None:
    """CGI-10: always set; and the request URI has no question mark then."""
    environ = environ_of(make_request(b"/x"))
    assert environ["QUERY_STRING"] == ""
    assert environ["REQUEST_URI"] == "/x"


def test_paths_are_native_strings_of_their_bytes() -> None:
    """CGI-8, CGI-16, WSGI-2: UTF-8 and other bytes alike become one character per byte."""
    request = make_request("/é/".encode() + b"%C3%BC/%FF", mount="/é")
    environ = environ_of(request)
    assert environ["SCRIPT_NAME"].encode("latin-1") == "/é".encode()
    assert environ["PATH_INFO"].encode("latin-1") == "/ü/".encode() + b"\xff"
    assert environ["REQUEST_URI"].encode("latin-1") == "/é/".encode() + b"%C3%BC/%FF"


@pytest.mark.parametrize(
    ("target", "uri"),
    [
        (b"/admin/x/../../open?a=/../b", "/open?a=/../b"),
        (b"/admin/%2e%2E/o%70en%20x", "/open%20x"),
        (b"/admin/..%2fopen", "/open"),
        (b"/./open/.", "/open/"),
        (b"/o%70en/.x/a..b?c", "/o%70en/.x/a..b?c"),
        (b"/\xff/..%FF", "/\xff/..%FF"),
    ],
)
def test_request_uri_has_no_dot_segments(target: bytes, uri: str) -> None:
    """CGI-43: what a front controller finds in it is what the routes, and guards, have judged."""
    assert environ_of(make_request(target))["REQUEST_URI"] == uri


def test_case_of_path_and_method_is_kept() -> None:
    """CGI-8, CGI-15."""
    environ = environ_of(make_request(b"/MiXed", method="get"))
    assert (environ["PATH_INFO"], environ["REQUEST_METHOD"]) == ("/MiXed", "get")


def test_asterisk_is_no_path() -> None:
    """CGI-8: PATH_INFO begins with a slash or is empty."""
    environ = environ_of(make_request(b"*", method="OPTIONS"))
    assert environ["PATH_INFO"] == ""
    assert environ["REQUEST_URI"] == "*"


def test_authentication_variables_are_absent() -> None:
    """CGI-4, CGI-13, CGI-14: the gateway authenticates nobody."""
    environ = environ_of(make_request(headers=[(b"authorization", b"Basic YTpi")]))
    assert not environ.keys() & {"AUTH_TYPE", "REMOTE_USER", "REMOTE_IDENT"}


def test_path_translated_is_the_callers() -> None:
    """CGI-9: only who knows the document tree can set it."""
    assert "PATH_TRANSLATED" not in environ_of(make_request(b"/x"))


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.0", "HTTP/1.0"), ("1.1", "HTTP/1.1"), ("2", "HTTP/2.0"), ("3", "HTTP/3.0"), ("1.2", "HTTP/1.2")],
)
def test_protocol_has_a_major_and_a_minor_version(version: str, expected: str) -> None:
    """CGI-19."""
    assert environ_of(make_request(version=version))["SERVER_PROTOCOL"] == expected


def test_https() -> None:
    """CGI-21."""
    environ = environ_of(make_request(scheme="https"))
    assert (environ["HTTPS"], environ["REQUEST_SCHEME"]) == ("on", "https")
    assert "HTTPS" not in environ_of(make_request(scheme="http"))


def test_ipv6_addresses() -> None:
    """CGI-11, CGI-17: no brackets in an address, brackets in a name."""
    request = make_request(host="", client=("2001:db8::7", 1), server=("2001:db8::1", 80))
    environ = environ_of(request)
    assert environ["REMOTE_ADDR"] == "2001:db8::7"
    assert environ["SERVER_ADDR"] == "2001:db8::1"
    assert environ["SERVER_NAME"] == "[2001:db8::1]"


def test_a_request_without_host_names_the_listener() -> None:
    """CGI-17."""
    assert environ_of(make_request(host="", server=("192.0.2.1", 80)))["SERVER_NAME"] == "192.0.2.1"


@pytest.mark.parametrize(("scheme", "port"), [("http", "80"), ("https", "443")])
def test_unix_sockets_are_written_as_nginx_does(scheme: str, port: str) -> None:
    """CGI-11, CGI-18, WSGI-2: no numeric address exists; the port is never empty."""
    request = make_request(host="", scheme=scheme, client=None, server=("/run/gateway.sock", None))
    environ = environ_of(request)
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("unix:", "")
    assert environ["SERVER_ADDR"] == "unix:/run/gateway.sock"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", port)


def test_repeated_headers_become_one_value() -> None:
    """CGI-22; cookies are joined with a semicolon (H2-3)."""
    request = make_request(
        headers=[
            (b"accept", b"text/html"),
            (b"cookie", b"a=1"),
            (b"accept", b"text/plain"),
            (b"cookie", b"b=2"),
        ]
    )
    environ = environ_of(request)
    assert environ["HTTP_ACCEPT"] == "text/html, text/plain"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"


def test_header_values_are_native_strings() -> None:
    """CGI-22, WSGI-2."""
    environ = environ_of(make_request(headers=[(b"x-name", b"caf\xc3\xa9 \xff")]))
    assert environ["HTTP_X_NAME"].encode("latin-1") == b"caf\xc3\xa9 \xff"


@pytest.mark.parametrize(
    "name", [b"x_forwarded_for", b"x.forwarded.for", b"x-forwarded.for", b"x~forwarded-for"]
)
def test_a_name_with_other_characters_cannot_forge_another(name: bytes) -> None:
    """CGI-1, complaint 34, RFC 9110 17.10: `X_Forwarded_For` is not that field; php takes dots, too."""
    request = make_request(headers=[(b"x-forwarded-for", b"real"), (name, b"forged"), (b"-", b"nobody")])
    environ = environ_of(request)
    assert {key: environ[key] for key in environ if key.startswith("HTTP_")} == {
        "HTTP_X_FORWARDED_FOR": "real"
    }


def test_proxy_header_does_not_become_http_proxy() -> None:
    """httpoxy: HTTP_PROXY would redirect the requests that the application itself makes."""
    assert "HTTP_PROXY" not in environ_of(make_request(headers=[(b"proxy", b"http://evil/")]))


@pytest.mark.parametrize(
    "name",
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"],
)
def test_hop_by_hop_headers_are_dropped(name: str) -> None:
    """CGI-23, complaint 15: Transfer-Encoding above all, for the body is decoded already."""
    request = make_request(headers=[(name.encode(), b"x")])
    assert not any(variable.startswith("HTTP_") for variable in environ_of(request))


@pytest.mark.parametrize("option", [b"X-Hop, close", b"close,x-hop", b" X-HOP "])
def test_fields_named_by_connection_are_dropped(option: bytes) -> None:
    """CGI-23, RFC 9110 7.6.1."""
    request = make_request(headers=[(b"connection", option), (b"x-hop", b"1"), (b"x-end", b"2")])
    environ = environ_of(request)
    assert "HTTP_X_HOP" not in environ
    assert environ["HTTP_X_END"] == "2"


def test_connection_cannot_remove_host_or_content_type() -> None:
    """CGI-6, CGI-17: naming them is an attack, not a hop-by-hop field."""
    request = make_request(
        headers=[(b"host", b"a"), (b"content-type", b"b"), (b"connection", b"host, content-type")]
    )
    environ = environ_of(request)
    assert (environ["HTTP_HOST"], environ["CONTENT_TYPE"]) == ("a", "b")


def test_several_connection_fields_are_all_obeyed() -> None:
    """CGI-22, CGI-23."""
    request = make_request(
        headers=[(b"connection", b"x-a"), (b"x-a", b"1"), (b"x-b", b"2"), (b"connection", b"x-b")]
    )
    assert not environ_of(request).keys() & {"HTTP_X_A", "HTTP_X_B"}


def test_authorization_is_passed_or_withheld() -> None:
    """CGI-23: by default the application does its own authentication."""
    headers = [(b"authorization", b"Bearer x"), (b"proxy-authorization", b"Basic y")]
    environ = environ_of(make_request(headers=headers))
    assert environ["HTTP_AUTHORIZATION"] == "Bearer x"
    assert "HTTP_PROXY_AUTHORIZATION" not in environ
    environ = environ_of(make_request(headers=headers), pass_authorization=False)
    assert "HTTP_AUTHORIZATION" not in environ


def test_memory_of_names_is_bounded() -> None:
    """Names are the client's choice: neither many nor long ones may be kept for ever."""
    for number in range(3000):
        environ = environ_of(make_request(headers=[(b"x-%d" % number, b"1")]))
        assert environ[f"HTTP_X_{number}"] == "1"
    assert len(environ_module._variables) <= 1024
    long_name = b"x-" + b"y" * 5000
    assert environ_of(make_request(headers=[(long_name, b"1")]))["HTTP_X_" + "Y" * 5000] == "1"
    assert long_name not in environ_module._variables


header_names = st.from_regex(rb"[!#$%&'*+.^`|~0-9a-z-]{1,20}", fullmatch=True)


@given(st.lists(st.tuples(header_names, st.binary(max_size=20)), max_size=8))
def test_any_headers_give_one_native_string_per_variable(headers: list[tuple[bytes, bytes]]) -> None:
    """CGI-1, CGI-22: names are upper case without hyphens; values come from the bytes that were sent."""
    environ = environ_of(make_request(headers=headers))
    for variable, text in environ.items():
        assert variable == variable.upper()
        assert "-" not in variable
        text.encode("latin-1")
    names_by_connection = {
        option.strip()
        for name, value in headers
        if name == b"connection"
        for option in value.lower().split(b",")
    }
    for name, value in headers:
        expected = variable_name(name)
        if expected is not None and name not in names_by_connection:
            assert value.decode("latin-1") in environ[expected]


segments = st.lists(
    st.binary(min_size=1, max_size=6).filter(
        lambda s: b"/" not in s and b"\0" not in s and s not in (b".", b"..")
    ),
    max_size=4,
)


@given(mount=segments, rest=segments, query=st.from_regex(rb"[a-z0-9=&%+]{0,12}", fullmatch=True))
def test_script_uri_round_trip(mount: list[bytes], rest: list[bytes], query: bytes) -> None:
    """CGI-24: scheme://SERVER_NAME:SERVER_PORT SCRIPT_NAME PATH_INFO ?QUERY_STRING is the same request."""

    def encode(parts: list[bytes]) -> bytes:
        return b"".join(b"/" + quote_from_bytes(part, safe="").encode() for part in parts)

    prefix = encode(mount)
    target = (prefix + encode(rest) or b"/") + (b"?" + query if query else b"")
    request = make_request(target, mount=decode_path(prefix) if prefix else "")
    environ = environ_of(request)
    script_uri = (
        quote_from_bytes(environ["SCRIPT_NAME"].encode("latin-1"))
        + quote_from_bytes(environ["PATH_INFO"].encode("latin-1"))
        + (f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else "")
    )
    raw_path, again_query = split_target(script_uri.encode("ascii"))
    path = native(decode_path(raw_path))
    assert path == environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    assert again_query.decode() == environ["QUERY_STRING"]
    assert environ["SERVER_NAME"] == request.host
    assert environ["SERVER_PORT"] == "80"
    # RFC 3875 4.1.13: SCRIPT_NAME has no part of PATH_INFO, and starts with a slash unless empty.
    assert environ["SCRIPT_NAME"] == native(request.mount)
    assert environ["PATH_INFO"] == "" or environ["PATH_INFO"].startswith("/")
