"""Templates of the configuration: text with ``{placeholders}`` that are filled in from the request.

Four ways to render, by where the text goes, so that a request can never break out of its place:

* :meth:`Template.render`: as it is, for variables;
* :meth:`Template.render_field`: for the value of a header field: control characters are percent-encoded,
  so there is no response splitting (RFC 9110 5.5);
* :meth:`Template.render_url`: for a URL: each value is percent-encoded for its place (RFC 3986 2), and no
  path can become a host, so there is no open redirect;
* :meth:`Template.render_in`: into a document, each value quoted as its type wants it (HTML, XML, JSON).

``{{path}}`` is the text ``{path}``; braces around anything that is no name (JSON, CSS) are plain text. An
unknown placeholder is a ValueError when the template is parsed. Constant templates are rendered once.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias
from urllib.parse import quote, quote_from_bytes

from gateway.escape import quoting
from gateway.request import Request

Getter: TypeAlias = Callable[[Request], str]

# RFC 3986 3.3: pchar = unreserved / pct-encoded / sub-delims / ":" / "@"; unreserved is always kept.
_SUB_DELIMS = "!$&'()*+,;="
_PATH_SAFE = "/:@" + _SUB_DELIMS
# A query is kept as the client wrote it, escapes included.
_QUERY_SAFE = "/?:@%" + _SUB_DELIMS
# What the author wrote is a URL already; only what no URL may have is encoded.
_URL_SAFE = _QUERY_SAFE + "#[]"
# RFC 3986 3.2.2: a registered name, or an address in brackets.
_HOST_SAFE = "[]:" + _SUB_DELIMS

_TOKEN = re.compile(r"\{(\{)?([a-z][a-z_]*(?:\.[A-Za-z0-9_-]+)?)\}(?(1)\})")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
# A URL whose authority (RFC 3986 3.2) is not finished yet: more text would be more of the host.
_OPEN_AUTHORITY = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*\Z")


def quote_path(path: str) -> str:
    """A decoded path (``Request.path``) as the path of a URL; undecodable bytes come back as they were."""
    return quote(path, safe=_PATH_SAFE, errors="surrogateescape")


def quote_query(query: bytes) -> str:
    """A query as the client wrote it; only what no URL may have is encoded."""
    return quote_from_bytes(query, safe=_QUERY_SAFE)


def field_value(text: str) -> bytes:
    """*text* as the value of a header field: no control characters, no space at either end."""
    safe = _CONTROLS.sub(lambda found: f"%{ord(found[0]):02X}", text)
    return safe.strip(" ").encode("utf-8", "surrogateescape")


class Template:
    """A parsed template."""

    def __init__(self, text: str, parts: Sequence[str | Getter], url_parts: Sequence[str | Getter]) -> None:
        """Use :meth:`parse`."""
        self.text = text
        """What was parsed."""
        self._parts = parts
        self._url_parts = url_parts
        self._is_constant = all(isinstance(part, str) for part in parts)
        self._constant = "".join(part for part in parts if isinstance(part, str))
        self._constant_url = "".join(part for part in url_parts if isinstance(part, str))

    @classmethod
    def parse(cls, text: str, constants: Mapping[str, str] | None = None) -> "Template":
        """Raises ValueError for an unknown placeholder. *constants*: placeholders that are known already."""
        constants = constants or {}
        parts: list[str | Getter] = []
        url_parts: list[str | Getter] = []
        shape = ""  # the URL so far, each placeholder as one letter
        end = 0
        for token in _TOKEN.finditer(text):
            literal, end = text[end : token.start()], token.end()
            escaped, name = token.groups()
            if escaped:
                literal += "{" + name + "}"
            elif name in constants:
                literal, escaped = literal + constants[name], name
            if literal:
                parts.append(literal)
                url_parts.append(quote(literal, safe=_URL_SAFE))
                shape += literal
            if not escaped:
                parts.append(_getter(name, constants))
                url_parts.append(_url_getter(name, shape))
                shape += "x"
        parts.append(text[end:])
        url_parts.append(quote(text[end:], safe=_URL_SAFE))
        return cls(text, parts, url_parts)

    @property
    def constant(self) -> str | None:
        """The text, if it is the same for every request."""
        return self._constant if self._is_constant else None

    def render(self, request: Request) -> str:
        """The text for *request*; bytes that are not UTF-8 are surrogate escapes."""
        if self._is_constant:
            return self._constant
        return _fill(self._parts, request)

    def render_in(self, content_type: bytes, request: Request) -> str:
        """The text as a document of that type: no value in it acts as markup or ends a string."""
        quote = quoting(content_type)
        if quote is None:
            return self.render(request)
        return "".join([part if isinstance(part, str) else quote(part(request)) for part in self._parts])

    def render_field(self, request: Request) -> bytes:
        """The text as the value of a header field."""
        return field_value(self.render(request))

    def render_url(self, request: Request) -> str:
        """The text as a URL reference: ASCII, without spaces and control characters."""
        if self._is_constant:
            return self._constant_url
        url = _fill(self._url_parts, request)
        if url.startswith("//") and not self.text.startswith("//"):
            # `/{path.rest}` for `//evil.example/`: a browser would take it for a host, and only the
            # author of the template may name one.
            url = "/" + url.lstrip("/")
        return url


def _fill(parts: Sequence[str | Getter], request: Request) -> str:
    return "".join([part if isinstance(part, str) else part(request) for part in parts])


# The placeholders

_PLAIN: dict[str, Getter] = {
    "path": lambda request: request.path,
    "path.rest": lambda request: request.path_rest,
    "query": lambda request: request.query.decode("utf-8", "surrogateescape"),
    "host": lambda request: request.host,
    "method": lambda request: request.method,
    "scheme": lambda request: request.connection.scheme,
    "client": lambda request: _client(request),
    "request_id": lambda request: request.id,
}


def _client(request: Request) -> str:
    """The address without its port; the path for a Unix socket; empty if unknown."""
    client = request.connection.client
    return "" if client is None else client[0]


def _getter(name: str, constants: Iterable[str] = ()) -> Getter:
    if name.startswith("header."):
        key = name.removeprefix("header.").lower().encode("ascii")
        return lambda request: (request.header(key) or b"").decode("utf-8", "surrogateescape")
    getter = _PLAIN.get(name)
    if getter is None:
        known = ", ".join(f"{{{known}}}" for known in (*_PLAIN, *constants))
        raise ValueError(f"unknown placeholder {{{name}}}; there are {known} and {{header.NAME}}")
    return getter


def _url_getter(name: str, before: str) -> Getter:
    """The value of *name*, encoded for its place in a URL that begins with *before*."""
    getter = _getter(name)
    if name in ("path", "path.rest"):
        if before and not _OPEN_AUTHORITY.match(before):
            return lambda request: quote_path(getter(request))
        # It begins the path of the URL. Without a slash of its own it would be more of the host
        # (`https://example.com{path.rest}` for `.evil.example`), or a scheme.
        return lambda request: _with_slash(quote_path(getter(request)))
    if name == "query" and "?" in before:
        return lambda request: quote_query(request.query)
    if name in ("host", "scheme"):
        return lambda request: quote(getter(request), safe=_HOST_SAFE, errors="surrogateescape")
    # Anything else is data, one component: it brings no delimiters with it.
    return lambda request: quote(getter(request), safe="", errors="surrogateescape")


def _with_slash(path: str) -> str:
    return path if path.startswith("/") else "/" + path
