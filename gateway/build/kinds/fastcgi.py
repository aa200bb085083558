"""Applications behind FastCGI."""

from collections.abc import Callable

from gateway.backends.application import ApplicationBackend, ScriptRoot
from gateway.build.application import application
from gateway.build.parts import Parts
from gateway.config.backends.application import FastCGIBackend, Multiplex
from gateway.protocols.codec import ClientCodec
from gateway.protocols.fastcgi import NOT_FOR_AUTHORIZERS, FastCgiClient, Role
from gateway.upstream.multiplex import SharingPolicy
from gateway.upstream.shared_pool import Sharing


def make(parts: Parts, name: str, config: FastCGIBackend) -> ApplicationBackend:
    """The backend called *name*; nothing of it is started. Raises StartError."""
    # php-fpm gives the script no body without CONTENT_LENGTH; the other half of the preset,
    # no reuse, is the default of keep_connection.
    keep = config.keep_connection
    role = Role[config.role.upper()]

    def make_client() -> FastCgiClient:
        return FastCgiClient(role=role, keep_connection=keep)

    return application(
        parts,
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


def _sharing(name: str, config: Multiplex | None, make_codec: Callable[[], ClientCodec]) -> Sharing | None:
    if config is None:
        return None
    policy = SharingPolicy(requests=config.requests, buffer=config.buffer, stall=config.stall)
    return Sharing(name, policy, make_codec)


def _script_root(config: FastCGIBackend) -> ScriptRoot | None:
    if config.root is None:
        return None
    assert config.script_split is not None
    assert config.script_index is not None
    return ScriptRoot(str(config.root), split=config.script_split, index=config.script_index)
