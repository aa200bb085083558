"""From names to the servers behind them, and for how long that holds.

Names with a dot are asked of the name servers, so that their time to live is known. Those in /etc/hosts, and
words without a dot, are the system's own, and looked up as every program does it.
"""

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import trio

from gateway.net.address import TcpAddress

REFRESH: Final = 30.0
"""Seconds that an answer of the system holds: it does not say."""

SHORTEST: Final = 1.0
LONGEST: Final = 3600.0
"""Seconds that an answer holds at least and at most, whatever its time to live."""

NEGATIVE: Final = 5.0
"""Seconds for which a name that does not exist, or has no such record, is believed not to."""

LIFETIME: Final = 5.0
"""Seconds after which a name server that does not answer has failed (resolv.conf(5): a few tries)."""

HOSTS_FILE: Final = "/etc/hosts"


class ResolveError(Exception):
    """There was no answer; that says nothing about the servers."""


@dataclass(frozen=True, slots=True)
class Located:
    """One server."""

    address: TcpAddress
    """What it is called: its name and port."""
    hosts: tuple[str, ...]
    """Its numeric addresses, to be tried in this order."""
    weight: float | None = None
    """More than 0, if an SRV record says it."""
    backup: bool = False
    """Whether an SRV record says that others come first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """All servers of a name; none if there is no such name."""

    servers: tuple[Located, ...]
    seconds: float
    """How long that holds."""
    unknown: tuple[TcpAddress, ...] = ()
    """Servers of a service whose own names had no answer, which says nothing about them, ..."""
    reason: str = ""
    """... and why there was none."""


class Resolver:
    """Asks *nameservers*, by default those of /etc/resolv.conf."""

    def __init__(self, nameservers: Sequence[TcpAddress] = ()) -> None:
        self._nameservers = tuple(nameservers)

    async def find(self, address: TcpAddress) -> Answer:
        """The servers behind a name with a port. Raises ResolveError."""
        hosts, seconds = await self._hosts(address.host)
        if hosts and self._is_the_systems(address.host) and all(map(_is_loopback, hosts)):
            # localhost is 127.0.0.1 and ::1, and one server, which may listen on either.
            return Answer((Located(address, tuple(hosts)),), seconds)
        return Answer(tuple(Located(address, (host,)) for host in hosts), seconds)

    async def find_service(self, name: str) -> Answer:
        """The servers that the SRV records of *name* tell (RFC 2782).

        Raises ResolveError if there was no answer for it, nor for any of them.
        """
        records, seconds = await self._ask(name, "SRV")
        first = min((record.priority for record in records), default=0)
        found: list[Located] = []
        unknown: list[TcpAddress] = []
        failure: ResolveError | None = None
        for record in records:
            target = record.target.to_text(omit_final_dot=True)
            if target == ".":  # RFC 2782: the service is decidedly not available
                continue
            try:
                hosts, holds = await self._hosts(target)
            except ResolveError as error:
                failure = error
                unknown.append(TcpAddress(target, record.port))
                holds = NEGATIVE
                hosts = []
            seconds = min(seconds, holds)
            # RFC 2782: weight 0 is for a very small chance, or for where there is nothing to choose.
            weight = max(float(record.weight), 0.1)
            found += [
                Located(TcpAddress(target, record.port), (host,), weight, record.priority != first)
                for host in hosts
            ]
        if failure is not None and not found:
            raise failure
        return Answer(tuple(found), seconds, tuple(unknown), str(failure or ""))

    async def _hosts(self, name: str) -> tuple[list[str], float]:
        if self._is_the_systems(name):
            return await _ask_system(name), REFRESH
        found: list[tuple[list[Any], float]] = []
        failures: list[ResolveError] = []

        async def ask(kind: str) -> None:
            try:
                found.append(await self._ask(name, kind))
            except ResolveError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "A")
            nursery.start_soon(ask, "AAAA")
        hosts = sorted((record.address for records, _ in found for record in records), key=_order)
        # Half an answer is one: some name servers fail for whatever they do not know, such as AAAA.
        if failures and not hosts:
            raise failures[0]
        return hosts, min(seconds for records, seconds in found if records or not hosts)

    def _is_the_systems(self, name: str) -> bool:
        plain = name.rstrip(".")
        return (
            plain == "localhost"
            or plain.endswith(".localhost")  # RFC 6761 6.3
            or ("." not in plain and not self._nameservers)
            or plain in _names_in(HOSTS_FILE)
        )

    async def _ask(self, name: str, kind: str) -> tuple[list[Any], float]:
        """The records of *kind*, and for how many seconds they hold. Raises ResolveError."""
        import dns.asyncbackend  # takes a third of a second to load, which few configurations need
        import dns.asyncresolver
        import dns.exception
        import dns.nameserver
        import dns.resolver

        try:
            resolver = dns.asyncresolver.Resolver(configure=not self._nameservers)
            if self._nameservers:
                resolver.nameservers = [
                    dns.nameserver.Do53Nameserver(server.host, server.port) for server in self._nameservers
                ]
            answer = await resolver.resolve(
                name,
                kind,
                search=True,
                lifetime=LIFETIME,
                raise_on_no_answer=False,
                backend=dns.asyncbackend.get_backend("trio"),
            )
        except dns.resolver.NXDOMAIN:
            return [], NEGATIVE
        except (dns.exception.DNSException, OSError) as error:
            raise ResolveError(f"{kind}: {error}") from error
        if answer.rrset is None:
            # RFC 2308 5: for how long is in an SOA record, which may be missing, and says hours as a rule.
            return [], NEGATIVE
        seconds = float(answer.chaining_result.minimum_ttl)
        return list(answer.rrset), min(max(seconds, SHORTEST), LONGEST)


def _is_loopback(host: str) -> bool:
    return ip_address(host.partition("%")[0]).is_loopback


def _order(host: str) -> tuple[int, str]:
    """IPv4 first; always the same order, so that nothing changes when a name server turns it round."""
    return (":" in host, host)


def _names_in(path: str) -> set[str]:
    """The names in a hosts file (hosts(5))."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines: Iterable[str] = file.readlines()
    except OSError:
        return set()
    return {name.lower() for line in lines for name in line.partition("#")[0].split()[1:]}


async def _ask_system(name: str) -> list[str]:
    try:
        found = await trio.to_thread.run_sync(
            lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM), abandon_on_cancel=True
        )
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)):
            return []
        raise ResolveError(error.strerror) from error
    except UnicodeError:  # a label is empty, or of more than 63 bytes (RFC 1035 2.3.4): there is no such name
        return []
    except (OSError, RuntimeError) as exhausted:  # no descriptor is left, or no thread can be started
        raise ResolveError(str(exhausted)) from exhausted
    # In the order of the system (RFC 6724), each once.
    return list(dict.fromkeys(str(to[0]) for _, _, _, _, to in found))
