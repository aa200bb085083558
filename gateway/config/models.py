"""The configuration as frozen models: one class per thing, one documented field per setting.

A kind of backend is a class, found by its key (``fastcgi: …`` makes a :class:`FastCGIBackend`), and a
kind of action is a field of :class:`Route`. The docstring of a field is its description in the JSON
Schema and says its unit. Inside the program durations are float seconds and sizes are int bytes.

Nothing here opens a file or a socket, except to look whether directories that requests need exist and
whether certificates and their keys can be used, and to read error pages.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gateway.config.balancing import (
    KEEPING,
    Balanced,
    Connections,
    HTTPServer,
    HTTPServers,
    Pool,
    Server,
    Servers,
    check_contradictions,
    server_contradictions,
)
from gateway.config.base import Model, Place, written
from gateway.config.confined import Confined
from gateway.config.filters import (
    Buffering,
    ForwardAuth,
    HeaderRules,
    Mirror,
    RequestBuffering,
    buffering_schema,
    mirrored,
    switched_on,
)
from gateway.config.server_tls import SPAWNED_WITHOUT_TLS, tls_contradictions
from gateway.config.spawn import Spawn, SpawnedApp
from gateway.config.values import (
    AtLeastOne,
    BufferSize,
    Byte,
    CertificateFile,
    Ciphers,
    Client,
    ClientCertificates,
    ControlSocket,
    Count,
    CountOrNone,
    Destination,
    Directory,
    Duration,
    ErrorPageFile,
    Extension,
    FileMode,
    FileName,
    FilePath,
    FinalStatus,
    Flag,
    HeaderName,
    HostPattern,
    HostPolicy,
    Interpreter,
    KeyFile,
    Lifespan,
    Limit,
    LineTemplateText,
    Listen,
    Many,
    Method,
    Mount,
    Name,
    ObjectName,
    PacketSize,
    PathPattern,
    ProgramOrDirectory,
    RedirectHttps,
    RedirectStatus,
    Regex,
    ResponseHeaderName,
    SharedSecret,
    Short,
    Size,
    StatusPattern,
    Target,
    TemplateText,
    Timeout,
    TlsVersion,
    UpgradeProtocol,
    VariableName,
    WantedValue,
    Workers,
    check_runnable,
    switch,
)
from gateway.config.wording import alternatives, expected, show, suggestion
from gateway.path_pattern import find_rest_of
from protocols.ajp import is_told

NOT_YET = "not supported yet"


# ---- listeners


class Certificate(Model):
    """A certificate and its key."""

    certificate: CertificateFile
    """PEM: the certificate, followed by those of the chain up to its authority."""
    key: KeyFile
    """PEM: its private key, without a password."""

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        _go_together(self.certificate, self.key)
        return self


class Tls(Model):
    """TLS on a listener: HTTPS."""

    certificate: CertificateFile | None = None
    """PEM: the certificate, followed by those of the chain up to its authority."""
    key: KeyFile | None = None
    """PEM: its private key, without a password."""
    certificates: tuple[Certificate, ...] = ()
    """Several of them in place of one, chosen by the host that a client asks for (SNI) and the names in
    the certificates; the first is for all other hosts."""
    development: Flag = False
    """true: certificates of an authority of this machine's own, in place of any."""
    min_version: TlsVersion = written("1.2")
    """The oldest version of TLS, 1.2 or 1.3."""
    ciphers: Ciphers | None = None
    """OpenSSL's list of ciphers for TLS 1.2; by default all that are good."""
    client_certificates: ClientCertificates = "off"
    """Whether clients are asked for a certificate: off, optional, or required."""
    client_ca: CertificateFile | None = None
    """PEM: the authorities whose certificates clients may show."""
    strict_sni: Flag = False
    """true: clients that ask for no host, or for one that no certificate is for, are refused."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        kinds = ("certificate", "certificates", "development")
        given = [kind for kind in kinds if data.get(kind)]
        if len(given) != 1:
            got = alternatives(given).replace(" or ", " and ") if given else "none"
            yield (), f"expected one of {alternatives(kinds)}, got {got}"
        if bool(data.get("key")) != bool(data.get("certificate")):
            yield (
                (),
                f"certificate and key go together: {'certificate' if data.get('key') else 'key'} is missing",
            )
        asked = switch(data.get("client_certificates", "off"))
        if asked in {"optional", "required"} and data.get("client_ca") is None:
            yield ("client_certificates",), "nothing could verify them: expected client_ca"
        if asked == "off" and data.get("client_ca") is not None:
            yield ("client_ca",), "no client is asked: expected client_certificates: optional or required"

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if self.certificate is not None and self.key is not None:
            _go_together(self.certificate, self.key)
        return self

    @property
    def pairs(self) -> tuple[Certificate, ...]:
        """All certificates that are in files, the default first."""
        if self.certificate is None or self.key is None:
            return self.certificates
        return (Certificate.model_construct(certificate=self.certificate, key=self.key),)


def _go_together(certificate: Path, key: Path) -> None:
    from gateway.tls import files  # what reads certificates takes long to load

    files.check_pair(files.CertificateFiles(certificate, key))


_TLS_SHORT: Any = {
    "anyOf": [
        {"const": "development"},
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"certificate": {"type": "string"}, "key": {"type": "string"}},
                "required": ["certificate", "key"],
                "additionalProperties": False,
            },
        },
    ]
}


class Hsts(Model):
    """Clients are told to come back by https only (RFC 6797)."""

    max_age: Duration = written("365d")
    """How long they remember it; 0 makes them forget."""
    subdomains: Flag = False
    """Whether it is meant for all hosts below this one."""
    preload: Flag = False
    """Whether browsers may have it built in; takes subdomains and 365d."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        if data.get("preload") is True and not (
            data.get("subdomains") is True and data.get("max_age", "365d") == "365d"
        ):
            yield ("preload",), "lists of browsers take hosts with subdomains: true and max_age: 365d only"


def _tls(value: Any) -> Any:
    if value == "development":
        return {"development": True}
    if isinstance(value, str):
        raise expected("development, a mapping with certificate and key, or a list of such", value)
    return {"certificates": value} if isinstance(value, list) else value


class Listener(Model):
    """A socket on which clients are accepted."""

    later: ClassVar[dict[str, str]] = {
        "fastcgi": f"FastCGI listeners are {NOT_YET}",
        "scgi": f"SCGI listeners are {NOT_YET}",
        "uwsgi": f"uwsgi listeners are {NOT_YET}",
    }

    address: Listen = Field(alias="http")
    """Where to accept HTTP/1.1 and HTTP/2. Port 0 lets the kernel choose; the port is logged."""
    mode: FileMode | None = None
    """Permissions of a Unix socket, such as "0660"; by default what the umask leaves."""
    backlog: Count = 2048
    """Connections that may wait to be accepted."""
    proxy_protocol: Flag = False
    """Whether every connection begins with a PROXY header (version 1 or 2), as a load balancer sends it.
    Only trusted_proxies may connect then; all others are closed."""
    tls: Annotated[Tls, Short(_tls, _TLS_SHORT)] | None = None
    """HTTPS: a certificate and its key, a list of them, or development."""
    hsts: Hsts | None = None
    """With tls: responses tell clients to come back by https only, if the application does not."""
    redirect_https: RedirectHttps = False
    """Answer everything with a redirect (308) to https: true for the port of the first listener with tls,
    or the port that clients see."""
    http2: Flag = True
    """Whether clients may speak HTTP/2: by ALPN over TLS, in clear text by beginning with its preface."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        address = data.get("http")
        if data.get("mode") is not None and isinstance(address, str) and not address.startswith("unix:"):
            yield ("mode",), f"permissions belong to a Unix socket (unix:/path), not to {show(address)}"
        if data.get("hsts") is not None and data.get("tls") is None:
            yield ("hsts",), "clients must not believe it in clear text (RFC 6797 8.1): expected tls"
        if data.get("redirect_https") and data.get("tls") is not None:
            yield ("redirect_https",), "this listener has tls: it would redirect to itself"


# ---- daemon-wide settings


class AccessLog(Model):
    """One line for each request."""

    format: Literal["auto", "json", "text"] = "auto"
    """json, text, or auto: text on a terminal, JSON lines elsewhere."""
    destination: Destination = written("stderr")
    """stderr, stdout, or the path of a file that lines are appended to."""


class ClientTimeouts(Model):
    """How long the gateway waits for clients."""

    handshake: Timeout = written("10s")
    """For a TLS handshake, in all."""
    header: Timeout = written("10s")
    """For a complete request head, from its first byte (or from connecting)."""
    body: Timeout = written("30s")
    """For the next bytes of a request body, and for a client to take some of a response."""
    keep_alive: Duration = written("75s")
    """For the next request on an idle connection; 0 closes after each response."""
    shutdown: Duration = written("30s")
    """For running requests when the daemon stops."""
    disconnect_grace: Duration = written("3s")
    """For an application to end after it was told that its client has gone, before it is cancelled."""
    tunnel: Duration = written("1h")
    """For the next data, either way, of a connection that was upgraded (WebSocket); 0 waits for ever."""


class ClientLimits(Model):
    """How much the gateway takes from clients."""

    request_line: Limit = written("8KiB")
    """Bytes of the request line; more is answered 414."""
    headers: Limit = written("64KiB")
    """Bytes of all header fields together; more is answered 431."""
    header_count: Count = 100
    """Header fields; more is answered 431."""
    body: Size = written("1GiB")
    """Bytes of a request body; more is answered 413."""
    streams: Count = 100
    """Requests that run at the same time on one HTTP/2 connection; it is told to the client."""
    min_rate: Size = written(240)
    """Bytes per second that a client must keep up, sending a request body or taking a response that is not a
    file, beyond timeouts.body; a slower one is cut off. 0: only silence is bounded."""
    connections: Count | None = None
    """Connections at the same time. Beyond them idle ones are ended, and new ones wait to be accepted."""
    connections_per_client: Count | None = None
    """Connections at the same time from one address (IPv6: from one /64); more are closed. Clients on Unix
    sockets and trusted_proxies are not counted."""


# ---- parts of backends


class WebSocket(Model):
    """WebSocket connections to an application."""

    max_message: Limit = written("16MiB")
    """Bytes of a message; more closes the connection with code 1009."""
    ping_interval: Duration = written("20s")
    """From a sign of life of the client to the next ping; 0 sends none."""
    ping_timeout: Timeout = written("20s")
    """For the client to answer a ping, before the connection is closed."""
    compression: Flag = True
    """Whether messages are compressed (permessage-deflate) where the client offers it."""


Upgrades: TypeAlias = Annotated[tuple[UpgradeProtocol, ...], Many()]
Variables: TypeAlias = dict[VariableName, LineTemplateText]


def _target_kind(value: Any) -> str:
    return "<spawn>" if isinstance(value, Spawn) or _is_spawn(value) else "<servers>"


def _is_spawn(value: Any) -> bool:
    return isinstance(value, dict) and not {"address", "url"} & value.keys()


SocketTarget: TypeAlias = Annotated[
    Annotated[Servers, Tag("<servers>")] | Annotated[Spawn, Tag("<spawn>")], Discriminator(_target_kind)
]

HTTPTarget: TypeAlias = Annotated[
    Annotated[HTTPServers, Tag("<servers>")] | Annotated[Spawn, Tag("<spawn>")], Discriminator(_target_kind)
]


# ---- backends


class _Backend(Model):
    headers: HeaderRules | None = None
    """Header fields that are changed on the way to and from this backend, whatever the route."""
    x_sendfile: Annotated[tuple[Directory, ...], Many()] = ()
    """Directories of which the application may name files in X-Sendfile, for the gateway to send."""
    x_accel_redirect: Flag = False
    """Whether the application may name a path of this server in X-Accel-Redirect, to be answered instead."""


class _WithLength(_Backend):
    """What applications that must know the length of a body in advance have in common."""

    body: Literal["spool", "stream", "reject"] = "spool"
    """A request body of unknown length is spooled to memory and disk, streamed, or rejected with 411."""
    max_body: Limit | None = None
    """Bytes of a request body; more is answered 413. By default the limit for clients."""
    spool_memory: Size = written("256KiB")
    """Bytes of a spooled body kept in memory before a temporary file is used."""


class _CGIFamily(_WithLength):
    """What all programs that get CGI variables have in common."""

    variables: Variables = Field(default_factory=dict)
    """Variables added to those of the protocol; they win over header variables."""


class Transcript(Model):
    """A file that shows exchanges with programs."""

    file: FilePath
    """The file; it is made readable for its owner only."""
    size: Size = written("10MiB")
    """Bytes beyond which nothing is added (Apache: ScriptLogLength)."""
    always: Flag = False
    """true: all exchanges are written down, not only those that failed."""
    excerpt: Size = written("1KiB")
    """Bytes of the request body and of the output that are shown (Apache: ScriptLogBuffer)."""


def _transcript(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


class CGIBackend(_CGIFamily, Confined):
    """A program started for each request (RFC 3875)."""

    kind: ClassVar[str] = "cgi"
    interpreter: dict[Extension, Interpreter] = Field(default_factory=dict)
    """Programs, with arguments or without, that run the files of an extension: {.php: php-cgi, .pl: perl}.
    Such files need not be executable."""
    extensions: Annotated[tuple[Extension, ...], Many()] = ()
    """How the names of programs end, beside those that have an interpreter; by default as they like."""
    execute: Literal["auto", "x-only", "shebang"] = "auto"
    """Which files are run: auto, executable ones and those that have an interpreter; x-only, executable ones;
    shebang, also those whose first line names an interpreter (#!)."""
    path: ProgramOrDirectory = Field(alias="cgi")
    """One program, or a directory of programs that are found by the path of the request."""
    index: FileName | None = None
    """The program for a path that ends in a directory."""
    timeout: Timeout = written("60s")
    """For the program to write something; then it is ended and the request answered 504."""
    kill_after: Duration = written("5s")
    """From the polite signal (TERM) to the deadly one (KILL), for the whole process group."""
    nph: Annotated[tuple[FileName, ...], Many()] = ("nph-*",)
    """Names of programs that write whole HTTP responses (RFC 3875 5); * stands for anything."""
    pass_env: Annotated[tuple[VariableName, ...], Many()] = ()
    """Variables of the gateway's own environment that programs get, such as [LANG, TZ]."""
    pass_authorization: Flag = False
    """Whether programs see the credentials of clients, as HTTP_AUTHORIZATION (Apache: CGIPassAuth)."""
    indexed_query: Flag = False
    """Whether the words of a query without = are arguments of the program (RFC 3875 4.4); a query with a word
    that begins with - never is."""

    max_processes: Count | None = None
    """Programs that run at the same time; further requests wait."""
    queue: CountOrNone = 100
    """Requests that may wait; more are answered 503 at once. With max_processes."""
    queue_time: Timeout = written("10s")
    """How long one may wait, before it is answered 503. With max_processes."""
    catch_stderr: Regex | None = None
    """A regular expression: a line of standard error that it matches before the response has begun makes it a
    502 (nginx: fastcgi_catch_stderr)."""
    transcript: Annotated[Transcript, Short(_transcript, {"type": "string", "minLength": 1})] | None = None
    """A file that shows what went between the gateway and programs that failed (Apache: ScriptLog)."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from super().contradictions(data)
        for key in ("queue", "queue_time"):
            if key in data and data.get("max_processes") is None:
                yield (key,), "without max_processes no request waits"

    @field_validator("path")
    @classmethod
    def _runnable(cls, path: Path, info: ValidationInfo) -> Path:
        execute = info.data.get("execute")
        interpreted = path.name.endswith(tuple(info.data.get("interpreter", ())))
        if execute == "x-only" or (execute == "auto" and not interpreted):
            check_runnable(path)
        return path


class _SocketBackend(_CGIFamily, Balanced):
    kind: ClassVar[str]
    pings: ClassVar[bool] = False
    """Whether the protocol has a sign of life."""

    target: SocketTarget

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        kind = cls.kind
        target = data.get(kind)
        if not _is_spawn(target):
            yield from server_contradictions(kind, target)
            yield from tls_contradictions(kind, data)
        elif data.get("tls"):
            yield ("tls",), SPAWNED_WITHOUT_TLS
        yield from check_contradictions(data.get("health"), pings=cls.pings, spawned=_is_spawn(target))

    @property
    def servers(self) -> tuple[Server, ...]:
        """Where the application listens; empty if the gateway spawns it."""
        return () if isinstance(self.target, Spawn) else self.target

    @property
    def spawn(self) -> SpawnedApp | None:
        """What to start, if the gateway spawns the application."""
        return self.target.spawn if isinstance(self.target, Spawn) else None


class FastCGIBackend(_SocketBackend):
    """A FastCGI application."""

    kind: ClassVar[str] = "fastcgi"

    target: SocketTarget = Field(alias="fastcgi")
    """Its address, several of them, or mappings with address, weight and backup; or spawn: an application
    to start."""
    role: Literal["responder", "authorizer"] = "responder"
    """What the application is: a responder answers requests, an authorizer decides about those of routes that
    say so (authorize)."""
    preset: Literal["php-fpm"] | None = None
    """php-fpm: a script below root for each request; its peculiarities are respected."""
    root: FilePath | None = None
    """The directory of the scripts, as the application sees it; without it there is no SCRIPT_FILENAME."""
    split: FileName | None = None
    """How the name of a script ends, behind which PATH_INFO begins; .php if there is a root."""
    index: FileName | None = None
    """The script for a path that ends with a slash; index.php if there is a root."""
    keep_connection: Flag = False
    """Whether connections are used again. An application that serves one connection per process
    (php-fpm) is blocked by idle ones, so they are closed by default."""
    pool: Pool = Field(default_factory=Pool)
    """How many connections there may be; with keep_connection, which are kept open."""
    catch_stderr: Regex | None = None
    """A regular expression: a line of the error stream that it matches before the response has begun makes it
    a 502 (nginx: fastcgi_catch_stderr)."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from super().contradictions(data)
        for key in ("split", "index"):
            if data.get(key) is not None and data.get("root") is None:
                yield (key,), f"scripts are looked for below a root: {key} needs root"
        pool = data.get("pool")
        if isinstance(pool, dict) and not data.get("keep_connection"):
            for key in KEEPING:
                if key in pool:
                    yield ("pool", key), "without keep_connection: true no connection is kept"
        if data.get("role") == "authorizer" and data.get("root") is not None:
            yield ("root",), "an authorizer runs no scripts: it has no SCRIPT_NAME (FastCGI 6.3)"
        if data.get("preset") == "php-fpm":
            if data.get("root") is None:
                yield ("preset",), "php-fpm runs scripts below a root: expected root"
            if data.get("body") == "stream":
                # php/php-src#7509: the script sees an empty body.
                yield ("body",), "php-fpm loses a body that has no length: expected spool or reject"

    @property
    def script_split(self) -> str | None:
        """How a script's name ends; None if there is no root."""
        return None if self.root is None else self.split or ".php"

    @property
    def script_index(self) -> str | None:
        """The script of a directory; None if there is no root."""
        return None if self.root is None else self.index or "index.php"


class SCGIBackend(_SocketBackend):
    """An SCGI application."""

    kind: ClassVar[str] = "scgi"

    target: SocketTarget = Field(alias="scgi")
    """Its address, several of them, or mappings with address, weight and backup; or spawn: an application
    to start."""
    pool: Connections = Field(default_factory=Connections)
    """How many connections there may be; each serves one request."""


class UWSGIBackend(_SocketBackend):
    """An application that speaks the uwsgi protocol."""

    kind: ClassVar[str] = "uwsgi"
    pings: ClassVar[bool] = True

    target: SocketTarget = Field(alias="uwsgi")
    """Its address, several of them, or mappings with address, weight and backup; or spawn: an application
    to start."""
    buffer_size: BufferSize = written(65535)
    """The application's own buffer-size (uWSGI: 4096 by default); what is larger is answered 431."""
    modifier1: Byte = 0
    """Which plugin of the application handles the request; 0 is WSGI."""
    modifier2: Byte = 0
    """A detail for that plugin."""
    upgrade: Upgrades = ("websocket",)
    """Protocols that clients may switch to through a tunnel, if the application does; [] for none."""
    pool: Connections = Field(default_factory=Connections)
    """How many connections there may be; each serves one request."""


class AJPBackend(_CGIFamily, Balanced):
    """A servlet container (Tomcat, WildFly), by AJP/1.3."""

    kind: ClassVar[str] = "ajp"

    servers: Servers = Field(alias="ajp")
    """The address of its AJP connector, several of them, or mappings with address, weight and backup."""
    secret: SharedSecret | None = None
    """What it wants to be told before it takes a request (Tomcat: secret)."""
    packet_size: PacketSize = written("8KiB")
    """The size of its packets (Tomcat: packetSize), 8KiB to 64KiB; a head that needs more is answered 431."""
    ping: Timeout | None = None
    """For a sign of life (CPing) from a connection before it is used again; without it none is asked for."""
    pool: Pool = Field(default_factory=Pool)
    """How many connections there may be, and which are kept open; idle: 0 keeps none."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from server_contradictions("ajp", data.get("ajp"))
        yield from tls_contradictions("ajp", data)
        yield from check_contradictions(data.get("health"), pings=True, spawned=False)
        variables = data.get("variables")
        for name in variables if isinstance(variables, dict) else ():
            if isinstance(name, str) and not is_told(name):
                yield (
                    ("variables", name),
                    f"AJP has no place for it: expected AJP_{name}, which is the request attribute {name}",
                )
        pool = data.get("pool")
        if data.get("ping") is not None and isinstance(pool, dict) and pool.get("idle") == 0:
            yield ("ping",), "without a pool no connection is used again"


class HTTPBackend(_Backend, Balanced):
    """A web server."""

    kind: ClassVar[str] = "http"

    target: HTTPTarget = Field(alias="http")
    """Its URL without a path, such as http://127.0.0.1:3000 or https://app.example, several of them, or
    mappings with url, weight and backup; or spawn: a server to start."""
    host: HostPolicy | None = None
    """The Host that it sees: preserve what the client sent, upstream for the one in its URL, or another. By
    default preserve, and upstream if a URL is https."""
    forwarded: Literal["x-forwarded", "forwarded", "both", "off"] = "x-forwarded"
    """How it is told who the client is: by X-Forwarded-*, by Forwarded (RFC 7239), by both, or not at all."""
    pool: Pool = Field(default_factory=Pool)
    """How many connections there may be, and which are kept open; idle: 0 keeps none."""
    upgrade: Upgrades = ("websocket",)
    """Protocols that clients may switch to through a tunnel, if the server does; [] for none."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        target = data.get("http")
        yield from check_contradictions(data.get("health"), pings=False, spawned=_is_spawn(target))
        if not _is_spawn(target):
            yield from server_contradictions("http", target)
            yield from tls_contradictions("http", data)
            return
        if data.get("tls"):
            yield ("tls",), SPAWNED_WITHOUT_TLS
        spawn = target.get("spawn") if isinstance(target, dict) else None
        if isinstance(spawn, dict) and "wsgi" in spawn:
            yield (
                ("http", "spawn", "wsgi"),
                "is served by fastcgi, scgi or uwsgi: expected one of them, or a command that serves HTTP",
            )

    @property
    def servers(self) -> tuple[HTTPServer, ...]:
        """Where the server listens; empty if the gateway spawns it."""
        return () if isinstance(self.target, Spawn) else self.target

    @property
    def spawn(self) -> SpawnedApp | None:
        """What to start, if the gateway spawns the server."""
        return self.target.spawn if isinstance(self.target, Spawn) else None


class ASGIBackend(_Backend):
    """An ASGI 3 application inside the daemon."""

    kind: ClassVar[str] = "asgi"

    app: ObjectName = Field(alias="asgi")
    """The application, module:attribute."""
    directory: Directory = written(".")
    """Where its modules are imported from; by default the directory of this file."""
    factory: Flag = False
    """Whether the attribute is a function that makes the application."""
    loop: Literal["asyncio", "trio"] = "asyncio"
    """The event loop that the application is written for."""
    lifespan: Lifespan = "auto"
    """Whether it is told of start and stop: on, off, or auto: if it wants to be."""
    startup_timeout: Timeout = written("60s")
    """For the application to complete its start."""
    shutdown_timeout: Timeout = written("60s")
    """For the application to complete its stop."""
    websocket: WebSocket = Field(default_factory=WebSocket)
    """Bounds of its WebSocket connections."""


class WSGIBackend(_WithLength):
    """A WSGI application inside the daemon, on threads."""

    kind: ClassVar[str] = "wsgi"

    app: ObjectName = Field(alias="wsgi")
    """The application, module:attribute."""
    directory: Directory = written(".")
    """Where its modules are imported from; by default the directory of this file."""
    factory: Flag = False
    """Whether the attribute is a function that makes the application."""
    threads: Count = 8
    """Requests that run at the same time; further ones wait."""


KINDS = (
    CGIBackend,
    FastCGIBackend,
    SCGIBackend,
    UWSGIBackend,
    AJPBackend,
    HTTPBackend,
    ASGIBackend,
    WSGIBackend,
)
_KIND_NAMES = tuple(kind.kind for kind in KINDS)


def _exactly_one_kind(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kinds = [key for key in value if key in _KIND_NAMES]
    if len(kinds) > 1:
        raise ValueError(f"a backend is of one kind, got {alternatives(kinds).replace(' or ', ' and ')}")
    if not kinds:
        guess = next(filter(None, (suggestion(key, _KIND_NAMES) for key in value)), "")
        raise ValueError(
            f"expected a kind of backend ({alternatives(_KIND_NAMES)}){'; ' * bool(guess)}{guess}"
        )
    return value


def _mapping(value: Any) -> Any:
    if isinstance(value, dict | Model):
        return value
    raise expected(f"a mapping with a kind of backend ({alternatives(_KIND_NAMES)})", value)


def _kind_of(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((f"<{key}>" for key in value if key in _KIND_NAMES), None)
    return f"<{value.kind}>" if isinstance(value, KINDS) else None


Backend: TypeAlias = Annotated[
    Annotated[CGIBackend, Tag("<cgi>")]
    | Annotated[FastCGIBackend, Tag("<fastcgi>")]
    | Annotated[SCGIBackend, Tag("<scgi>")]
    | Annotated[UWSGIBackend, Tag("<uwsgi>")]
    | Annotated[AJPBackend, Tag("<ajp>")]
    | Annotated[HTTPBackend, Tag("<http>")]
    | Annotated[ASGIBackend, Tag("<asgi>")]
    | Annotated[WSGIBackend, Tag("<wsgi>")],
    Discriminator(_kind_of),
    BeforeValidator(_exactly_one_kind),
    BeforeValidator(_mapping),
]


# ---- routes


class Match(Model):
    """What a request must look like: each key that is given, in one of its values."""

    later: ClassVar[dict[str, str]] = {"cookie": f"matching cookies is {NOT_YET}: match the header"}

    host: Annotated[tuple[HostPattern, ...], AtLeastOne(), Many()] | None = None
    """The host without its port: example.com, or *.example.com for all hosts below it."""
    path: Annotated[tuple[PathPattern, ...], AtLeastOne(), Many()] | None = None
    """/exact, /prefix/* (also matches /prefix), *.suffix, or ~ and a regular expression."""
    method: Annotated[tuple[Method, ...], AtLeastOne(), Many()] | None = None
    """The method, upper case."""
    header: dict[HeaderName, Annotated[tuple[WantedValue, ...], AtLeastOne(), Many()] | None] | None = None
    """By name: the whole value, or null for any value."""
    query: dict[str, Annotated[tuple[WantedValue, ...], AtLeastOne(), Many()] | None] | None = None
    """By name of the parameter: the whole value, or null for any value."""
    scheme: Annotated[tuple[Literal["http", "https"], ...], AtLeastOne(), Many()] | None = None
    """http or https."""
    client: Annotated[tuple[Client, ...], AtLeastOne(), Many()] | None = None
    """The client's address: an address, a network such as 10.0.0.0/8, or unix."""


class Static(Model):
    """Files from a directory."""

    root: Directory
    """The directory; nothing outside of it is served."""
    index: Annotated[tuple[FileName, ...], Many()] = ("index.html",)
    """Names of files that stand for their directory, in order."""
    symlinks: Literal["inside", "follow", "refuse"] = "inside"
    """Symbolic links are followed if they stay inside the directory, always (follow), or never (refuse)."""


class Redirect(Model):
    """An answer that sends the client elsewhere."""

    to: Target
    """A path or URL, with placeholders such as {path.rest}. The query is kept unless this has one."""
    status: RedirectStatus = 302
    """The status: 301 or 308 is remembered by clients, 307 and 308 keep the method."""


class Respond(Model):
    """A fixed answer."""

    status: FinalStatus = 200
    """The status, 200 to 599."""
    body: TemplateText = ""
    """The body, with placeholders such as {path}."""
    headers: dict[ResponseHeaderName, LineTemplateText] = Field(default_factory=dict)
    """Header fields, with placeholders such as {host}."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        # RFC 9110 15.3.5, 15.3.6, 15.4.5: these have no body.
        if data.get("body") and str(data.get("status")) in {"204", "205", "304"}:
            yield ("body",), f"a response with status {data['status']} has no body"


ACTIONS = ("backend", "static", "redirect", "respond")


def _static(value: Any) -> Any:
    return {"root": value} if isinstance(value, str) else value


Shares: TypeAlias = Annotated[dict[str, Count], Field(min_length=1)]
OneOrShares: TypeAlias = Annotated[
    Annotated[str, Tag("<name>")] | Annotated[Shares, Tag("<shares>")],
    Discriminator(lambda value: "<shares>" if isinstance(value, dict) else "<name>"),
]


class Route(Model):
    """What to do with the requests that match."""

    later: ClassVar[dict[str, str]] = {"rewrite": f"rewriting is {NOT_YET}"}

    match: Match = Field(default_factory=Match)
    """What a request must look like; without it, anything."""
    mount: Mount = ""
    """The part of the path that is the application's own: SCRIPT_NAME, root_path; http and static
    do not see it."""
    backend: OneOrShares | None = None
    """Action: pass the request to the backend of this name, or to one of several, as {blue: 9, green: 1}."""
    static: Annotated[Static, Short(_static, {"type": "string", "minLength": 1})] | None = None
    """Action: serve files from a directory."""
    redirect: Redirect | None = None
    """Action: send the client elsewhere."""
    respond: Respond | None = None
    """Action: answer this."""
    internal: Flag = False
    """Whether this route is for local redirects of programs and X-Accel-Redirect only, not for clients."""
    split_by: LineTemplateText | None = None
    """What decides which of several backends gets the request, such as {client}; by default chance."""
    authorize: str | None = None
    """A fastcgi backend with role: authorizer that decides whether the request may go on."""
    forward_auth: ForwardAuth | None = None
    """A backend that is asked, by HTTP or any other protocol, whether the request may go on."""
    mirror: Annotated[Mirror, Short(mirrored, {"type": "string"})] | None = None
    """A second backend that gets a copy of each request, or how."""
    headers: HeaderRules | None = None
    """Header fields that are changed on the way to the action and back."""
    limit_rate: Limit | None = None
    """Bytes per second that a response is sent with; by default as fast as the client takes it."""
    limit_rate_after: Size = 0
    """Bytes of a response that are sent before limit_rate begins."""
    buffering: Annotated[Buffering | None, Short(switched_on, buffering_schema)] = None
    """true, or how much of a response is taken from the backend before the client has read it."""
    request_buffering: Annotated[RequestBuffering | None, Short(switched_on, buffering_schema)] = None
    """true, or how: the backend gets a request when its whole body is here."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        given = [action for action in ACTIONS if action in data]
        if len(given) != 1:
            got = "none" if not given else alternatives(given).replace(" or ", " and ")
            yield (), f"expected exactly one action ({alternatives(ACTIONS)}), got {got}"
        elif data[given[0]] is None:
            yield (given[0],), "expected a value, got nothing"
        if data.get("split_by") is not None and not isinstance(data.get("backend"), dict):
            yield ("split_by",), "there is nothing to choose from: expected several backends"
        if data.get("limit_rate_after") and data.get("limit_rate") is None:
            yield ("limit_rate_after",), "nothing is limited: expected limit_rate beside it"
        mount = data.get("mount")
        if not isinstance(mount, str):
            return
        if given in (["redirect"], ["respond"]):
            yield ("mount",), f"has no meaning for {given[0]}: expected backend or static beside it"
        yield from _outside_mount(mount, data.get("match"))


def _outside_mount(mount: str, match: Any) -> Iterator[tuple[Place, str]]:
    patterns = match.get("path") if isinstance(match, dict) else None
    several = isinstance(patterns, list)
    for position, pattern in enumerate(patterns if isinstance(patterns, list) else [patterns]):
        if isinstance(pattern, str) and _can_match(pattern, "") and not _can_match(pattern, mount):
            place: Place = ("match", "path", position) if several else ("match", "path")
            yield place, f"{show(pattern)} is not below the route's mount {show(mount)}"


def _can_match(pattern: str, mount: str) -> bool:
    try:
        find_rest_of([pattern], mount)
    except (ValueError, OverflowError, RecursionError):
        return False
    return True


# ---- the whole


def _access_log(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if isinstance(value, str):
        raise expected("true, false or a mapping with format and destination", value)
    return value


class Config(Model):
    """A configuration file."""

    later: ClassVar[dict[str, str]] = {
        "tests": f"tests in the configuration are {NOT_YET}",
    }

    listeners: Annotated[tuple[Listener, ...], AtLeastOne()]
    """Where clients are accepted."""
    workers: Workers = written(1)
    """Processes that serve; auto is one for each core. Not supported yet: one serves, with a warning."""
    access_log: Annotated[AccessLog | None, Short(_access_log, {"type": "boolean"})] = written(True)
    """true, false, or where the log of requests goes and in which format."""
    debug: Flag = False
    """true, for development: error pages tell everything, and debug events of the gateway are logged too."""
    error_pages: dict[StatusPattern, ErrorPageFile] = Field(default_factory=dict)
    """Files for the gateway's own errors, by status (404) or class (5xx): templates. Not with debug: true."""
    control: ControlSocket | None = None
    """The Unix socket of gateway status and gateway stop, such as unix:/run/gateway/control.sock. Whoever may
    write to it may stop the daemon: only its own user may."""
    metrics: Listen | None = None
    """Where Prometheus gets /metrics, such as 127.0.0.1:9145."""
    trusted_proxies: Annotated[tuple[Client, ...], Many()] = ()
    """Networks (or unix) of the proxies in front, whose word counts about who the client is. What others say
    in Forwarded and X-Forwarded-* is dropped."""
    forwarded: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    """How trusted proxies tell who the client is: by X-Forwarded-For and X-Forwarded-Proto, or by Forwarded
    (RFC 7239). The fields of the other kind are dropped."""
    via: Name = "gateway"
    """The name of the gateway in the Via of requests to web servers; each start adds a random part, by which
    the gateway recognises its own requests."""
    timeouts: ClientTimeouts = Field(default_factory=ClientTimeouts)
    """Waiting for clients, by phase."""
    limits: ClientLimits = Field(default_factory=ClientLimits)
    """Sizes of requests."""
    backends: dict[Name, Backend] = Field(default_factory=dict)
    """The applications and servers, by name."""
    routes: Annotated[tuple[Route, ...], AtLeastOne()]
    """In order; the first that matches wins."""

    _route_places: tuple[str, ...] = PrivateAttr(default=())

    @property
    def route_places(self) -> tuple[str, ...]:
        """``file:line`` of each route, for people; empty if the configuration did not come from a file."""
        return self._route_places

    def remember_route_places(self, places: tuple[str, ...]) -> None:
        """Called once, by the loader: a model does not see where its data stood."""
        self._route_places = places

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from _unknown_backends(data.get("routes"), data.get("backends"))
        yield from _wrong_roles(data.get("routes"), data.get("backends"))
        yield from _shared_addresses(data.get("listeners"))
        if not data.get("trusted_proxies"):
            yield from _untrusted_headers(data.get("listeners"))
        yield from _aimless_redirects(data.get("listeners"))


def _unknown_backends(routes: Any, backends: Any) -> Iterator[tuple[Place, str]]:
    names = list(backends) if isinstance(backends, dict) else []
    known = f"expected one of {', '.join(names)}" if names else "there are no backends"
    for position, route in enumerate(routes if isinstance(routes, list) else []):
        for place, name in _named_backends(route):
            if name not in names:
                yield (
                    ("routes", position, *place),
                    f"there is no backend {show(name)}; {suggestion(name, names) or known}",
                )


def _named_backends(route: Any) -> Iterator[tuple[Place, str]]:
    """The names of backends in a route, and where they stand."""
    if not isinstance(route, dict):
        return
    action = route.get("backend")
    for name in action if isinstance(action, dict) else [action]:
        if isinstance(name, str):
            yield (("backend", name) if isinstance(action, dict) else ("backend",)), name
    for key in ("authorize", "forward_auth", "mirror"):
        name = route.get(key)
        place: Place = (key,)
        if isinstance(name, dict):
            name, place = name.get("backend"), (key, "backend")
        if isinstance(name, str):
            yield place, name


def _wrong_roles(routes: Any, backends: Any) -> Iterator[tuple[Place, str]]:
    """Authorizers answer no client, and others cannot do what they do."""
    authorizers = {
        name
        for name, backend in (backends.items() if isinstance(backends, dict) else ())
        if isinstance(backend, dict) and backend.get("role") == "authorizer"
    }
    names = list(backends) if isinstance(backends, dict) else []
    for position, route in enumerate(routes if isinstance(routes, list) else []):
        for place, name in _named_backends(route):
            if name not in names:
                continue
            if place == ("authorize",) and name not in authorizers:
                problem = f"{show(name)} is not a fastcgi backend with role: authorizer"
                yield ("routes", position, *place), problem
            elif place != ("authorize",) and name in authorizers:
                problem = f"{show(name)} is an authorizer: it decides, for authorize, and answers no request"
                yield ("routes", position, *place), problem


def _aimless_redirects(listeners: Any) -> Iterator[tuple[Place, str]]:
    listeners = listeners if isinstance(listeners, list) else []
    if any(isinstance(listener, dict) and listener.get("tls") is not None for listener in listeners):
        return
    for position, listener in enumerate(listeners):
        if isinstance(listener, dict) and listener.get("redirect_https") is True:
            place: Place = ("listeners", position, "redirect_https")
            yield place, "no listener has tls: expected the port of https"


def _shared_addresses(listeners: Any) -> Iterator[tuple[Place, str]]:
    first: dict[str, int] = {}
    for position, listener in enumerate(listeners if isinstance(listeners, list) else []):
        address = listener.get("http") if isinstance(listener, dict) else None
        # Port 0 is another port each time.
        if not isinstance(address, str) or address.endswith(":0"):
            continue
        if address in first:
            yield (
                ("listeners", position, "http"),
                f"listeners[{first[address]}] has the address {show(address)} already",
            )
        first.setdefault(address, position)


def _untrusted_headers(listeners: Any) -> Iterator[tuple[Place, str]]:
    for position, listener in enumerate(listeners if isinstance(listeners, list) else []):
        if isinstance(listener, dict) and listener.get("proxy_protocol") is True:
            yield (
                ("listeners", position, "proxy_protocol"),
                "nobody is trusted to send PROXY headers: expected trusted_proxies with the load balancer",
            )
