"""Keys by the names that other programs have for them, and what they are here: for messages.

The names are those of nginx, Apache, Caddy, uWSGI and the Python servers, and what one would guess.
Loaded for a mistake only.
"""

from collections.abc import Mapping
from typing import Final

_COMPRESSION: Final = "nothing compresses here: the application does, or a web server in front"
_BODY: Final = "limits: {body: 10MiB} at the top, and max_body of a backend"
_NO_BODY: Final = "limits: {body: 10MiB} at the top, or request_buffering: {max_body: 10MiB} of the route"
_HEADERS: Final = "headers: {response: {set: {NAME: value}}}"
_BACKEND: Final = "backend, with a name among backends"
_LISTS: Final = "nothing lists directories here"
_STORES: Final = "nothing is cached here"
_RATES: Final = (
    "nothing counts requests per second: concurrency of a backend and "
    "limits: {connections_per_client: 20} bound what there is at a time"
)
_JOBS: Final = "nothing runs jobs here: cron does, or a timer of systemd"
_KINDS: Final = "http wsgi asgi cgi fastcgi scgi uwsgi ajp"

HERE: Final = {
    "Config": {
        "listen bind port ports http https": "listeners: [{http: 127.0.0.1:8080}]",
        "server servers sites virtual_hosts": "listeners, and routes with match: {host: …}",
        "server_name host hosts": "match: {host: …} of a route",
        "location locations paths": "routes",
        "upstream upstreams apps applications services": "backends",
        "tls ssl certificate certificates ssl_certificate": "tls of a listener",
        "gzip compress compression encode brotli": _COMPRESSION,
        "log logs logging log_level loglevel error_log": "access_log for requests; "
        "the rest goes to standard error",
        "user group daemon pid pidfile": "the service manager's: User= of systemd",
        "processes worker_processes": "workers",
        "client_max_body_size max_body max_body_size": _BODY,
        "headers": f"{_HEADERS} of a route or a backend",
        "proxy_headers": "trusted_proxies",
        "reload": "--reload of gateway serve",
        "root": "static: DIRECTORY of a route",
        "stats stub_status status admin": "control: unix:/run/gateway/control.sock, and metrics",
        "worker_connections max_connections": "limits: {connections: 1000}",
        "set_real_ip_from real_ip_header": "trusted_proxies",
        "proxy_read_timeout proxy_connect_timeout harakiri timeout": "timeouts of a backend",
        "keepalive_timeout keep_alive": "timeouts: {keep_alive: 75s}",
        "log_format": "access_log: {format: combined}, or json",
        "limit_req_zone limit_req rate_limit": _RATES,
        "http2": "http2 of a listener",
        "map geo": "nothing computes variables here: match has client, header and query",
        "include import": "nothing: one file is the whole",
        "emperor vassals": "backends, one for each application",
        "cron mule mules spooler timer": _JOBS,
        "cache proxy_cache": _STORES,
        "templates": "nothing fills in templates here: an application does",
    },
    "Listener": {
        "listen address addr bind https url host port socket": "http",
        "ssl certificate cert certfile key keyfile ssl_certificate ssl_certificate_key": "tls: "
        "{certificate: cert.pem, key: key.pem}",
        "server_name routes locations": "routes at the top, with match: {host: …}",
        "redirect": "redirect_https: true, or a route with redirect",
    },
    "Route": {
        "host path method header query scheme client": "a key of match",
        "location uri url": "match: {path: …}",
        "server_name": "match: {host: …}",
        f"proxy proxy_pass reverse_proxy upstream app handler {_KINDS}": _BACKEND,
        "php_fastcgi fastcgi_pass uwsgi_pass scgi_pass": _BACKEND,
        "root alias file_server files directory": "static: DIRECTORY",
        "index symlinks": "a key of static",
        "autoindex browse": _LISTS,
        "redir": "redirect",
        "templates": "nothing fills in templates here: an application does",
        "log": "access_log at the top, for all routes",
        "cache proxy_cache": _STORES,
        "try_files fallback": "static: {root: DIRECTORY, fallback: index.html}, or further routes "
        "(docs/recipes.md)",
        "strip_prefix root_path script_name prefix handle_path": "mount",
        "return status body": "respond: {status: 404}, or redirect: {to: /new}",
        "basic_auth basicauth auth_basic auth_basic_user_file auth auth_request satisfy": "forward_auth, "
        "which asks an application (docs/recipes.md)",
        "cors add_header expires cache_control proxy_hide_header": _HEADERS,
        "proxy_set_header request_header": "headers: {request: {set: {NAME: value}}}",
        "gzip compress compression encode brotli": _COMPRESSION,
        "rate_limit limit_req": _RATES,
        "http2": "http2 of a listener",
        "client_max_body_size max_body max_body_size request_body": _BODY,
        "timeout timeouts proxy_read_timeout proxy_connect_timeout": "timeouts of the backend",
        "limit_conn": "limits: {connections_per_client: 20} at the top",
        "stub_status": "metrics at the top, or gateway status",
        "allow deny": "match: {client: …}, and respond: {status: 403} for all others",
        "error_page handle_errors": "error_pages at the top",
    },
    "Match": {
        "location uri url prefix path_prefix path_regexp": "path",
        "server_name domain": "host",
        "remote_ip remote_addr ip source": "client",
        "protocol": "scheme",
    },
    "Static": {
        "dir directory path alias": "root",
        "try_files spa not_found": "fallback: index.html",
        "browse autoindex listing": _LISTS,
        "precompressed gzip_static": _COMPRESSION,
        "hide": "nothing: files whose names begin with a dot are not served",
        "cache expires max_age headers": f"{_HEADERS} of the route",
    },
    "Redirect": {
        "url location target path": "to",
        "code": "status",
        "permanent": "status: 301",
    },
    "Respond": {
        "code status_code": "status",
        "text content html": "body",
        "file": "a route with static",
    },
    "HeaderRules": {"set add default remove": "a key of request or response"},
    "HeaderChanges": {
        "del delete unset hide": "remove",
        "replace override": "set",
    },
    "PythonApplication": {
        "workers processes": "process: {processes: 4}, or workers at the top",
        "venv home virtual_env": "virtualenv",
        "chdir cwd dir app_dir path pythonpath python_path working_directory": "directory",
        "environment": "env",
        "root_path script_name prefix": "mount of the route",
        "reload": "--reload of gateway serve",
        "max_requests max_memory max_age user group": "a key of process",
        "timeout harakiri": "process: {timeout: 30s}",
    },
    "WSGIBackend": {"concurrency": "threads"},
    "ASGIBackend": {
        "threads": "concurrency",
        "limit_concurrency": "concurrency",
        "max_body": _NO_BODY,
    },
    "Balanced": {
        "lb lb_policy load_balance load_balancing policy": "balance",
        "health_check health_checks healthcheck check": "health: {check: /healthz}",
        "max_fails fail_timeout": "health: {failures: 3, eject_time: 10s}",
        "weight backup": "a key of each of several servers",
        "retries tries": "retry: {tries: 3}",
        "timeout read_timeout": "timeouts: {first_byte: 60s, read: 60s}",
        "connect_timeout": "timeouts: {connect: 5s}",
        "max_conns max_connections": "pool: {connections: 100}",
        "strip_prefix prefix root_path": "mount of the route",
        "processes workers": "a key of spawn: processes",
    },
    "HTTPBackend": {"keepalive": "pool: {idle: 32}", "max_body": _NO_BODY},
    "AJPBackend": {"keepalive": "pool: {idle: 32}"},
    "FastCGIBackend": {"keepalive keep_conn keep_alive": "keep_connection: true"},
    "CGIBackend": {
        "env environment": "variables",
        "timeouts": "timeout",
    },
    "SpawnedApp": {
        "cmd program exec args": "command: [PROGRAM, ARGUMENT]",
        "cwd chdir working_directory path pythonpath": "directory",
        "venv home": "virtualenv",
        "environment": "env",
        "asgi": "asgi of a backend, with process: own",
        "threads": "nothing to be said: a process with wsgi has a thread for each request; for one at a "
        "time: wsgi of a backend, with threads: 1 and process: {processes: 4}",
        "harakiri timeout": "timeouts: {first_byte: 30s} of the backend",
    },
    "Supervised": {"workers": "processes", "touch_reload": "gateway reload"},
}
"""By the model: names, with what they are here."""

BACKENDS: Final = {
    "proxy proxy_pass reverse_proxy url upstream https": "http",
    "php php_fastcgi php-fpm fpm fastcgi_pass": "fastcgi, with preset: php-fpm and root",
    "uwsgi_pass": "uwsgi",
    "scgi_pass": "scgi",
    "python app module flask django": "wsgi or asgi",
    "spawn command cmd": "http: {spawn: {command: [PROGRAM, ARGUMENT]}}, or fastcgi, scgi, uwsgi",
    "static root files redirect respond": "an action of a route, and no backend",
}
"""Kinds of backends."""

FORMS: Final = {
    "Listener": "{http: 127.0.0.1:8080}",
    "Route": "{match: {path: /x/*}, backend: app}",
    "Match": "{path: /x/*}",
    "Redirect": "{to: /new}",
    "Respond": "{status: 200, body: ok}",
    "HeaderRules": "{response: {set: {X-A: b}}}",
    "HeaderChanges": "{set: {X-A: b}, remove: [X-C]}",
    "ForwardAuth": "{backend: auth, path: /verify}",
    "ClientTimeouts": "{keep_alive: 75s}",
    "ClientLimits": "{body: 10MiB}",
    "Timeouts": "{first_byte: 60s, read: 60s}",
    "Retry": "{tries: 3}",
    "Health": "{check: /healthz}",
    "Pool": "{connections: 100}",
}
"""By the model: something that it may be."""


def key_here(models: tuple[type, ...], key: str) -> str:
    """What *key* is in one of *models*, in words; nothing if it is not known from elsewhere."""
    for model in models:
        if ours := _found(HERE.get(model.__name__, {}), key):
            return ours if ours.startswith("nothing ") else f"here it is {ours}"
    return ""


def kind_here(key: str) -> str:
    """The same of a kind of backend."""
    ours = _found(BACKENDS, key)
    return ours and f"here {key} is {ours}"


def form_of(models: tuple[type, ...]) -> str:
    """How the first of *models* that is known may be written; or nothing."""
    return next((FORMS[model.__name__] for model in models if model.__name__ in FORMS), "")


def _found(table: Mapping[str, str], key: str) -> str:
    words = {key, key.replace("-", "_")}
    return next((ours for names, ours in table.items() if not words.isdisjoint(names.split())), "")
