"""The configuration: YAML text, read once into frozen typed models.

The way of a file, and the modules::

text ─► source ─► plain data, line of each part ─► models ─► Config
                                                     └────► ConfigError: every mistake, with its line

load      files and texts to Config, or all mistakes
models    one class per thing, one documented field per setting
values    durations, sizes, addresses, patterns, templates
source    YAML, environment variables, lines
base      what all models share
wording   how mistakes are said
"""

from gateway.config.load import ConfigError, Mistake, from_mapping, load, load_text, schema
from gateway.config.models import (
    KINDS,
    AccessLog,
    ASGIBackend,
    Backend,
    CGIBackend,
    ClientLimits,
    ClientTimeouts,
    Config,
    FastCGIBackend,
    HTTPBackend,
    Listener,
    Match,
    Pool,
    Redirect,
    Respond,
    Route,
    SCGIBackend,
    Spawn,
    SpawnedApp,
    Static,
    Timeouts,
    Tls,
    UWSGIBackend,
    WSGIBackend,
)
from gateway.config.values import BackendAddress, ListenAddress, Network

__all__ = [
    "KINDS",
    "ASGIBackend",
    "AccessLog",
    "Backend",
    "BackendAddress",
    "CGIBackend",
    "ClientLimits",
    "ClientTimeouts",
    "Config",
    "ConfigError",
    "FastCGIBackend",
    "HTTPBackend",
    "ListenAddress",
    "Listener",
    "Match",
    "Mistake",
    "Network",
    "Pool",
    "Redirect",
    "Respond",
    "Route",
    "SCGIBackend",
    "Spawn",
    "SpawnedApp",
    "Static",
    "Timeouts",
    "Tls",
    "UWSGIBackend",
    "WSGIBackend",
    "from_mapping",
    "load",
    "load_text",
    "schema",
]
