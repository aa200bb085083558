"""What becomes of addresses and cookies in the answers of web servers, as configured."""

from gateway.config.backends.http import HTTPBackend
from gateway.config.rewriting import Cookies
from gateway.template import Template
from gateway.upstream.rewriting import CookieRules, ResponseRewriter
from gateway.upstream.upstream import Upstream


def response_rewriter(config: HTTPBackend, upstream: Upstream) -> ResponseRewriter | None:
    """For the answers of *upstream*; None if nothing of them changes."""
    rules = config.rewrite_location if isinstance(config.rewrite_location, tuple) else ()
    if config.rewrite_location is False and config.cookies is None:
        return None
    own = None if config.host in (None, "preserve", "upstream") else config.host
    origins = []
    for server in upstream.servers:
        scheme = b"https" if server.dialer.secure else b"http"
        origins.append((scheme, server.dialer.authority))
        if own is not None:
            origins.append((scheme, own.encode("ascii")))
    return ResponseRewriter(
        origins,
        locations=config.rewrite_location is not False,
        rules=[(rule.begin.encode("ascii"), Template.parse(rule.to)) for rule in rules],
        cookies=None if config.cookies is None else _cookie_rules(config.cookies),
    )


def _cookie_rules(config: Cookies) -> CookieRules:
    return CookieRules(
        path=config.path if not isinstance(config.path, dict) else _encoded(config.path),
        domain=config.domain if not isinstance(config.domain, dict) else _encoded(config.domain),
        secure=config.secure,
        http_only=config.http_only,
        same_site=None if config.same_site is None else config.same_site.capitalize().encode("ascii"),
    )


def _encoded(mapping: dict[str, str]) -> dict[bytes, bytes]:
    return {key.encode("ascii"): value.encode("ascii") for key, value in mapping.items()}
