"""Makes all that a worker runs."""

from dataclasses import dataclass

from gateway.backend import Backend, Runnable
from gateway.build.backends import make_backend
from gateway.build.parts import Parts
from gateway.build.routes import RouteBuilder, filtered_backend
from gateway.config import Config
from gateway.failure.pages import FailurePages
from gateway.front.caps import ConnectionCaps
from gateway.front.proxies import TrustedProxies
from gateway.front.service import Limits, Service, Timeouts
from gateway.front.tally import Tally
from gateway.logs.access import AccessLog
from gateway.net.pump import Pump
from gateway.networks import ClientNetworks
from gateway.router import Router
from gateway.shutdown.notice import ShutdownNotice
from gateway.spool import find_directory


@dataclass(slots=True)
class Gateway:
    """What a worker runs."""

    service: Service
    services: list[Runnable]
    backends: dict[str, Backend]
    notice: ShutdownNotice


def build(config: Config, pump: Pump, access_log: AccessLog | None) -> Gateway:
    """Make everything; nothing is started."""
    find_directory()
    notice = ShutdownNotice()
    parts = Parts(config, pump, notice)
    backends: dict[str, Backend] = {
        name: make_backend(parts, name, backend) for name, backend in config.backends.items()
    }
    handlers = {
        name: filtered_backend(parts, name, config.backends[name], backend)
        for name, backend in backends.items()
    }
    routes = RouteBuilder(parts, handlers)
    router = Router(routes.all())
    timeouts, limits = config.timeouts, config.limits
    service = Service(
        pump=pump,
        router=router,
        timeouts=Timeouts(
            handshake=timeouts.handshake,
            header=timeouts.header,
            body=timeouts.body,
            send=timeouts.body,
            keep_alive=timeouts.keep_alive,
            disconnect_grace=timeouts.disconnect_grace,
            tunnel=parts.tunnel_timeout,
        ),
        limits=Limits(
            request_line=limits.request_line,
            headers=limits.headers,
            header_count=limits.header_count,
            body=limits.body,
            streams=limits.streams,
            min_rate=limits.min_rate,
        ),
        access_log=access_log,
        tally=Tally() if config.control or config.metrics else None,
        caps=ConnectionCaps(limits.connections, limits.connections_per_client),
        proxies=TrustedProxies(ClientNetworks(config.trusted_proxies), header=config.forwarded),
        failure_pages=FailurePages(debug=config.debug, pages=config.error_pages),
    )
    parts.service = service
    return Gateway(service, [*parts.spawned, *backends.values(), *routes.services], backends, notice)
