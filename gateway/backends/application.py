"""FastCGI, SCGI and uwsgi applications: one backend, three codecs.

A request becomes CGI variables, a body of known length (`intake`), and an exchange over a connection, pooled
where the protocol allows it::

    Request ─► script, build_environ, configured variables ─► RequestVariables ─► Exchange

An application may switch protocols where that is allowed (uWSGI: it answers the handshake of a WebSocket with
a 101 of its own, UW-16): then the two connections become a tunnel (`gateway.upstream.tunnel`).
"""

import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence

import trio

from gateway.backends.intake import BodyIntake
from gateway.backends.script import find_script
from gateway.environ import build_environ, native
from gateway.errors import RequestError
from gateway.local_redirect import Dispatch, follow
from gateway.logger import get_logger
from gateway.net.pump import Pump
from gateway.protocols.errors import LocalProtocolError, TooLargeToEncode
from gateway.protocols.events import LocalRedirect, RequestVariables
from gateway.request import Request, Responder, Upgrade
from gateway.static.resolve import check_segments
from gateway.template import Template
from gateway.upstream.switch import Switch
from gateway.upstream.upstream import Upstream, UpstreamState

log = get_logger()


class ScriptRoot:
    """The document root of applications that run script files (php)."""

    __slots__ = ("index", "root", "split")

    def __init__(self, root: str, *, split: str, index: str) -> None:
        self.root = root.rstrip("/")
        self.split = split
        self.index = index


class UpgradePolicy:
    """Which *protocols* (lower-case) clients may switch to, and the *idle* seconds that end a tunnel."""

    __slots__ = ("idle", "protocols", "pump")

    def __init__(self, pump: Pump, protocols: frozenset[str], *, idle: float) -> None:
        self.pump = pump
        self.protocols = protocols
        self.idle = idle


class ApplicationBackend:
    """A backend behind one or more addresses that takes CGI variables. Implements `backend.Backend`."""

    def __init__(
        self,
        name: str,
        *,
        upstream: Upstream,
        dispatch: Dispatch,
        intake: BodyIntake,
        variables: Mapping[str, Template],
        droppable: Sequence[str],
        script_root: ScriptRoot | None = None,
        withheld: frozenset[str] = frozenset(),
        upgrades: UpgradePolicy | None = None,
        check: Callable[[Mapping[str, str]], None] | None = None,
    ) -> None:
        """Without *upgrades* every offer of a client is ignored. *withheld* variables are not sent.

        *check* raises what the codec would say of variables, where a connection must not be risked for that.
        *droppable* variables are left out, in this order, of what would be too large for the protocol.
        """
        self.name = name
        self._upstream = upstream
        self._dispatch = dispatch
        self._script_root = script_root
        self._variables = dict(variables)
        self._withheld = withheld
        self._intake = intake
        self._upgrades = upgrades
        self._check = check
        self._droppable = tuple(droppable)

    def snapshot(self) -> UpstreamState:
        """How the servers are."""
        return self._upstream.snapshot()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the pools of connections until cancelled."""
        await self._upstream.run(task_status=task_status)

    def probe_head(self, request: Request) -> RequestVariables:
        """What a health check sends for *request*.

        A path that names no script is taken for the name of one, not for the front controller's: php-fpm
        answers so to its ``ping.path``.
        """
        environ = self._environ(request, 0)
        if self._script_root is not None and environ["PATH_INFO"] == request.path:
            environ["SCRIPT_NAME"] = native(request.path)
            environ["SCRIPT_FILENAME"] = native(self._script_root.root + request.path)
            environ["PATH_INFO"] = ""
            del environ["PATH_TRANSLATED"]
        return RequestVariables(environ)

    async def handle(self, request: Request, responder: Responder) -> None:
        """Pass the request on, and its answer back. Raises as `backend.Handler.handle` says."""
        upgrade, upgrades = request.upgrade, self._upgrades
        if upgrade is not None and upgrades is not None and upgrade.protocol in upgrades.protocols:
            await self._offer(request, responder, upgrade, upgrades)
            return
        body = self._intake.take(request.body)
        if body is not None:
            request.body = body
            redirect = await self._send(request, responder, self._environ(request, body.length))
        else:
            with await self._intake.store(request.body) as spooled:
                request.body = spooled
                redirect = await self._send(request, responder, self._environ(request, spooled.length))
        if redirect is not None:
            await follow(
                request,
                redirect.target,
                responder,
                dispatch=self._dispatch,
                backend=self.name,
                address=self._upstream.authority.decode(),
            )

    async def _offer(
        self, request: Request, responder: Responder, upgrade: Upgrade, upgrades: UpgradePolicy
    ) -> None:
        """Pass the request on with the client's offer."""
        environ = self._environ(request, 0)
        environ["HTTP_CONNECTION"] = "upgrade"
        environ["HTTP_UPGRADE"] = upgrade.protocol
        key: bytes | None = None
        if request.version == "2":
            # H2-17, RFC 8441 5: the client's handshake has neither method nor key of its own.
            key = b64encode(secrets.token_bytes(16))
            environ["REQUEST_METHOD"] = "GET"
            environ["HTTP_SEC_WEBSOCKET_KEY"] = key.decode()
        switch = Switch(upgrade, pump=upgrades.pump, idle=upgrades.idle, key=key)
        await self._send(request, responder, environ, switch=switch)

    async def _send(
        self,
        request: Request,
        responder: Responder,
        environ: dict[str, str],
        *,
        switch: Switch | None = None,
    ) -> LocalRedirect | None:
        while True:
            try:
                if self._check is not None:
                    self._check(environ)
                return await self._upstream.exchange(
                    request, responder, RequestVariables(environ), switch=switch
                )
            except LocalProtocolError as error:
                if not isinstance(error, TooLargeToEncode) or not self._drop_one(request, environ, error):
                    raise unsayable(error) from error

    def _drop_one(self, request: Request, environ: dict[str, str], too_large: TooLargeToEncode) -> bool:
        """Leave out the first variable that may be; whether there was one."""
        for variable in self._droppable:
            dropped = environ.pop(variable, None)
            if dropped is not None:
                log.warning(
                    "header dropped",
                    backend=self.name,
                    variable=variable,
                    bytes=len(dropped),
                    reason=str(too_large),
                    request_id=request.id,
                )
                return True
        return False

    def _environ(self, request: Request, length: int | None) -> dict[str, str]:
        script_root = self._script_root
        if script_root is None:
            environ = build_environ(
                request, script_name=request.mount, path_info=request.rest, content_length=length
            )
        else:
            # One script has one name, so that no route in front of it can be walked round.
            check_segments(request.raw_path, request.rest)
            script = find_script(
                request.rest, root=script_root.root, split=script_root.split, index=script_root.index
            )
            environ = build_environ(
                request,
                script_name=request.mount + script.name,
                path_info=script.path_info,
                content_length=length,
            )
            environ["DOCUMENT_ROOT"] = script_root.root
            environ["SCRIPT_FILENAME"] = native(script.filename)
            # php is built to refuse requests that do not come through a web server's redirect.
            environ["REDIRECT_STATUS"] = "200"
            if script.path_info:
                # RFC 3875 4.1.6: whether or not that file exists.
                environ["PATH_TRANSLATED"] = native(script_root.root + script.path_info)
        for variable, template in self._variables.items():
            environ[variable] = native(template.render(request))
        if self._withheld:
            for variable in self._withheld:
                environ.pop(variable, None)
        return environ


def unsayable(error: LocalProtocolError) -> RequestError:
    """The client's fault, in a request that the protocol of the application cannot express."""
    if isinstance(error, TooLargeToEncode):
        # UW-4, FCGI-26, AJP-10: no room in the protocol. RFC 6585 5.
        return RequestError(431, str(error))
    return RequestError(400, f"the request cannot be passed to the application: {error}")
