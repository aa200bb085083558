"""Makes backends from their configuration."""

import re
import secrets
from collections.abc import Callable, Sequence
from math import inf
from typing import assert_never

from gateway import config as models
from gateway.backend import Backend
from gateway.backends.ajp import AjpBackend
from gateway.backends.application import ApplicationBackend, ScriptRoot, UpgradePolicy
from gateway.backends.cgi import CgiBackend
from gateway.backends.cgi.exchange import ExchangeSettings
from gateway.backends.cgi.program import ProgramRules
from gateway.backends.cgi.transcript import Transcript
from gateway.backends.http import HttpBackend
from gateway.backends.python import Kind, Options, make_asgi, make_wsgi
from gateway.build.processes import hosted_application, hosted_upstream, spawned_application
from gateway.build.python import asgi_options, wsgi_options
from gateway.build.rewriting import response_rewriter
from gateway.build.slots import of_programs, of_threads
from gateway.build.upstream import build_upstream, check_health
from gateway.config.backends.application import Multiplex
from gateway.config.backends.python import OwnProcess
from gateway.config.balancing import Server
from gateway.environ import variable_name
from gateway.front.service import Service
from gateway.hosted.backend import HostedBackend
from gateway.hosted.options import encode
from gateway.intake import BodyIntake
from gateway.notice import ShutdownNotice
from gateway.pump import Pump
from gateway.request import Request, Responder
from gateway.resolver import Resolver
from gateway.spawn import Protocol as SpawnProtocol
from gateway.spawn import SpawnedApplication
from gateway.template import Template
from gateway.upstream.check import PingQuestion
from gateway.upstream.introduction import ProxyVersion
from gateway.upstream.multiplex import SharingPolicy
from gateway.upstream.shared_pool import Sharing
from gateway.upstream.spawned import SpawnedUpstream
from gateway.upstream.upstream import Upstream
from gateway.watchdog import patience
from protocols.ajp import CPING_PACKET, CPONG_PACKET, AjpClient
from protocols.codec import ClientCodec
from protocols.fastcgi import NOT_FOR_AUTHORIZERS, FastCgiClient, Role
from protocols.http1 import Http1Client
from protocols.scgi import ScgiClient
from protocols.uwsgi import PING, PONG, UwsgiClient


class BackendBuilder:
    """Makes backends; ``spawned`` collects the applications that have to be started for them."""

    def __init__(self, config: models.Config, pump: Pump, notice: ShutdownNotice | None = None) -> None:
        """*notice* is that of the daemon's end."""
        self._config = config
        self._notice = notice
        self._pump = pump
        self._resolver = Resolver(config.resolver)
        # RFC 9110 7.6.3: a pseudonym in Via; the random part is how this gateway recognises a loop.
        self._pseudonym = f"{config.via}-{secrets.token_hex(4)}"
        self.spawned: list[SpawnedApplication] = []
        self.service: Service

    async def dispatch(self, request: Request, responder: Responder) -> None:
        """For local redirects: the whole service, which is made after the backends."""
        await self.service.dispatch(request, responder)

    def backend(self, name: str, config: models.Backend) -> Backend:
        """The backend called *name*; nothing of it is started."""
        pump = self._pump
        match config:
            case models.CGIBackend():
                return CgiBackend(
                    name,
                    path=config.path,
                    settings=ExchangeSettings(
                        timeout=config.timeout,
                        kill_after=config.kill_after,
                        confinement=config.confinement,
                        catch_stderr=re.compile(config.catch_stderr) if config.catch_stderr else None,
                    ),
                    slots=of_programs(name, config),
                    transcript=_transcript(config.transcript),
                    variables=_templates(config.variables),
                    rules=ProgramRules(
                        index=config.index,
                        interpreters=config.interpreter,
                        extensions=config.extensions,
                        execute=config.execute,
                        indexed_query=config.indexed_query,
                    ),
                    pass_env=config.pass_env,
                    pass_authorization=config.pass_authorization,
                    nph=config.nph,
                    intake=self._intake(name, config),
                    dispatch=self.dispatch,
                )
            case models.FastCGIBackend():
                # complaints.md 12: php-fpm gives the script no body without CONTENT_LENGTH; the other
                # half of the preset, no reuse (complaints.md 1), is the default of keep_connection.
                keep = config.keep_connection
                role = Role[config.role.upper()]

                def make_client() -> FastCgiClient:
                    return FastCgiClient(role=role, keep_connection=keep)

                return self._application(
                    name,
                    config,
                    "fastcgi",
                    make_client,
                    keeps=keep,
                    sharing=_sharing(name, config.multiplex, make_client),
                    script_root=_script_root(config),
                    withheld=NOT_FOR_AUTHORIZERS if role is Role.AUTHORIZER else frozenset(),
                    catch_stderr=config.catch_stderr,
                    get_values=config.get_values or config.multiplex is not None,
                )
            case models.SCGIBackend():
                return self._application(name, config, "scgi", ScgiClient)
            case models.UWSGIBackend():
                modifier1, modifier2, buffer_size = config.modifier1, config.modifier2, config.buffer_size
                return self._application(
                    name,
                    config,
                    "uwsgi",
                    lambda: UwsgiClient(modifier1=modifier1, modifier2=modifier2, buffer_size=buffer_size),
                    upgrades=UpgradePolicy(
                        pump, frozenset(config.upgrade), idle=self._config.timeouts.tunnel or inf
                    ),
                    ping=PingQuestion(PING.encode(), PONG.encode()),
                    droppable=_droppable(config.drop_headers),
                )
            case models.AJPBackend():
                packet_size, secret = config.packet_size, config.secret

                def make_codec() -> AjpClient:
                    return AjpClient(packet_size=packet_size, secret=secret)

                upstream = build_upstream(
                    Upstream,
                    name,
                    config,
                    config.servers,
                    config.pool,
                    pump,
                    make_codec,
                    ping=config.ping,
                    resolver=self._resolver,
                )
                container = AjpBackend(
                    name,
                    upstream=upstream,
                    dispatch=self.dispatch,
                    intake=self._intake(name, config),
                    variables=_templates(config.variables),
                    packet_size=packet_size,
                    secret=secret,
                    droppable=_droppable(config.drop_headers),
                )
                ping = PingQuestion(CPING_PACKET, CPONG_PACKET)
                check_health(upstream, config.health.check, make_codec, container.probe_head, ping)
                return container
            case models.HTTPBackend():
                upstream = self._upstream(name, "http", config, Http1Client)
                upstream.rewriter = response_rewriter(config, upstream)
                server = HttpBackend(
                    name,
                    upstream=upstream,
                    pump=pump,
                    host=_host_policy(config),
                    forwarded=config.forwarded,
                    pseudonym=self._pseudonym,
                    upgrades=frozenset(config.upgrade),
                    tunnel_timeout=self._config.timeouts.tunnel or inf,
                )
                check_health(upstream, config.health.check, Http1Client, server.probe_head)
                return server
            case models.ASGIBackend():
                options = asgi_options(config)
                if config.process is not None:
                    return self._hosted(name, config, config.process, "asgi", options)
                return make_asgi(name, options, pump, self._notice)
            case models.WSGIBackend():
                options = wsgi_options(config, max_body=self._config.limits.body)
                if config.process is not None:
                    return self._hosted(name, config, config.process, "wsgi", options)
                return make_wsgi(name, options, slots=of_threads(name, config))
            case _:
                assert_never(config)

    def _application(
        self,
        name: str,
        config: models.FastCGIBackend | models.SCGIBackend | models.UWSGIBackend,
        protocol: SpawnProtocol,
        make_codec: Callable[[], ClientCodec],
        *,
        keeps: bool = False,
        script_root: ScriptRoot | None = None,
        withheld: frozenset[str] = frozenset(),
        catch_stderr: str | None = None,
        get_values: bool = False,
        sharing: Sharing | None = None,
        upgrades: UpgradePolicy | None = None,
        ping: PingQuestion | None = None,
        droppable: Sequence[str] = (),
    ) -> ApplicationBackend:
        upstream = self._upstream(name, protocol, config, make_codec, keeps=keeps, sharing=sharing)
        upstream.catch_stderr = re.compile(catch_stderr) if catch_stderr else None
        if get_values:
            upstream.ask_capabilities()
        backend = ApplicationBackend(
            name,
            upstream=upstream,
            dispatch=self.dispatch,
            script_root=script_root,
            variables=_templates(config.variables),
            intake=self._intake(name, config),
            withheld=withheld,
            upgrades=upgrades,
            droppable=droppable,
        )
        check_health(upstream, config.health.check, make_codec, backend.probe_head, ping)
        return backend

    def _hosted(
        self,
        name: str,
        config: models.ASGIBackend | models.WSGIBackend,
        process: OwnProcess,
        kind: Kind,
        options: Options,
    ) -> HostedBackend:
        # Its variables come by its environment, where they are nobody else's.
        described = encode(
            kind,
            {**options, "env": {}},
            disconnect_grace=self._config.timeouts.disconnect_grace,
            blocked_after=patience(self._config.blocked_after, debug=self._config.debug),
            debug=self._config.debug,
        )
        application = hosted_application(name, config, process, described)
        self.spawned.append(application)
        return HostedBackend(
            name,
            upstream=hosted_upstream(name, process, application, self._pump),
            pump=self._pump,
            announce=application.announce_end,
            notice=self._notice,
            websocket=kind == "asgi",
            tunnel_timeout=self._config.timeouts.tunnel or inf,
        )

    def _upstream(
        self,
        name: str,
        protocol: SpawnProtocol,
        config: models.FastCGIBackend | models.SCGIBackend | models.UWSGIBackend | models.HTTPBackend,
        make_codec: Callable[[], ClientCodec],
        *,
        keeps: bool = True,
        sharing: Sharing | None = None,
    ) -> Upstream:
        pool, pump = config.pool, self._pump
        if config.spawn is None:
            http = protocol == "http"
            introduces: ProxyVersion | None = None
            if isinstance(config, models.HTTPBackend) and config.proxy_protocol is not None:
                introduces = 1 if config.proxy_protocol == "v1" else 2
                keeps = False  # PP-10
            return build_upstream(
                Upstream,
                name,
                config,
                config.servers,
                pool,
                pump,
                make_codec,
                keeps=keeps,
                http=http,
                introduces=introduces,
                resolver=self._resolver,
                workers=self._config.workers,
                sharing=sharing,
            )
        spawned = spawned_application(name, protocol, config.spawn)
        self.spawned.append(spawned)
        servers = [Server.model_construct(address=spawned.address)]
        upstream = build_upstream(
            SpawnedUpstream,
            name,
            config,
            servers,
            pool,
            pump,
            make_codec,
            keeps=keeps,
            resolver=self._resolver,
            processes=config.spawn.processes.max,
            sharing=sharing,
        )
        upstream.attach(spawned)
        return upstream

    def _intake(
        self,
        name: str,
        config: (
            models.CGIBackend
            | models.FastCGIBackend
            | models.SCGIBackend
            | models.UWSGIBackend
            | models.AJPBackend
            | models.WSGIBackend
        ),
    ) -> BodyIntake:
        return BodyIntake(
            name,
            config.body,
            spool_memory=config.spool_memory,
            max_body=self._config.limits.body if config.max_body is None else config.max_body,
        )


def _sharing(name: str, config: Multiplex | None, make_codec: Callable[[], ClientCodec]) -> Sharing | None:
    if config is None:
        return None
    policy = SharingPolicy(requests=config.requests, buffer=config.buffer, stall=config.stall)
    return Sharing(name, policy, make_codec)


def _transcript(config: models.Transcript | None) -> Transcript | None:
    if config is None:
        return None
    return Transcript(str(config.file), size=config.size, always=config.always, excerpt=config.excerpt)


def _host_policy(config: models.HTTPBackend) -> str:
    if config.host is not None:
        return config.host
    # A server chooses its certificate and its site by the same name, or answers 421 (RFC 9110 7.4).
    return "upstream" if any(server.origin.secure for server in config.servers) else "preserve"


def _script_root(config: models.FastCGIBackend) -> ScriptRoot | None:
    if config.root is None:
        return None
    assert config.script_split is not None
    assert config.script_index is not None
    return ScriptRoot(str(config.root), split=config.script_split, index=config.script_index)


def _droppable(headers: Sequence[str]) -> list[str]:
    return [name for name in map(variable_name, (header.encode("ascii") for header in headers)) if name]


def _templates(variables: dict[str, str]) -> dict[str, Template]:
    return {name: Template.parse(text) for name, text in variables.items()}
