"""How web servers written in C and Go are started: nginx, Apache, lighttpd, HAProxy, Caddy and uWSGI.

One function per server makes a peer from the part of its configuration that belongs to the scenario. All
have one worker, no access log, and keep connections to clients and backends open where they can.
Paths and modules are those of Debian's packages.
"""

import os
from collections.abc import Callable
from typing import Final

from benchmarks.peers import ENDLESS, KEEP_ALIVE, THREADS, Commands, Peer, Place, file, find, program
from benchmarks.process import APPS, HOST

NGINX: Final = program("nginx", "nginx", "-v")
APACHE: Final = program("apache2", "apache2", "-v")
LIGHTTPD: Final = program("lighttpd", "lighttpd", "-v")
HAPROXY: Final = program("haproxy", "haproxy", "-v")
CADDY: Final = program("caddy", "caddy", "version")
UWSGI: Final = program("uwsgi", "uwsgi-core", "--version")
UWSGI_PYTHON: Final = file("/usr/lib/uwsgi/plugins/python3_plugin.so", "uwsgi-plugin-python3")
UWSGI_HTTP: Final = file("/usr/lib/uwsgi/plugins/http_plugin.so", "uwsgi-core")
FCGIWRAP: Final = program("fcgiwrap", "fcgiwrap")

_NOBODY: Final = "User nobody\nGroup nogroup\n"

Config = Callable[[Place], str]


def command(name: str) -> str:
    """The path of an installed program."""
    path = find(name)
    if path is None:
        raise FileNotFoundError(name)
    return path


def _is_root() -> bool:
    return os.geteuid() == 0


# ---- nginx

# The variables that Debian's fastcgi_params and uwsgi_params have in common.
_CGI_VARIABLES: Final = {
    "QUERY_STRING": "$query_string",
    "REQUEST_METHOD": "$request_method",
    "CONTENT_TYPE": "$content_type",
    "CONTENT_LENGTH": "$content_length",
    "REQUEST_URI": "$request_uri",
    "DOCUMENT_URI": "$document_uri",
    "DOCUMENT_ROOT": "$document_root",
    "SERVER_PROTOCOL": "$server_protocol",
    "REQUEST_SCHEME": "$scheme",
    "REMOTE_ADDR": "$remote_addr",
    "REMOTE_PORT": "$remote_port",
    "SERVER_ADDR": "$server_addr",
    "SERVER_PORT": "$server_port",
    "SERVER_NAME": "$server_name",
}
_FASTCGI_VARIABLES: Final = {
    "SCRIPT_FILENAME": "$document_root$fastcgi_script_name",
    "SCRIPT_NAME": "$fastcgi_script_name",
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SERVER_SOFTWARE": "nginx/$nginx_version",
}


def _nginx_variables(directive: str, variables: dict[str, str]) -> str:
    return "".join(f"{directive} {name} {value};\n" for name, value in variables.items())


_FASTCGI_PARAMS: Final = _nginx_variables("fastcgi_param", _CGI_VARIABLES | _FASTCGI_VARIABLES)
_UWSGI_PARAMS: Final = _nginx_variables("uwsgi_param", _CGI_VARIABLES | {"PATH_INFO": "$document_uri"})

_NGINX: Final = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr crit;
{user}
worker_rlimit_nofile 16384;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout {keep_alive}s;
    keepalive_requests {endless};
    default_type text/plain;
    client_body_temp_path {directory}/client_body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {upstream}
    server {{
        listen {listen}{tls};
        root {content};
        location / {{
            {location}
        }}
    }}
}}
"""


def nginx_commands(place: Place, location: str, upstream: str = "", *, tls: bool = False) -> Commands:
    """Nginx with one location."""
    certificate = f" ssl; ssl_certificate {place.certificate}; ssl_certificate_key {place.key}"
    text = _NGINX.format(
        directory=place.directory,
        user="user root;" if _is_root() else "",
        keep_alive=KEEP_ALIVE,
        endless=ENDLESS,
        upstream=upstream,
        listen=place.listen,
        tls=certificate if tls else "",
        content=place.content,
        location=location,
    )
    return [[command("nginx"), "-e", "stderr", "-c", place.write("nginx.conf", text)]]


def _kept(place: Place, address: str) -> str:
    return (
        f"upstream kept {{ server {address}; keepalive {place.connections}; keepalive_requests {ENDLESS}; }}"
    )


def _nginx(start: Callable[[Place], Commands]) -> Peer:
    return Peer("nginx", start, (NGINX,))


def nginx_hello(*, tls: bool = False) -> Peer:
    """Nginx saying hello by itself."""
    return _nginx(lambda place: nginx_commands(place, 'return 200 "Hello, world!";', tls=tls))


def nginx_static() -> Peer:
    """Nginx serving files."""
    return _nginx(lambda place: nginx_commands(place, ""))


def nginx_proxy() -> Peer:
    """Nginx's proxy_pass over kept connections."""
    location = 'proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection "";'
    return _nginx(lambda place: nginx_commands(place, location, _kept(place, place.backend)))


def nginx_fastcgi() -> Peer:
    """Nginx's fastcgi_pass over kept connections."""
    location = f"fastcgi_pass kept; fastcgi_keep_conn on; {_FASTCGI_PARAMS}"
    return _nginx(lambda place: nginx_commands(place, location, _kept(place, f"unix:{place.backend}")))


def nginx_php() -> Peer:
    """Nginx's fastcgi_pass to php-fpm, a connection for each request."""
    return _nginx(
        lambda place: nginx_commands(place, f"fastcgi_pass unix:{place.backend}; {_FASTCGI_PARAMS}")
    )


def nginx_uwsgi() -> Peer:
    """Nginx's uwsgi_pass; the protocol has no kept connections."""
    return _nginx(lambda place: nginx_commands(place, f"uwsgi_pass unix:{place.backend}; {_UWSGI_PARAMS}"))


def nginx_fcgiwrap() -> Peer:
    """CGI as nginx has it: by fcgiwrap, with a process for each connection so that none has to wait."""

    def start(place: Place) -> Commands:
        wrapper = place.directory / "fcgiwrap.sock"
        return [
            [command("fcgiwrap"), "-s", f"unix:{wrapper}", "-c", str(place.connections)],
            *nginx_commands(place, f"fastcgi_pass unix:{wrapper}; {_FASTCGI_PARAMS}"),
        ]

    return Peer("nginx + fcgiwrap", start, (NGINX, FCGIWRAP))


# ---- Apache

_APACHE_MODULES: Final = "/usr/lib/apache2/modules"
_APACHE_THREADS: Final = 128

_APACHE: Final = """\
ServerRoot {directory}
DefaultRuntimeDir {directory}
ServerName localhost
Listen {listen}
PidFile {directory}/apache.pid
ErrorLog {directory}/error.log
LogLevel crit
{user}
{modules}
StartServers 1
ServerLimit 1
ThreadLimit {threads}
ThreadsPerChild {threads}
MaxRequestWorkers {threads}
MinSpareThreads 1
MaxSpareThreads {threads}
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout {keep_alive}
DocumentRoot {content}
<Location />
    Require all granted
</Location>
{rest}
"""


def _apache(modules: list[str], rest: Config) -> Peer:
    def start(place: Place) -> Commands:
        text = _APACHE.format(
            directory=place.directory,
            listen=place.listen,
            user=_NOBODY if _is_root() else "",
            modules="\n".join(
                f"LoadModule {name}_module {_APACHE_MODULES}/mod_{name}.so"
                for name in ["mpm_event", "authz_core", *modules]
            ),
            threads=_APACHE_THREADS,
            keep_alive=KEEP_ALIVE,
            content=place.content,
            rest=rest(place),
        )
        return [[command("apache2"), "-f", place.write("apache.conf", text), "-DFOREGROUND"]]

    return Peer("Apache", start, (APACHE,))


def apache_static() -> Peer:
    """Apache serving files."""
    return _apache([], lambda place: "EnableSendfile On")


def apache_proxy() -> Peer:
    """mod_proxy_http over kept connections."""
    return _apache(["proxy", "proxy_http"], lambda place: f"ProxyPass / http://{place.backend}/")


def apache_fastcgi() -> Peer:
    """mod_proxy_fcgi over kept connections."""
    return _apache(
        ["proxy", "proxy_fcgi"],
        lambda place: f"ProxyPass / unix:{place.backend}|fcgi://localhost/ enablereuse=on",
    )


def apache_php() -> Peer:
    """mod_proxy_fcgi to php-fpm, as Debian's php-fpm package configures it."""
    return _apache(
        ["proxy", "proxy_fcgi"],
        lambda place: (
            f'<FilesMatch "\\.php$">\n    SetHandler "proxy:unix:{place.backend}|fcgi://localhost"\n</FilesMatch>'
        ),
    )


def apache_uwsgi() -> Peer:
    """mod_proxy_uwsgi."""
    return _apache(
        ["proxy", "proxy_uwsgi"], lambda place: f"ProxyPass / unix:{place.backend}|uwsgi://localhost/"
    )


def apache_cgi() -> Peer:
    """mod_cgid, Apache's CGI for threaded workers."""
    return _apache(
        ["alias", "cgid"],
        lambda place: f"ScriptSock {place.directory}/cgid.sock\nScriptAlias / {place.content}/",
    )


# ---- lighttpd

_LIGHTTPD: Final = """\
server.modules = ( {modules} )
server.document-root = "{content}"
server.bind = "{host}"
server.port = {port}
server.errorlog = "{directory}/error.log"
server.upload-dirs = ( "{directory}" )
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = {keep_alive}
mimetype.assign = ( "" => "text/plain" )
{rest}
"""


def _lighttpd(modules: str, rest: Config) -> Peer:
    def start(place: Place) -> Commands:
        text = _LIGHTTPD.format(
            modules=modules,
            content=place.content,
            host=HOST,
            port=place.port,
            directory=place.directory,
            keep_alive=KEEP_ALIVE,
            rest=rest(place),
        )
        return [[command("lighttpd"), "-D", "-f", place.write("lighttpd.conf", text)]]

    return Peer("lighttpd", start, (LIGHTTPD,))


def lighttpd_static() -> Peer:
    """Lighttpd serving files."""
    return _lighttpd("", lambda place: "")


def lighttpd_fastcgi() -> Peer:
    """mod_fastcgi, which has a connection for each request."""
    return _lighttpd(
        '"mod_fastcgi"',
        lambda place: (
            f'fastcgi.server = ( "/" => (( "socket" => "{place.backend}", "check-local" => "disable" )) )'
        ),
    )


def lighttpd_php() -> Peer:
    """mod_fastcgi to php-fpm."""
    return _lighttpd(
        '"mod_fastcgi"', lambda place: f'fastcgi.server = ( ".php" => (( "socket" => "{place.backend}" )) )'
    )


def lighttpd_uwsgi() -> Peer:
    """mod_scgi, which speaks uwsgi too."""
    return _lighttpd(
        '"mod_scgi"',
        lambda place: (
            f'scgi.protocol = "uwsgi"\n'
            f'scgi.server = ( "/" => (( "socket" => "{place.backend}", "check-local" => "disable" )) )'
        ),
    )


def lighttpd_cgi() -> Peer:
    """mod_cgi."""
    return _lighttpd('"mod_cgi"', lambda place: 'cgi.assign = ( "" => "" )')


# ---- HAProxy

_HAPROXY: Final = """\
global
    nbthread 1
    maxconn 1024
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend clients
    bind {listen}
    default_backend app
{rest}
"""


def _haproxy(rest: Config) -> Peer:
    def start(place: Place) -> Commands:
        text = _HAPROXY.format(listen=place.listen, rest=rest(place))
        return [[command("haproxy"), "-db", "-q", "-f", place.write("haproxy.cfg", text)]]

    return Peer("HAProxy", start, (HAPROXY,))


def haproxy_proxy() -> Peer:
    """HAProxy over kept connections."""
    return _haproxy(lambda place: f"backend app\n    server app {place.backend}")


def haproxy_fastcgi(*, keep_connection: bool = True) -> Peer:
    """HAProxy's fcgi-app, over kept connections or with one for each request."""

    def rest(place: Place) -> str:
        return (
            "backend app\n    use-fcgi-app app\n"
            f"    server app unix@{place.backend} proto fcgi\n"
            f"fcgi-app app\n    docroot {place.content}\n"
            f"    {'' if keep_connection else 'no '}option keep-conn"
        )

    return _haproxy(rest)


# ---- Caddy

_CADDY: Final = """\
{{
    admin off
    auto_https off
    log {{
        output stderr
        level ERROR
    }}
}}
http://:{port} {{
    bind {host}
    root * {content}
    {rest}
}}
"""


def _caddy(rest: Config) -> Peer:
    def start(place: Place) -> Commands:
        text = _CADDY.format(port=place.port, host=HOST, content=place.content, rest=rest(place))
        path = place.write("Caddyfile", text)
        return [[command("caddy"), "run", "--config", path, "--adapter", "caddyfile"]]

    return Peer("Caddy", start, (CADDY,))


def caddy_static() -> Peer:
    """Caddy serving files."""
    return _caddy(lambda place: "file_server")


def caddy_proxy() -> Peer:
    """Caddy's reverse_proxy over kept connections."""
    return _caddy(lambda place: f"reverse_proxy {place.backend}")


def caddy_fastcgi() -> Peer:
    """Caddy's FastCGI, which has a connection for each request."""
    return _caddy(lambda place: f"reverse_proxy unix/{place.backend} {{\n        transport fastcgi\n    }}")


def caddy_php() -> Peer:
    """Caddy's php_fastcgi."""
    return _caddy(lambda place: f"php_fastcgi unix/{place.backend}")


# ---- uWSGI


def uwsgi_http_socket() -> Peer:
    """UWSGI serving HTTP by itself. It closes the connection after each answer, and here says so."""

    def start(place: Place) -> Commands:
        return [
            [
                command("uwsgi"), "--plugin=python3", f"--http-socket={place.listen}", *uwsgi_application(1),
                "--add-header=Connection: close",
            ]
        ]  # fmt: skip

    return Peer("uWSGI http-socket", start, (UWSGI, UWSGI_PYTHON))


def uwsgi_http_router() -> Peer:
    """UWSGI's HTTP router alone, in front of the application's uwsgi socket."""

    def start(place: Place) -> Commands:
        return [
            [
                command("uwsgi"), "--plugin=http", f"--http={place.listen}", f"--http-to={place.backend}",
                f"--http-keepalive={KEEP_ALIVE}", "--master", "--processes=0", "--disable-logging",
                "--die-on-term",
            ]
        ]  # fmt: skip

    return Peer("uWSGI http router", start, (UWSGI, UWSGI_HTTP))


def uwsgi_application(processes: int) -> list[str]:
    """The options of uWSGI for the WSGI application, behind whatever socket."""
    return [
        f"--wsgi-file={APPS / 'hello_wsgi.py'}", "--callable=app", "--need-app", "--master",
        f"--processes={processes}", f"--threads={THREADS}", "--disable-logging", "--die-on-term",
        "--listen=128",
    ]  # fmt: skip
