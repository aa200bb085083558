"""The CGI response (RFC 3875 section 6): what CGI, FastCGI, SCGI and uwsgi applications all answer with.

:class:`ResponseParser` turns an application's output, split in any way, into events;
:func:`encode_response` is the application's side. Both are strict where a lenient reading would let two
programs disagree about a message (duplicate fields, bare CR, lengths), and practical where every web
server is (LF or CRLF line ends, ``Status`` without a reason, no ``Content-Type`` beside a ``Status``).

It does not know the request, frame a body for HTTP, nor follow redirects: that is the gateway's.
"""

import re
from collections import deque
from enum import Enum
from typing import Final, TypeAlias

from gateway.protocols.errors import Incomplete, LimitExceeded, LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    Headers,
    InformationalResponse,
    LocalRedirect,
    NeedData,
    ResponseEvent,
    ResponseHead,
)
from gateway.protocols.grammar import TOKEN, parse_digits
from gateway.protocols.hop_by_hop import HOP_BY_HOP
from gateway.protocols.memo import LONGEST_HEAD, Memo, is_personal
from gateway.protocols.reasons import BODILESS

HEAD_LIMIT: Final = 64 * 1024
"""Bytes of a response head, blank line included. nginx stops at 4 or 8 KiB and users raise it
(``fastcgi_buffer_size``); applications that log into headers or set many cookies need tens of KiB."""

# RFC 3875 6.3 and 7.2: lines end in LF or CRLF, the head ends with an empty line.
_END_OF_HEAD = re.compile(rb"\n\r?\n")

# RFC 9112 4, for NPH output and for applications that answer in HTTP. Any version: uWSGI echoes the
# SERVER_PROTOCOL it was given. What follows is like the value of Status (RFC 3875 6.3.3), where the
# reason may be left out, as many do.
_HTTP_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9] +")
_STATUS = re.compile(rb"([1-9][0-9]{2})(?:[ \t]+([^\0\r\n]*))?")

# RFC 3875 6.2.2: an absolute path with an optional query. Two slashes would name another authority and
# a fragment is for the client (RFC 3986 4.2), so those are redirects for the client to follow.
_LOCAL_PATH = re.compile(rb"/(?!/)[!-\"$-~]*")

_CGI_FIELDS: Final = frozenset({b"status", b"content-type", b"location"})

# RFC 3875 6.3.4, RFC 9110 7.6.1: the connection to the client is the server's, not the script's.
# TE is a field of requests.
_CONNECTION_FIELDS: Final = HOP_BY_HOP - {b"te"}
_SPECIAL_FIELDS: Final = _CGI_FIELDS | _CONNECTION_FIELDS | {b"content-length"}

# RFC 9110 6.4.1: answers that have no body whatever their Content-Length says.
_BODILESS: Final = BODILESS | {101}


# A head, and whether it may begin with a status line -> status, fields, reason, Content-Length.
_known_heads: Final[Memo[tuple[bool, bytes], tuple[int, Headers, bytes, int | None]]] = Memo()


class State(Enum):
    """Where the parser is in the output."""

    HEAD = "head"
    """Before or inside a head: the final one, or a 1xx one."""
    REDIRECT = "redirect"
    """After a head that is a local redirect if no body follows."""
    BODY = "body"
    """After the head; every byte is body."""
    END = "end"
    """The output is complete; EndOfMessage is still to be given."""
    DONE = "done"
    """EndOfMessage was given; anything more is dropped."""
    ERROR = "error"
    """The output broke a rule; each call says so again."""


CgiEvent: TypeAlias = InformationalResponse | ResponseHead | LocalRedirect | Data | EndOfMessage
"""What a CGI response consists of."""


# As globals: members of an Enum are found slowly (`gateway.protocols`).
_BODY: Final = State.BODY
_DONE: Final = State.DONE
_END: Final = State.END
_ERROR: Final = State.ERROR
_HEAD: Final = State.HEAD
_REDIRECT: Final = State.REDIRECT


class ResponseParser:
    """Reads one CGI response.

    ``head_limit`` bounds each head, in bytes. ``nph`` requires a status line first (RFC 3875 section 5);
    ``http_status_line`` allows one, and 1xx responses before the final one. ``head_request``: the
    request was HEAD, so a Content-Length tells what GET would have sent and is not enforced.

    The fields of the connection and ``X-CGI-*`` are removed from every response, of NPH scripts too:
    the client's connection is framed by the gateway (RFC 3875 6.3.4, 6.3.5).
    """

    __slots__ = (
        "_chunks",
        "_ended",
        "_error",
        "_head",
        "_head_limit",
        "_head_request",
        "_nph",
        "_redirect",
        "_remaining",
        "_scanned",
        "_state",
        "_status_line",
    )

    def __init__(
        self,
        *,
        head_limit: int = HEAD_LIMIT,
        nph: bool = False,
        http_status_line: bool = False,
        head_request: bool = False,
    ) -> None:
        self._head_limit = head_limit
        self._nph = nph
        self._status_line = nph or http_status_line
        self._head_request = head_request
        self._state = _HEAD
        self._chunks: deque[bytes] = deque()
        self._ended = False
        # The part of a head that has come, and how far an end of it was looked for.
        self._head = bytearray()
        self._scanned = 0
        self._redirect: ResponseHead | None = None
        # Body bytes still promised by Content-Length; None if nothing was promised.
        self._remaining: int | None = None
        self._error: RemoteProtocolError | None = None

    @property
    def state(self) -> State:
        return self._state

    def receive_data(self, data: bytes) -> None:
        """Store some output; ``b""`` is its end, and nothing after that counts."""
        if not data:
            self._ended = True
        elif not self._ended:
            self._chunks.append(data)

    def next_event(self) -> CgiEvent | NeedData:
        """The next event, or NEED_DATA. More body than Content-Length promises ends the response.

        Raises RemoteProtocolError (status 502) for output that is no CGI response, LimitExceeded for a
        head above the bound, Incomplete if the output ended too soon; each again on every later call.
        """
        state = self._state
        if state is _BODY:
            if self._remaining is not None:
                return self._sized_body()
            if self._chunks:
                return Data(self._chunks.popleft())
            if not self._ended:
                return NEED_DATA
        elif state is _HEAD:
            return self._next_head()
        elif state is _REDIRECT:
            return self._redirect_or_head()
        elif state is _DONE:
            return NEED_DATA
        elif self._error is not None:
            raise self._error.again()
        self._state = _DONE
        return EndOfMessage()

    # The head

    def _next_head(self) -> InformationalResponse | ResponseHead | LocalRedirect | NeedData:
        while self._chunks:
            chunk = self._chunks.popleft()
            data: bytes | bytearray = chunk
            if self._head:
                self._head += chunk
                data = self._head
            if data[0] in b"\r\n":
                raise self._failed("the response begins with an empty line: it has no header field")
            found = _END_OF_HEAD.search(data, self._scanned)
            if found is not None and found.end() <= self._head_limit:
                return self._head_complete(data, found.start() + 1, found.end())
            # Without an end so far, it would come after these bytes.
            if found is not None or len(data) >= self._head_limit:
                raise self._fail(
                    LimitExceeded(f"the response head is larger than {self._head_limit} bytes", status=502)
                )
            if data is chunk:
                self._head += chunk
            self._scanned = max(0, len(data) - 2)
        if not self._ended:
            return NEED_DATA
        # RFC 3875 6.1 and 6.2: empty output is no response.
        problem = "inside the response head" if self._head else "without a response"
        raise self._fail(Incomplete(f"the application's output ended {problem}", status=502))

    def _head_complete(
        self, data: bytes | bytearray, end: int, body: int
    ) -> InformationalResponse | ResponseHead | LocalRedirect | NeedData:
        head = bytes(data[:end])
        if len(data) > body:
            self._chunks.appendleft(bytes(data[body:]))
        self._head = bytearray()
        self._scanned = 0
        event = self._known_head(head) or self._parse_head(head)
        if event is None:
            self._state = _REDIRECT
            return self._redirect_or_head()
        return event

    def _known_head(self, head: bytes) -> ResponseHead | None:
        """What *head* was found to be before."""
        known = None if self._nph else _known_heads.get((self._status_line, head))
        if known is None:
            return None
        status, headers, reason, self._remaining = known
        if self._head_request or status in _BODILESS:
            self._remaining = None
        self._state = _BODY
        return ResponseHead(status, headers.copy(), reason)

    def _parse_head(self, head: bytes) -> InformationalResponse | ResponseHead | None:
        """The response that *head* begins; None if it may be a local redirect."""
        original = head
        # RFC 3875 7.2: LF, and CRLF too.
        head = head.replace(b"\r\n", b"\n")
        if b"\r" in head or b"\0" in head:  # RFC 9110 5.5
            raise self._failed(f"a CR or NUL inside a header line: {_shown(head)}")
        lines = head.split(b"\n")
        lines.pop()
        status_line = _HTTP_VERSION.match(lines[0]) if self._status_line else None
        if status_line is not None:
            status_value: bytes | None = lines.pop(0)[status_line.end() :]
        elif self._nph:
            raise self._failed(f"NPH output without a status line: {_shown(lines[0])}")
        headers, special = self._parse_fields(lines)
        if status_line is None:
            status_value = special.get(b"status")
        status, reason = self._status_of(status_value, special)
        if status < 200 and status != 101:
            # RFC 3875 has no interim responses: they are for applications that answer in HTTP.
            if not self._status_line:
                raise self._failed(f"status {status} cannot be the final one")
            return InformationalResponse(status, headers, reason)
        if status == 101 and b"upgrade" in special:
            headers.append((b"upgrade", special[b"upgrade"]))
        event = ResponseHead(status, headers, reason)
        length = special.get(b"content-length")
        if length is not None and not self._head_request and status not in _BODILESS:
            self._remaining = int(length)
        if len(lines) == 1 and status_line is None and _LOCAL_PATH.fullmatch(special.get(b"location", b"")):
            self._redirect = event
            return None
        self._state = _BODY
        if len(original) <= LONGEST_HEAD and status != 101 and not self._nph and not is_personal(original):
            known = (status, headers.copy(), reason, None if length is None else int(length))
            _known_heads.keep((self._status_line, original), known)
        return event

    def _parse_fields(self, lines: list[bytes]) -> tuple[Headers, dict[bytes, bytes]]:
        """The fields to pass on, and by name those that mean something here."""
        headers: Headers = []
        special: dict[bytes, bytes] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            # RFC 3875 6.3: no space before the colon and no continuation lines (they begin with a
            # space); neither is a token.
            if not colon or not _is_token(name):
                raise self._failed(f"malformed header line {_shown(line)}")
            name = name.lower()
            value = value.strip(b" \t")
            if name in _SPECIAL_FIELDS:
                # RFC 3875 6.3: each CGI field at most once; two lengths are nobody's length.
                if name in special and name not in _CONNECTION_FIELDS:
                    raise self._failed(f"more than one {name.decode()} field")
                special[name] = value
                if name in _CONNECTION_FIELDS or name == b"status":
                    continue
                if name == b"content-length" and parse_digits(value) is None:
                    raise self._failed(f"invalid Content-Length {_shown(value)}")
            elif name.startswith(b"x-cgi-"):  # RFC 3875 6.3.5
                continue
            headers.append((name, value))
        return headers, special

    def _status_of(self, value: bytes | None, special: dict[bytes, bytes]) -> tuple[int, bytes]:
        """The status and reason that *value* tells; without it, those of the kind of response."""
        if value is None:
            # RFC 3875 6.2.3, 6.2.4: a Location without a Status is 302, as in nginx and Apache.
            if b"location" in special:
                return 302, b"Found"
            if b"content-type" in special:
                return 200, b"OK"
            raise self._failed("the response has neither Content-Type, Location nor Status")
        found = _STATUS.fullmatch(value)
        if found is None:
            raise self._failed(f"invalid status {_shown(value)}")
        code, reason = found.groups(b"")
        return int(code), reason

    # What follows it

    def _redirect_or_head(self) -> ResponseHead | LocalRedirect | NeedData:
        # RFC 3875 6.2.2: a local redirect has no body; with one, it is a redirect for the client.
        assert self._redirect is not None
        if self._chunks:
            self._state = _BODY
            return self._redirect
        if not self._ended:
            return NEED_DATA
        self._state = _END
        return LocalRedirect(self._redirect.headers[0][1])

    def _sized_body(self) -> Data | EndOfMessage | NeedData:
        assert self._remaining is not None
        if self._chunks:
            chunk = self._chunks.popleft()
            if len(chunk) <= self._remaining:
                self._remaining -= len(chunk)
                return Data(chunk)
            if not self._remaining:
                # A counted length is often short by a line end. nginx passes on what was promised, too.
                self._chunks.clear()
                self._state = _DONE
                return EndOfMessage(surplus=True)
            promised = chunk[: self._remaining]
            self._chunks.appendleft(chunk[self._remaining :])
            self._remaining = 0
            return Data(promised)
        if not self._ended:
            return NEED_DATA
        if self._remaining:
            raise self._fail(
                Incomplete(f"the body ended {self._remaining} bytes short of its Content-Length", status=502)
            )
        self._state = _DONE
        return EndOfMessage()

    def _failed(self, message: str) -> RemoteProtocolError:
        return self._fail(RemoteProtocolError(message, status=502))

    def _fail(self, error: RemoteProtocolError) -> RemoteProtocolError:
        self._state = _ERROR
        self._error = error.again()
        self._chunks.clear()
        self._head.clear()
        return error


def _is_token(name: bytes) -> bool:
    # Nearly every name is letters, digits and hyphens, which is three times faster to see.
    return name.replace(b"-", b"").isalnum() or TOKEN.fullmatch(name) is not None


def _shown(data: bytes) -> str:
    """The beginning of *data*, for a message."""
    return ascii(data[:80].decode("latin-1"))


def encode_response(event: ResponseEvent) -> bytes:
    """The bytes an application writes to say *event* (RFC 3875 6.2), without keeping any state.

    Raises LocalProtocolError for what a CGI response cannot carry: interim responses, trailers,
    an error stream, fields that are no fields.
    """
    match event:
        case Data(data):
            return data
        case EndOfMessage(trailers):
            if trailers:
                raise LocalProtocolError("a CGI response cannot carry trailers")
            return b""
        case ResponseHead():
            return _encode_head(event)
        case LocalRedirect(target):
            if not _LOCAL_PATH.fullmatch(target):
                raise LocalProtocolError(f"not a local path: {_shown(target)}")
            return b"Location: %b\r\n\r\n" % target
        case _:
            raise LocalProtocolError(f"a CGI response cannot carry {type(event).__name__}")


def _encode_head(event: ResponseHead) -> bytes:
    if not 200 <= event.status <= 999 and event.status != 101:
        raise LocalProtocolError(f"status {event.status} cannot be the final one")
    seen = {b"status"}
    fields = [(b"Status", b"%d %b" % (event.status, event.reason)), *event.headers]
    for name, _ in event.headers:
        lower = name.lower()
        if lower in seen:
            raise LocalProtocolError(f"more than one {lower.decode('latin-1')} field")
        if lower in _CGI_FIELDS:
            seen.add(lower)
        if not _is_token(name):
            raise LocalProtocolError(f"not a field name: {_shown(name)}")
    lines = b"\n".join([b"%b: %b\r" % field for field in fields])
    # As many line ends as lines: no value brings its own.
    if b"\0" in lines or not lines.count(b"\n") + 1 == lines.count(b"\r") == len(fields):
        raise LocalProtocolError(f"a field value has a CR, LF or NUL: {_shown(lines)}")
    return lines + b"\n\r\n"
