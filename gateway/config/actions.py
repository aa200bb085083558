"""The configuration of what routes do with a request, other than passing it to a backend."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.config.base import Model, Place, written
from gateway.config.values.files import Directory, FileName
from gateway.config.values.numbers import FinalStatus, RedirectStatus
from gateway.config.values.quantities import Timeout
from gateway.config.values.requests import ResponseHeaderName
from gateway.config.values.shapes import AtLeastOne, Many
from gateway.config.values.targets import Target as ConnectTarget
from gateway.config.values.texts import LineTemplateText, Target, TemplateText


class Static(Model):
    """Files from a directory."""

    root: Directory
    """The directory; nothing outside of it is served."""
    index: Annotated[tuple[FileName, ...], Many()] = ("index.html",)
    """Names of files that stand for their directory, in order."""
    fallback: FileName | None = None
    """The file that every path without a file gets, such as index.html of a single-page application."""
    symlinks: Literal["inside", "follow", "refuse"] = "inside"
    """Symbolic links are followed if they stay inside the directory, always (follow), or never (refuse)."""


class Redirect(Model):
    """An answer that sends the client elsewhere."""

    to: Target
    """A path or URL, with placeholders such as {path.rest}. The query is kept unless this has one."""
    status: RedirectStatus = 302
    """The status: 301 or 308 is remembered by clients, 307 and 308 keep the method."""


class Respond(Model):
    """A fixed answer."""

    status: FinalStatus = 200
    """The status, 200 to 599."""
    body: TemplateText = ""
    """The body, with placeholders such as {path}."""
    headers: dict[ResponseHeaderName, LineTemplateText] = Field(default_factory=dict)
    """Header fields, with placeholders such as {host}."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        # RFC 9110 15.3.5, 15.3.6, 15.4.5: these have no body.
        if data.get("body") and str(data.get("status")) in {"204", "205", "304"}:
            yield ("body",), f"a response with status {data['status']} has no body"


class Connect(Model):
    """Tunnels to servers that clients name (CONNECT)."""

    to: Annotated[tuple[ConnectTarget, ...], AtLeastOne(), Many()]
    """What clients may be connected to, as host and port: example.com:443, *.example.com:443, *:443 for
    everything public, 10.0.0.0/8:8000-8999, [fd00::/8]:443; nothing else."""
    timeout: Timeout = written("10s")
    """For looking up the name and connecting, in all; then 504."""
