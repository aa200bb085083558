"""Servlet containers (Tomcat, WildFly) over AJP: a backend that takes CGI variables, with two differences.

A container finds the application by the path of the request, so it is asked for what the client has sent, as
an HTTP upstream is; SCRIPT_NAME and PATH_INFO are its own to make. And all variables have to fit in one
packet, which is found out before a connection is made (AJP-10).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import quote

from gateway.backends.application import ApplicationBackend
from gateway.backends.intake import BodyIntake
from gateway.backends.target import target_below_mount
from gateway.errors import RequestError
from gateway.local_redirect import Dispatch
from gateway.protocols.ajp import check_size
from gateway.request import Request
from gateway.template import Template
from gateway.upstream.upstream import Upstream


class AjpBackend(ApplicationBackend):
    """Implements `backend.Backend`."""

    def __init__(
        self,
        name: str,
        *,
        upstream: Upstream,
        dispatch: Dispatch,
        intake: BodyIntake,
        variables: Mapping[str, Template],
        packet_size: int,
        secret: str | None,
        droppable: Sequence[str],
    ) -> None:
        """*packet_size* and *secret* are those of the codecs that *upstream* makes."""
        super().__init__(
            name,
            upstream=upstream,
            dispatch=dispatch,
            intake=intake,
            variables=variables,
            check=partial(check_size, packet_size=packet_size, secret=secret),
            droppable=droppable,
        )

    def _environ(self, request: Request, length: int | None) -> dict[str, str]:
        _refuse_hidden_dots(request.path)
        environ = super()._environ(request, length)
        if request.mount:
            # AJP has no SCRIPT_NAME; frameworks build their links with this.
            told = environ.get("HTTP_X_FORWARDED_PREFIX", "")
            environ["HTTP_X_FORWARDED_PREFIX"] = told + quote(request.mount, errors="surrogateescape")
        environ["REQUEST_URI"] = target_below_mount(request).decode("latin-1")
        if length is None:
            environ["HTTP_TRANSFER_ENCODING"] = "chunked"  # Tomcat looks for it before it parses a form
        elif not length and request.method in ("POST", "PUT", "PATCH"):
            environ["CONTENT_LENGTH"] = "0"  # RFC 9110 8.6
        return environ


def _refuse_hidden_dots(path: str) -> None:
    """Refuse what is no dot segment but for a container, which takes ``;`` and what follows off each segment
    (Servlet 6.0, 3.5.2): `/shop/..;/manager` is its `/manager`, which the routes have not judged.
    """
    if ";" in path and not {"..", "."}.isdisjoint(
        segment.partition(";")[0] for segment in path.split("/") if ";" in segment
    ):
        raise RequestError(400, "the path has a dot segment with parameters")
