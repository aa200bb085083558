"""What an upstream's answers say of addresses and cookies, as the client has to see it.

An upstream that does not know where clients find it names itself: in a redirect to its own address, in a
cookie for its own host or for a path without the mount. Promises: an absolute URL is mapped back if it names
the very origin that the gateway has asked; what a rule of the configuration says comes first. A URL of any
other origin, and a path without one, mean what they say: an application may send its users elsewhere.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

from gateway.protocols.events import Headers
from gateway.request import ForwardedConnection, Request
from gateway.template import Template

# Refresh is in no RFC; HTML's refresh says what browsers take: "7; url=https://…".
_URLS: Final = frozenset({b"location", b"content-location", b"refresh", b"uri"})
_REFRESH: Final = re.compile(rb"\s*[0-9.]+\s*[;,]\s*(?:url\s*=\s*)?[\"']?", re.IGNORECASE)
_ORIGIN: Final = re.compile(rb"(https?)://([^/?#]*)", re.IGNORECASE)
_SET_COOKIE: Final = b"set-cookie"
_PORTS: Final = {b"http": b":80", b"https": b":443"}


@dataclass(frozen=True, slots=True)
class CookieRules:
    """What becomes of Set-Cookie."""

    path: Literal["auto"] | dict[bytes, bytes] | None
    """auto: the mount is put in front. Otherwise beginnings of paths, and what stands in their place."""
    domain: Literal["auto"] | dict[bytes, bytes] | None
    """auto: that of the upstream itself goes. Otherwise domains, and others for them; empty: none."""
    secure: bool
    http_only: bool
    same_site: bytes | None


class ResponseRewriter:
    """For the responses of one HTTP backend."""

    __slots__ = ("_cookies", "_domains", "_origins", "_rules", "_watched")

    def __init__(
        self,
        origins: Iterable[tuple[bytes, bytes]],
        *,
        locations: bool,
        rules: Sequence[tuple[bytes, Template]],
        cookies: CookieRules | None,
    ) -> None:
        """*origins* are those by which the upstream is asked: schemes and authorities.

        *rules* are beginnings of URLs and what stands in their place, the first that fits; they come before
        the origins, which are for *locations* only.
        """
        known = [(scheme, _plain(scheme, authority)) for scheme, authority in origins]
        self._origins = frozenset(known) if locations else frozenset()
        self._domains = frozenset(re.sub(rb":[0-9]+\Z", b"", authority) for _, authority in known)
        self._rules = tuple(rules)
        self._cookies = cookies
        watched = _URLS if locations or rules else frozenset[bytes]()
        self._watched = watched if cookies is None else watched | {_SET_COOKIE}

    def apply(self, headers: Headers, request: Request) -> Headers:
        """*headers* (with lower-case names) as they are, or others in their place."""
        watched = self._watched
        changed: Headers | None = None
        for position, (name, value) in enumerate(headers):
            if name in watched:
                new = self._cookie(value, request) if name == _SET_COOKIE else self._url(name, value, request)
                if new != value:
                    if changed is None:
                        changed = list(headers)
                    changed[position] = (name, new)
        return headers if changed is None else changed

    # --- URLs

    def _url(self, name: bytes, value: bytes, request: Request) -> bytes:
        begin = b""
        if name == b"refresh":
            found = _REFRESH.match(value)
            if found is None:
                return value
            begin, value = value[: found.end()], value[found.end() :]
        return begin + self._mapped(value, request)

    def _mapped(self, url: bytes, request: Request) -> bytes:
        for beginning, template in self._rules:
            if url.startswith(beginning) and _is_boundary(beginning, url):
                text = template.render_field(request)
                # A path below the new place already (the upstream knows it) is not moved again.
                if text.startswith(beginning) and url.startswith(text):
                    return url
                return text + url[len(beginning) :]
        found = _ORIGIN.match(url)
        if found is None:
            return url
        scheme, authority = found[1].lower(), found[2].lower()
        host = _public_host(request)
        if (scheme, _plain(scheme, authority)) not in self._origins or not host:
            return url
        path = url[found.end() :]
        prefix = _prefix(request)
        if prefix and not (path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in b"/?#"):
            path = prefix + path
        return request.connection.scheme.encode() + b"://" + host + path

    # --- cookies

    def _cookie(self, value: bytes, request: Request) -> bytes:
        rules = self._cookies
        assert rules is not None
        pair, *attributes = value.split(b";")
        name = pair.partition(b"=")[0].strip().lower()
        kept = []
        for attribute in attributes:
            key, _, text = attribute.partition(b"=")
            kind, text = key.strip().lower(), text.strip()
            if kind == b"path" and not name.startswith(b"__host-"):  # whose path has to be / (RFC 6265bis)
                new = self._path(text, rules, request)
                kept.append(attribute if new == text else b" Path=" + new)
            elif kind == b"domain":
                moved = self._domain(text, rules)
                if moved == text:
                    kept.append(attribute)
                elif moved:
                    kept.append(b" Domain=" + moved)
            elif not (
                (kind == b"secure" and rules.secure)
                or (kind == b"httponly" and rules.http_only)
                or (kind == b"samesite" and rules.same_site is not None)
            ):
                kept.append(attribute)
        if rules.secure:
            kept.append(b" Secure")
        if rules.http_only:
            kept.append(b" HttpOnly")
        if rules.same_site is not None:
            kept.append(b" SameSite=" + rules.same_site)
        return b";".join([pair, *kept])

    def _path(self, path: bytes, rules: CookieRules, request: Request) -> bytes:
        if rules.path is None or not path.startswith(b"/"):
            return path
        if rules.path == "auto":
            prefix = _prefix(request)
            if not prefix or _is_below(path, prefix):
                return path
            return prefix if path == b"/" else prefix + path
        for beginning, new in rules.path.items():
            if path.startswith(beginning):
                return new + path[len(beginning) :]
        return path

    def _domain(self, domain: bytes, rules: CookieRules) -> bytes:
        """Empty for none. RFC 6265 5.2.3: a dot in front means nothing."""
        bare = domain.removeprefix(b".").lower()
        if rules.domain == "auto":
            return b"" if bare in self._domains else domain
        if rules.domain is not None:
            return rules.domain.get(bare, domain)
        return domain


def _is_boundary(beginning: bytes, url: bytes) -> bool:
    """Whether *beginning* ends where a part of *url* does: http://a is no beginning of http://a.example."""
    return beginning.endswith(b"/") or url[len(beginning) : len(beginning) + 1] in b"/?#"


def _is_below(path: bytes, prefix: bytes) -> bool:
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in b"/"


def _plain(scheme: bytes, authority: bytes) -> bytes:
    """*authority* in lower case, without a port that goes without saying."""
    return authority.lower().removesuffix(_PORTS[scheme])


def _public_host(request: Request) -> bytes:
    """What the client has asked for, as X-Forwarded-Host tells it."""
    connection = request.connection
    told = request.header(b"x-forwarded-host")
    if told is None and isinstance(connection, ForwardedConnection):
        told = connection.host
    return told or request.header(b"host") or b""


def _prefix(request: Request) -> bytes:
    """What is in front of the path for the upstream, as X-Forwarded-Prefix tells it."""
    told = request.header(b"x-forwarded-prefix") or b""
    return told + quote(request.mount, errors="surrogateescape").encode()
