"""What a failure looks like: HTML, problem details (RFC 9457), plain text, or a page of the operator's.

Promises: the format fits Accept; nothing that a client or an application said can act as markup; without
*debug* nothing is shown but what `Failure` has for everybody. Which status and fields a failure has is
decided in `response`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template as Shell
from typing import Final

from gateway.escape import markup, printable
from gateway.failure.negotiation import preferred
from gateway.protocols.events import Headers
from gateway.protocols.reasons import REASONS
from gateway.request import Request
from gateway.template import Template, quote_path

PROBLEM: Final = "application/problem+json"
JSON: Final = "application/json"
HTML: Final = "text/html"
TEXT: Final = "text/plain"

_OFFERS: Final = (PROBLEM, JSON, HTML, TEXT)
"""A program that names JSON beside HTML or text (``application/json, text/plain, */*``) reads it best."""

_HINT: Final = (
    "<br>If this goes on, tell it to those who run this site: their log has the reason under this id."
)

_SHELL: Final = Shell(Path(__file__).with_name("page.html").read_text("utf-8"))


@dataclass(slots=True)
class Failure:
    """The facts of a failure that has a response."""

    status: int
    error: str
    """The error type of Proxy-Status (RFC 9209 2.3)."""
    detail: str
    """What happened, for everybody."""
    headers: Headers = field(default_factory=list)
    next_hop: str = ""
    """Name of the backend that has failed."""
    advice: str = ""
    """What to do next, for the developer."""
    facts: dict[str, str] = field(default_factory=dict)
    """What happened, for the developer: name and value."""
    output: Sequence[str] = ()
    """The application's last words, a traceback, or what else explains it, for the developer."""
    output_title: str = "output"


@dataclass(slots=True, frozen=True)
class ErrorPage:
    """A page of the operator's: a template, and the type that the name of its file says."""

    text: str
    content_type: bytes


class FailurePages:
    """Renders failures.

    *debug*: show the developer's facts, and not the operator's *pages*. *pages*: by status (``404``) or by
    its class (``5xx``), the first of which wins.
    """

    def __init__(self, *, debug: bool = False, pages: Mapping[str, ErrorPage] | None = None) -> None:
        self.debug = debug
        self._pages = {} if debug or pages is None else dict(pages)
        self._templates: dict[tuple[str, int], Template] = {}

    def render(self, failure: Failure, request: Request) -> tuple[bytes, bytes]:
        """Content type and body for *failure*, as the client of *request* wants it."""
        media_type = preferred(request.headers, _OFFERS, TEXT)
        if media_type in (PROBLEM, JSON):
            return media_type.encode(), self._problem(failure, request)
        status = str(failure.status)
        for key in (status, f"{status[0]}xx"):
            if key in self._pages:
                return self._configured(key, failure.status, request)
        if media_type == HTML:
            return b"text/html; charset=utf-8", self._html(failure, request)
        return b"text/plain; charset=utf-8", self._text(failure, request)

    # --- the formats

    def _problem(self, failure: Failure, request: Request) -> bytes:
        """RFC 9457 3.1; ``request_id`` and ``debug`` are extension members (3.2)."""
        members: dict[str, object] = {
            "type": "about:blank",  # RFC 9457 4.2.1: no more to say than the status; title is its phrase
            "title": reason_of(failure.status),
            "status": failure.status,
            "detail": failure.detail,
        }
        if request.path:
            members["instance"] = quote_path(request.path)
        members["request_id"] = request.id
        if self.debug:
            advice = {"advice": failure.advice} if failure.advice else {}
            members["debug"] = {**advice, **failure.facts, failure.output_title: list(failure.output)}
        return json.dumps(members, indent=2).encode() + b"\n"

    def _text(self, failure: Failure, request: Request) -> bytes:
        rows = {"request id": request.id, **(failure.facts if self.debug else {})}
        width = max(map(len, rows)) + 2
        lines = [f"{failure.status} {reason_of(failure.status)}", "", printable(failure.detail), ""]
        if self.debug and failure.advice:
            lines += [printable(failure.advice), ""]
        lines += [f"{f'{name}:':{width}}{printable(value)}" for name, value in rows.items()]
        if self.debug and failure.output:
            lines += ["", f"{failure.output_title}:", *(f"    {_plain(line)}" for line in failure.output)]
        return _encode("\n".join(lines) + "\n")

    def _html(self, failure: Failure, request: Request) -> bytes:
        return _encode(
            _SHELL.substitute(
                status=failure.status,
                reason=markup(reason_of(failure.status)),
                detail=markup(printable(failure.detail)),
                request_id=markup(request.id),
                hint="" if self.debug or failure.status < 500 else _HINT,
                debug=_debug_section(failure) if self.debug else "",
            )
        )

    def _configured(self, key: str, status: int, request: Request) -> tuple[bytes, bytes]:
        page = self._pages[key]
        template = self._templates.get((key, status))
        if template is None:
            template = Template.parse(page.text, page_constants(status))
            self._templates[key, status] = template
        return page.content_type, _encode(template.render_in(page.content_type, request))


def page_constants(status: int) -> dict[str, str]:
    """The placeholders that an error page has beside those of every template."""
    return {"status": str(status), "reason": reason_of(status)}


def reason_of(status: int) -> str:
    """The registered reason phrase, or the class of the status for an unregistered one."""
    unregistered = {4: "Client Error", 5: "Server Error"}.get(status // 100, "Unknown")
    return REASONS.get(status, unregistered)


def _debug_section(failure: Failure) -> str:
    advice = f"<p class=advice>{markup(printable(failure.advice))}</p>\n" if failure.advice else ""
    rows = "".join(
        f"<tr><th scope=row>{markup(name)}</th><td>{markup(printable(value))}</td></tr>\n"
        for name, value in failure.facts.items()
    )
    table = f"<table>\n{rows}</table>\n" if rows else ""
    output = ""
    if failure.output:
        lines = "\n".join(markup(_plain(line)) for line in failure.output)
        output = f"<h2>{markup(failure.output_title)}</h2>\n<pre tabindex=0>{lines}</pre>\n"
    return advice + table + output


def _plain(line: str) -> str:
    """A line of output: nothing in it acts on a terminal; indentation stays."""
    return printable(line.expandtabs(4))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
