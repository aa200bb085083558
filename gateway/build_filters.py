"""Makes the filters of routes and backends from their configuration; their order is in `gateway.filters`."""

from gateway.backend import Handler
from gateway.config import models
from gateway.config.filters import HeaderChanges
from gateway.config.filters import HeaderRules as HeaderConfig
from gateway.filters.buffering import BufferingFilter
from gateway.filters.headers import HeaderFilter, HeaderRules
from gateway.filters.limit_rate import RateFilter
from gateway.filters.request_buffering import RequestBufferingFilter
from gateway.filters.sendfile import SendfileFilter
from gateway.local_redirect import Dispatch
from gateway.template import Template


def filtered_backend(name: str, config: models.Backend, backend: Handler, *, dispatch: Dispatch) -> Handler:
    """*backend* with what its configuration puts around it, whatever the route."""
    handler = backend
    if config.x_sendfile or config.x_accel_redirect:
        handler = SendfileFilter(
            handler,
            backend=name,
            roots=[str(root) for root in config.x_sendfile],
            accel=config.x_accel_redirect,
            dispatch=dispatch,
        )
    return _with_headers(handler, config.headers)


def filtered_route(config: models.Route, handler: Handler, *, max_body: int) -> Handler:
    """*handler* of the route with what the route puts around it. *max_body*: of clients, in bytes."""
    if config.request_buffering is not None:
        bound = config.request_buffering.max_body
        handler = RequestBufferingFilter(
            handler,
            memory=config.request_buffering.memory,
            max_body=max_body if bound is None else bound,
        )
    if config.buffering is not None:
        handler = BufferingFilter(handler, memory=config.buffering.memory, file=config.buffering.file)
    if config.limit_rate is not None:
        handler = RateFilter(handler, rate=config.limit_rate, after=config.limit_rate_after)
    return _with_headers(handler, config.headers)


def _with_headers(handler: Handler, config: HeaderConfig | None) -> Handler:
    if config is None:
        return handler
    return HeaderFilter(handler, request=_rules(config.request), response=_rules(config.response))


def _rules(config: HeaderChanges | None) -> HeaderRules | None:
    if config is None:
        return None
    return HeaderRules(
        set=_fields(config.set),
        add=_fields(config.add),
        default=_fields(config.default),
        remove=config.remove,
    )


def _fields(templates: dict[str, str]) -> list[tuple[bytes, Template]]:
    return [(name.encode("ascii"), Template.parse(text)) for name, text in templates.items()]
