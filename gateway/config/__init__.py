"""The configuration: YAML text, read once into frozen typed models.

The way of a file, and the modules::

text ─► source ─► plain data, line of each part ─► models ─► Config
                                                     └────► ConfigError: every mistake, with its line

loading    files and texts to Config, or all mistakes
whole      Config: what is said once for the daemon, and what its parts say of each other
listeners  where clients are accepted
listener_tls  the part of them about TLS
clients    patience with clients, and what they may ask for
routes     which requests, and what becomes of them
actions    the part of them about what is not passed to a backend
filters    the part of routes and backends about the changes on the way
backends/  the kinds of backends, a module for each family
balancing  the part of them about the servers of a backend
spawn      the part of them about applications that the gateway starts
server_tls the part of them about TLS to servers
rewriting  the part of them about addresses and cookies in answers
confined   the part of them about users and limits of programs
values/    the scalars: durations, sizes, addresses, paths, patterns, templates
source     YAML, environment variables, lines
env_file   files of environment variables
base       what all models share
on_use     models that are loaded when a file uses them
wording    how mistakes are said
foreign    words of other servers, and what they are called here
document   the text of a configuration, as workers get it
descriptions  what each setting is for, for the schema and the documentation
"""

from gateway.config.backends.kinds import Backend
from gateway.config.clients import ClientLimits, ClientTimeouts
from gateway.config.listeners import Listener
from gateway.config.loading import ConfigError, Mistake, from_mapping, load, load_text, schema
from gateway.config.routes import Match, Route
from gateway.config.values.addresses import BackendAddress, ListenAddress, Network
from gateway.config.whole import AccessLog, Config

__all__ = [
    "AccessLog",
    "Backend",
    "BackendAddress",
    "ClientLimits",
    "ClientTimeouts",
    "Config",
    "ConfigError",
    "ListenAddress",
    "Listener",
    "Match",
    "Mistake",
    "Network",
    "Route",
    "from_mapping",
    "load",
    "load_text",
    "schema",
]
