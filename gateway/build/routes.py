"""Makes the routes from their configuration: conditions, action, and the filters around it.

The order of the filters is in `gateway.filters`. Actions and filters are imported for the routes that have
them: all together take 20 ms of a start without.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gateway import config as models
from gateway.backend import Handler, Runnable
from gateway.build.parts import Parts, templates
from gateway.config.backends.common import BackendModel
from gateway.router import Route
from gateway.template import Template

if TYPE_CHECKING:
    from gateway.config.filters import HeaderChanges
    from gateway.config.filters import HeaderRules as HeaderConfig
    from gateway.config.filters import Mirror as MirrorConfig
    from gateway.filters.headers import HeaderRules
    from gateway.filters.mirror import Mirror


def filtered_backend(parts: Parts, name: str, config: BackendModel, backend: Handler) -> Handler:
    """*backend* with what its configuration puts around it, whatever the route."""
    handler = backend
    if slots := parts.slots.get(name):
        from gateway.filters.concurrency import ConcurrencyFilter

        handler = ConcurrencyFilter(handler, slots=slots, address=name)
    if config.x_sendfile or config.x_accel_redirect:
        from gateway.filters.sendfile import SendfileFilter

        handler = SendfileFilter(
            handler,
            backend=name,
            roots=[str(root) for root in config.x_sendfile],
            accel=config.x_accel_redirect,
            dispatch=parts.dispatch,
        )
    return _with_headers(handler, config.headers, of_backend=True)


class RouteBuilder:
    """Makes routes; ``services`` collects what of them has a lifetime of its own."""

    def __init__(self, parts: Parts, handlers: Mapping[str, Handler]) -> None:
        """*handlers* are those of the backends, by name."""
        self._parts = parts
        self._config = parts.config
        self._handlers = handlers
        self.services: list[Runnable] = []

    def all(self) -> Iterator[Route]:
        """The routes, in order."""
        places = self._config.route_places or ("",) * len(self._config.routes)
        for index, (route, place) in enumerate(zip(self._config.routes, places, strict=True)):
            yield self._route(index, route, place)

    def _route(self, index: int, route: models.Route, place: str) -> Route:
        match = route.match
        return Route(
            self._filtered(route, self._action(route)),
            name=f"routes[{index}]",
            description=f"{f'({place}) ' if place else ''}{_describe(route)}",
            backend=route.backend if isinstance(route.backend, str) else "",
            mount=route.mount,
            paths=match.path or (),
            hosts=match.host or (),
            methods=match.method or (),
            headers=match.header,
            query=match.query,
            schemes=match.scheme or (),
            clients=match.client or (),
            internal=route.internal,
            takes_connect=route.connect is not None,
        )

    def _action(self, route: models.Route) -> Handler:
        if isinstance(route.backend, str):
            return self._handlers[route.backend]
        if route.backend is not None:
            from gateway.filters.split import Split

            key = None if route.split_by is None else Template.parse(route.split_by)
            return Split(self._handlers, route.backend, key=key)
        if route.static is not None:
            from gateway.static.handler import StaticFiles

            static = route.static
            return StaticFiles(
                static.root, index=static.index, fallback=static.fallback, symlinks=static.symlinks
            )
        if route.redirect is not None:
            from gateway.actions import Redirect

            return Redirect(Template.parse(route.redirect.to), status=route.redirect.status)
        if route.connect is not None:
            from gateway.connect.allowed import AllowedTargets
            from gateway.connect.handler import Connect

            return Connect(
                AllowedTargets(route.connect.to),
                pump=self._parts.pump,
                resolver=self._parts.resolver,
                timeout=route.connect.timeout,
                idle=self._parts.tunnel_timeout,
            )
        assert route.respond is not None
        from gateway.actions import Respond

        respond = route.respond
        headers = respond.headers
        if route.headers is not None and route.headers.response is not None:
            # Values in the body are escaped for the type that it leaves with.
            headers = headers | {
                name: text for name, text in route.headers.response.set.items() if name == "content-type"
            }
        return Respond(
            status=respond.status,
            body=Template.parse(respond.body) if respond.body else None,
            headers=templates(headers),
        )

    def _filtered(self, route: models.Route, handler: Handler) -> Handler:
        """*handler* with what the route puts around it, from the inside out."""
        if route.mirror is not None:
            handler = mirror = self._mirror(route.mirror, handler)
            self.services.append(mirror)
        if route.request_buffering is not None:
            from gateway.filters.request_buffering import RequestBufferingFilter

            handler = RequestBufferingFilter(
                handler,
                memory=route.request_buffering.memory,
                max_body=self._config.largest_body(route.request_buffering.max_body),
            )
        if route.buffering is not None:
            from gateway.filters.buffering import BufferingFilter

            handler = BufferingFilter(handler, memory=route.buffering.memory, file=route.buffering.file)
        if route.authorize is not None:
            from gateway.filters.authorize import AuthorizerFilter

            handler = AuthorizerFilter(
                handler, authorizer=self._handlers[route.authorize], name=route.authorize
            )
        if route.forward_auth is not None:
            from gateway.filters.authorize import ForwardAuthFilter

            asked = route.forward_auth
            handler = ForwardAuthFilter(
                handler,
                authority=self._handlers[asked.backend],
                name=asked.backend,
                path=Template.parse(asked.path),
                copied=[name.encode("ascii") for name in asked.copy_headers],
            )
        if route.limit_rate is not None:
            from gateway.filters.limit_rate import RateFilter

            handler = RateFilter(handler, rate=route.limit_rate, after=route.limit_rate_after)
        return _with_headers(handler, route.headers, of_backend=False)

    def _mirror(self, config: "MirrorConfig", handler: Handler) -> "Mirror":
        from gateway.filters.mirror import Mirror

        return Mirror(
            handler,
            second=self._handlers[config.backend],
            name=config.backend,
            percent=config.percent,
            memory=config.memory,
            max_body=self._config.largest_body(config.max_body),
        )


def _describe(route: models.Route) -> str:
    """What a route wants, in words: ``path: /x/*; method: GET, POST``."""
    conditions = [] if route.connect is None else ["CONNECT"]
    for name, wanted in route.match:
        if wanted is None:
            continue
        values = [f"{key}={value}" for key, value in wanted.items()] if isinstance(wanted, dict) else wanted
        conditions.append(f"{name}: {', '.join(map(str, values))}")
    return "; ".join(conditions) or "matches every request"


def _with_headers(handler: Handler, config: "HeaderConfig | None", *, of_backend: bool) -> Handler:
    if config is None:
        return handler
    from gateway.filters.headers import HeaderFilter

    return HeaderFilter(
        handler, request=_rules(config.request), response=_rules(config.response), of_backend=of_backend
    )


def _rules(config: "HeaderChanges | None") -> "HeaderRules | None":
    if config is None:
        return None
    from gateway.filters.headers import HeaderRules

    return HeaderRules(
        set=_fields(config.set),
        add=_fields(config.add),
        default=_fields(config.default),
        remove=config.remove,
    )


def _fields(templates: dict[str, str]) -> list[tuple[bytes, Template]]:
    return [(name.encode("ascii"), Template.parse(text)) for name, text in templates.items()]
