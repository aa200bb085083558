"""The configuration: YAML text, read once into frozen typed models.

The way of a file, and the modules::

text ─► source ─► plain data, line of each part ─► models ─► Config
                                                     └────► ConfigError: every mistake, with its line

load      files and texts to Config, or all mistakes
models    one class per thing, one documented field per setting
confined  the part of them about users and limits of programs
spawn     the part of them about applications that the gateway starts
balancing the part of them about the servers of a backend
values    durations, sizes, addresses, patterns, templates
source    YAML, environment variables, lines
env_file  files of environment variables
base      what all models share
wording   how mistakes are said
"""

from gateway.config.balancing import Pool, Timeouts
from gateway.config.load import ConfigError, Mistake, from_mapping, load, load_text, schema
from gateway.config.models import (
    KINDS,
    AccessLog,
    AJPBackend,
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
    Redirect,
    Respond,
    Route,
    SCGIBackend,
    Static,
    Tls,
    UWSGIBackend,
    WSGIBackend,
)
from gateway.config.spawn import Spawn, SpawnedApp
from gateway.config.values import BackendAddress, ListenAddress, Network

__all__ = [
    "KINDS",
    "AJPBackend",
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
