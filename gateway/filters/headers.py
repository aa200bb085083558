"""Header fields set, added and removed, of requests on their way to a handler and of its responses.

The order is: remove, set, add, default; so `remove` is about what came, and `set` wins over it. Where either
names ``Remote-User``, ``Remote_User`` goes, too. Trailers and 1xx responses stay as they are.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from gateway.backend import Handler
from gateway.filters.end_to_end import end_to_end
from gateway.passing import PassingResponder
from gateway.protocols.events import Headers
from gateway.request import Request, Responder
from gateway.template import Template

_NO_SERVER: Final = (b"server", b"")
"""Or the front gives its own to a response that has none."""


class HeaderRules:
    """What becomes of the header fields of one message. Names are lower-case."""

    __slots__ = ("_add", "_default", "_patterns", "_removed", "_set")

    def __init__(
        self,
        *,
        set: Sequence[tuple[bytes, Template]],  # noqa: A002 (the word of the configuration)
        add: Sequence[tuple[bytes, Template]],
        default: Sequence[tuple[bytes, Template]],
        remove: Sequence[str],
    ) -> None:
        """*set* replaces, *add* appends, *default* is for messages that have no such field.

        *remove* are names, or patterns of names with ``*``.
        """
        self._set = tuple(set)
        self._add = tuple(add)
        self._default = tuple(default)
        names = {name.encode("ascii") for name in remove if "*" not in name}
        self._removed = frozenset(names | {name for name, _ in set})
        self._patterns = tuple(pattern for pattern in remove if "*" in pattern)

    def apply(self, headers: Headers, request: Request) -> Headers:
        """New fields in place of *headers*, with the values of *request* in the templates."""
        changed = [field for field in headers if not self.removes(field[0].lower())]
        for name, template in self._set:
            changed.append((name, template.render_field(request)))
        for name, template in self._add:
            changed.append((name, template.render_field(request)))
        for name, template in self._default:
            if all(field[0].lower() != name for field in changed):
                changed.append((name, template.render_field(request)))
        return changed

    def removes(self, name: bytes) -> bool:
        """Whether what comes by this name, in lower case, goes."""
        if name in self._removed:
            return True
        if b"_" in name and self.removes(name.replace(b"_", b"-")):
            return True  # To programs that make variables of fields it is the same one.
        if not self._patterns:
            return False
        text = name.decode("latin-1")
        return any(fnmatchcase(text, pattern) for pattern in self._patterns)


class HeaderFilter:
    """Applies rules to the requests and the responses of *handler*."""

    def __init__(
        self,
        handler: Handler,
        *,
        request: HeaderRules | None,
        response: HeaderRules | None,
        of_backend: bool,
    ) -> None:
        """*of_backend*: the rules are a backend's own. What they give to a request, such as the key of a
        service, is not for another backend that it is redirected to.
        """
        self._handler = handler
        self._request = request
        self._response = response
        self._of_backend = of_backend

    async def handle(self, request: Request, responder: Responder) -> None:
        if self._response is not None:
            responder = _HeaderResponder(responder, self._response, request)
        if self._request is not None:
            if self._of_backend:
                request.route_headers = request.headers
            # A new list: that of the front may be shared by requests that look alike (`protocols.memo`).
            request.headers = self._request.apply(end_to_end(request.headers), request)
        await self._handler.handle(request, responder)


class _HeaderResponder(PassingResponder):
    """Applies rules to the head of the final response."""

    __slots__ = ("_anonymous", "_request", "_rules")

    def __init__(self, responder: Responder, rules: HeaderRules, request: Request) -> None:
        super().__init__(responder)
        self._rules = rules
        self._request = request
        self._anonymous = rules.removes(b"server")

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        return self._responder.try_respond(status, self._changed(headers), body, reason)

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        self._responder.start(status, self._changed(headers), reason)

    def _changed(self, headers: Headers) -> Headers:
        anonymous = self._anonymous
        if _NO_SERVER in headers:  # of rules that were applied before
            anonymous = True
            headers = [field for field in headers if field != _NO_SERVER]
        changed = self._rules.apply(headers, self._request)
        if anonymous and all(field[0].lower() != b"server" for field in changed):
            changed.append(_NO_SERVER)
        return changed
