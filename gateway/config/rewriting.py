"""The settings of what becomes of addresses and cookies in answers of web servers."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Tag

from gateway.config.base import Model, Place
from gateway.config.values.numbers import Flag
from gateway.config.values.requests import CookieDomain, CookiePath, UrlBeginning
from gateway.config.values.shapes import Many
from gateway.config.values.texts import LineTemplateText


class LocationRule(Model):
    """One mapping of URLs in answers."""

    begin: UrlBeginning
    """How a URL begins, such as http://app.internal/ or /."""
    to: LineTemplateText
    """What stands in its place, such as https://{host}/shop/ or /shop/."""


def _kind_of_locations(value: Any) -> str:
    return "<flag>" if isinstance(value, bool | str) else "<rules>"


RewriteLocation: TypeAlias = Annotated[
    Annotated[Flag, Tag("<flag>")] | Annotated[tuple[LocationRule, ...], Many(), Tag("<rules>")],
    Discriminator(_kind_of_locations),
]


def _kind_of_mapping(value: Any) -> str:
    return "<mapping>" if isinstance(value, dict) else "<auto>"


CookiePaths: TypeAlias = Annotated[
    Annotated[Literal["auto"], Tag("<auto>")] | Annotated[dict[CookiePath, CookiePath], Tag("<mapping>")],
    Discriminator(_kind_of_mapping),
]
CookieDomains: TypeAlias = Annotated[
    Annotated[Literal["auto"], Tag("<auto>")] | Annotated[dict[CookieDomain, CookieDomain], Tag("<mapping>")],
    Discriminator(_kind_of_mapping),
]


class Cookies(Model):
    """What becomes of the cookies that a web server sets."""

    path: CookiePaths | None = None
    """auto puts the mount in front of Path, unless it is there; or a mapping of beginnings of paths to others
    (nginx: proxy_cookie_path)."""
    domain: CookieDomains | None = None
    """auto removes a Domain that is the server's own host; or a mapping of domains to others, or to "" for
    none (nginx: proxy_cookie_domain)."""
    secure: Flag = False
    """true: clients send them by https only."""
    http_only: Flag = False
    """true: scripts do not see them."""
    same_site: Literal["lax", "strict", "none"] | None = None
    """Which requests of other sites carry them."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        if data.get("same_site") == "none" and not data.get("secure"):
            yield ("same_site",), "browsers refuse none without Secure: expected secure: true"
