"""HTTP servers as backends: HTTP/1.1 upstreams over pooled connections, in clear text or by TLS.

HTTP/2 to an upstream would be another codec here, chosen by ALPN; so far http/1.1 alone is offered.

The path and query go on as the client sent them (RFC 9110 7.7) unless a mount is stripped; fields of the
client's connection do not (7.6.1). What is said about the client and earlier hops: `forwarded`.

A client's offer to speak another protocol is passed on if the protocol is allowed; when the upstream accepts
it, the two connections become a tunnel (`gateway.upstream.tunnel`). A WebSocket over HTTP/2 gets a handshake
of HTTP/1.1 for that (RFC 8441, H2-17). Any other answer is a response like others.
"""

import secrets
from base64 import b64encode
from collections.abc import Hashable
from typing import Final

import trio

from gateway.backends.forwarded import ForwardedPolicy, forwarded_field, x_forwarded_fields
from gateway.backends.max_forwards import COUNTED, answer_as_last, count_down
from gateway.backends.target import target_below_mount
from gateway.errors import BackendError, Cause, Phase, RequestError
from gateway.net.pump import Pump
from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.events import Headers, RequestHead
from gateway.protocols.forwarded import CLIENT_FIELDS
from gateway.protocols.hop_by_hop import HOP_BY_HOP, named_by
from gateway.protocols.memo import LONGEST_HEAD, Memo
from gateway.request import ForwardedConnection, Request, Responder, Upgrade
from gateway.upstream.switch import Switch
from gateway.upstream.upstream import Upstream, UpstreamState

MAX_PASSES: Final = 4
"""Times that a request may come through this gateway to an HTTP upstream. More than once can be meant (a
route that leads to another route by HTTP); a loop ends here instead of when all connections are in use."""

_SAID: Final = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-prefix", b"x-forwarded-proto"}
)

# Not passed on as they are: what ends here, and what is written anew.
_DROPPED: Final = HOP_BY_HOP | _SAID | {b"content-length", b"expect", b"host", b"proxy-authorization", b"via"}

# RFC 9110 8.6: these have no body unless they say so, and need not say that they have none.
_BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "DELETE"})


class HttpBackend:
    """Implements `backend.Backend`."""

    def __init__(
        self,
        name: str,
        *,
        upstream: Upstream,
        pump: Pump,
        pseudonym: str,
        host: str,
        forwarded: ForwardedPolicy,
        upgrades: frozenset[str],
        tunnel_timeout: float,
    ) -> None:
        """*host* is the Host that the upstream sees: ``preserve`` for the client's, ``upstream`` for its
        own, or a value.

        *pseudonym* is the gateway's in Via, a token that no other has (RFC 9110 7.6.3).

        *upgrades* are the protocols, lower-case, that a client may ask the upstream to switch to. A tunnel
        through which nothing passed for *tunnel_timeout* seconds is ended.
        """
        self.name = name
        self._upstream = upstream
        self._pump = pump
        self._preserves = host == "preserve"
        self._own_host = host == "upstream"
        self._host = upstream.authority if self._preserves or self._own_host else host.encode("ascii")
        self._tells_x = forwarded in ("x-forwarded", "both")
        self._tells_standard = forwarded in ("forwarded", "both")
        self._pseudonym = pseudonym.encode("ascii")
        self._upgrades = upgrades
        self._tunnel_timeout = tunnel_timeout
        self._known_fields: Memo[Hashable, Headers] = Memo()

    def snapshot(self) -> UpstreamState:
        """How the servers are."""
        return self._upstream.snapshot()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the pool of connections until cancelled."""
        await self._upstream.run(task_status=task_status)

    def probe_head(self, request: Request) -> RequestHead:
        """What a health check sends for *request*, whose Host is that of the server or of the check."""
        head = self._head(request, 0, False)
        if not self._own_host:
            return head
        host = request.header(b"host") or self._host
        return RequestHead(head.method, head.target, [(b"host", host), *head.headers[1:]])

    async def handle(self, request: Request, responder: Responder) -> None:
        """Pass the request on, and its answer back. Raises as `backend.Handler.handle` says."""
        if request.method in COUNTED and not count_down(request):
            await answer_as_last(request, responder)
            return
        try:
            if request.upgrade is not None and request.upgrade.protocol in self._upgrades:
                await self._offer(request, responder, request.upgrade)
                return
            length = request.body.length
            # RFC 9110 10.1.1: only with a body to wait for, and never from an HTTP/1.0 client.
            expects = length != 0 and request.version != "1.0" and request.header(b"expect") is not None
            await self._upstream.exchange(
                request,
                responder,
                self._head(request, length, expects),
                awaits_continue=expects,
                own_host=self._own_host,
            )
        except LocalProtocolError as error:
            raise RequestError(400, f"the request cannot be passed on: {error}") from error

    async def _offer(self, request: Request, responder: Responder, upgrade: Upgrade) -> None:
        """Pass the request on with the client's offer."""
        headers = [
            field for field in self._fields(request, 0, False) if field[0] not in (b"connection", b"te")
        ]
        headers += [(b"connection", b"upgrade"), (b"upgrade", upgrade.protocol.encode())]
        method, key = request.method.encode("ascii"), None
        if request.version == "2":
            # RFC 8441 5: the client's handshake has neither method nor key of its own.
            # HAProxy sends that of its own client all the same.
            method, key = b"GET", b64encode(secrets.token_bytes(16))
            headers = [field for field in headers if field[0] != b"sec-websocket-key"]
            headers.append((b"sec-websocket-key", key))
        await self._upstream.exchange(
            request,
            responder,
            RequestHead(method, target_below_mount(request), headers),
            switch=Switch(upgrade, pump=self._pump, idle=self._tunnel_timeout, key=key),
            own_host=self._own_host,
        )

    def _head(self, request: Request, length: int | None, expects: bool) -> RequestHead:
        if length != 0 or request.method not in _BODILESS:
            headers = self._fields(request, length, expects)
        else:
            # All that the fields depend on; clients say the same in each request (`protocols.memo`).
            connection = request.connection
            proxy: Hashable = None
            if isinstance(connection, ForwardedConnection):
                # Headers need not tell all of it any more: a rule of the route may have removed them.
                proxy = (connection.proxy, connection.proxy_scheme, connection.host, *connection.hops)
            key = (
                tuple(request.headers),
                connection.client,
                connection.scheme,
                proxy,
                request.version,
                request.mount,
            )
            known = self._known_fields.get(key)
            if known is None:
                known = self._fields(request, 0, expects)
                # Of what the client says, dropped or not: that is what is kept.
                if sum(len(name) + len(value) for name, value in request.headers) <= LONGEST_HEAD:
                    self._known_fields.keep(key, known)
            headers = known
        return RequestHead(request.method.encode("ascii"), target_below_mount(request), headers)

    def _fields(self, request: Request, length: int | None, expects: bool) -> Headers:
        headers: Headers = []
        host = b""
        dropped = _DROPPED
        vias: list[bytes] = []
        said: dict[bytes, bytes] = {}
        announced: Headers = []
        takes_trailers = False
        for field in request.headers:
            name = field[0]
            if name not in dropped:
                # A name with "_" is a twin of one with "-" for many servers, and one with "." for php: it
                # could pass for a field that only a proxy may set. nginx drops them too.
                if b"_" not in name and b"." not in name:
                    headers.append(field)
            elif name == b"connection":
                dropped |= named_by(field[1])
            elif name == b"host":
                host = field[1]
            elif name == b"via":
                vias.append(field[1])
            elif name in _SAID:
                said[name] = said[name] + b", " + field[1] if name in said else field[1]
            elif name == b"trailer":
                announced.append(field)
            elif name == b"te":
                takes_trailers = takes_trailers or b"trailers" in field[1].lower()
        if len(dropped) > len(_DROPPED):
            # RFC 9110 7.6.1: also those that came before Connection named them.
            headers = [field for field in headers if field[0] not in dropped]
        headers.insert(0, (b"host", host if host and self._preserves else self._host))
        if length is None:
            headers.append((b"transfer-encoding", b"chunked"))
            headers += announced  # RFC 9110 6.6.2: trailers are passed on in chunks only
        elif length or request.method in ("POST", "PUT", "PATCH"):
            headers.append((b"content-length", b"%d" % length))
        if self._tells_x:
            headers += x_forwarded_fields(request, host, said)
        else:
            headers = [field for field in headers if not field[0].startswith(CLIENT_FIELDS)]
        if self._tells_standard:
            headers.append(forwarded_field(request, host, said))
        if expects:
            headers.append((b"expect", b"100-continue"))
        if takes_trailers:
            # RFC 9110 6.5.1, 10.1.4: said anew for each connection; gRPC servers insist on it.
            headers += [(b"te", b"trailers"), (b"connection", b"te")]
        headers.append((b"via", self._via(vias, request.version)))
        return headers

    def _via(self, vias: list[bytes], version: str) -> bytes:
        """Via with this gateway behind those before it (RFC 9110 7.6.3). Raises BackendError for a loop."""
        if vias:
            passes = b",".join(vias).count(self._pseudonym)
            if passes >= MAX_PASSES:
                # RFC 9110 7.6: a proxy must not forward to itself without protection.
                raise BackendError(
                    Cause.LOOP,
                    f"the request has come through this gateway {passes} times: the backend leads back to it",
                    backend=self.name,
                    address=self._upstream.authority.decode(),
                    phase=Phase.CONNECT,
                )
        vias.append(b"%b %b" % (version.encode(), self._pseudonym))
        return b", ".join(vias)
