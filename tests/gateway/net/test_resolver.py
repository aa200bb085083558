"""Names to servers: records of name servers, the system's own names, and failures."""

import errno
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import pytest
import trio

from gateway.net import resolver as module
from gateway.net.address import TcpAddress
from gateway.net.resolver import NEGATIVE, REFRESH, Answer, Located, ResolveError, Resolver
from tests.gateway.name_server import NameServer, name_server
from tests.gateway.served import run

APP = TcpAddress("app.example", 80)


def asking(test: Callable[[Resolver, NameServer], Awaitable[None]]) -> None:
    async def main() -> None:
        async with name_server() as server:
            host, _, port = server.address.partition(":")
            await test(Resolver([TcpAddress(host, int(port))]), server)

    run(main)


def test_each_address_is_a_server() -> None:
    async def test(resolver: Resolver, server: NameServer) -> None:
        server.ttl = 60
        server.say("app.example", "A", "10.0.0.2", "10.0.0.1")
        server.say("app.example", "AAAA", "2001:db8::1")
        answer = await resolver.find(APP)
        assert answer.seconds == 60
        assert answer.servers == tuple(
            Located(APP, (host,)) for host in ("10.0.0.1", "10.0.0.2", "2001:db8::1")
        )

    asking(test)


@pytest.mark.parametrize(("ttl", "seconds"), [(0, 1.0), (10**6, 3600.0)])
def test_time_to_live_has_bounds(ttl: int, seconds: float) -> None:
    async def test(resolver: Resolver, server: NameServer) -> None:
        server.ttl = ttl
        server.say("app.example", "A", "10.0.0.1")
        assert (await resolver.find(APP)).seconds == seconds

    asking(test)


def test_names_that_do_not_exist_have_no_server() -> None:
    async def test(resolver: Resolver, server: NameServer) -> None:
        assert await resolver.find(APP) == Answer((), NEGATIVE)
        server.say("app.example", "TXT", "x")
        assert await resolver.find(APP) == Answer((), NEGATIVE)

    asking(test)


def test_half_an_answer_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some name servers never answer for AAAA."""
    monkeypatch.setattr(module, "LIFETIME", 0.1)

    async def test(resolver: Resolver, server: NameServer) -> None:
        server.silent = {"AAAA"}
        server.say("app.example", "A", "10.0.0.1")
        assert (await resolver.find(APP)).servers == (Located(APP, ("10.0.0.1",)),)
        server.say("app.example", "A")
        with pytest.raises(ResolveError):
            await resolver.find(APP)

    asking(test)


def test_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIFETIME", 0.1)

    async def test(resolver: Resolver, server: NameServer) -> None:
        server.fails = True
        with pytest.raises(ResolveError):
            await resolver.find(APP)
        server.fails, server.silent = False, {"A", "AAAA"}
        with pytest.raises(ResolveError):
            await resolver.find(APP)

    asking(test)


def test_services() -> None:
    """RFC 2782: the lowest priority comes first, others are for when it is gone."""

    async def test(resolver: Resolver, server: NameServer) -> None:
        server.ttl = 60
        server.say(
            "_app._tcp.example", "SRV", "10 3 81 a.example.", "10 0 82 b.example.", "20 5 83 b.example."
        )
        server.say("a.example", "A", "10.0.0.1", "10.0.0.2")
        server.say("b.example", "A", "10.0.0.3")
        found = await resolver.find_service("_app._tcp.example")
        assert {(str(each.address), each.hosts, each.weight, each.backup) for each in found.servers} == {
            ("a.example:81", ("10.0.0.1",), 3.0, False),
            ("a.example:81", ("10.0.0.2",), 3.0, False),
            ("b.example:82", ("10.0.0.3",), 0.1, False),
            ("b.example:83", ("10.0.0.3",), 5.0, True),
        }

    asking(test)


def test_service_that_is_not_there() -> None:
    async def test(resolver: Resolver, server: NameServer) -> None:
        server.say("_app._tcp.example", "SRV", "0 0 0 .")
        assert (await resolver.find_service("_app._tcp.example")).servers == ()

    asking(test)


def test_localhost_is_one_server() -> None:
    """It may listen on any of its addresses; no name server is asked."""

    async def test(resolver: Resolver, server: NameServer) -> None:
        answer = await resolver.find(TcpAddress("localhost", 80))
        (located,) = answer.servers
        assert "127.0.0.1" in located.hosts
        assert answer.seconds == REFRESH
        assert server.asked == []

    asking(test)


def test_names_in_the_hosts_file_are_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost # app.example\n\n10.0.0.1\tdb.example DB\n")
    monkeypatch.setattr(module, "HOSTS_FILE", str(hosts))
    own, system = Resolver([TcpAddress("127.0.0.1", 1)]), Resolver()
    assert [own._is_the_systems(name) for name in ("db.example", "db", "app.example", "app")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert [system._is_the_systems(name) for name in ("app", "app.example", "a.localhost")] == [
        True,
        False,
        True,
    ]
    monkeypatch.setattr(module, "HOSTS_FILE", str(tmp_path / "none"))
    assert not own._is_the_systems("db.example")


def test_no_descriptor_is_left_for_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """EAI_SYSTEM; what the system needs descriptors for is its own affair."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    async def main() -> None:
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        with pytest.raises(ResolveError, match="Too many open files"):
            await Resolver().find(TcpAddress("localhost", 80))

    run(main)


def test_no_thread_can_be_started_for_the_system() -> None:
    """In a process of its own: trio keeps threads for a while."""
    script = """
import threading, trio
from gateway.net.address import TcpAddress
from gateway.net.resolver import NEGATIVE, REFRESH, Answer, Located, ResolveError, Resolver

def start(thread):
    raise RuntimeError("can't start new thread")

threading.Thread.start = start
try:
    trio.run(Resolver().find, TcpAddress("localhost", 80))
except ResolveError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "can't start new thread\n"


@pytest.mark.parametrize("name", ["a" * 64, "a..localhost", f"{'a' * 64}.localhost"])
def test_name_that_cannot_be(name: str) -> None:
    """Python refuses to write it down for the system, in words of its own."""

    async def main() -> None:
        assert (await Resolver().find(TcpAddress(name, 80))).servers == ()

    run(main)


def test_word_that_the_system_does_not_know() -> None:
    async def main() -> None:
        try:
            assert (await Resolver().find(TcpAddress("no-such-word-here", 80))).servers == ()
        except ResolveError:
            pass  # its name servers do not answer
        await trio.lowlevel.checkpoint()

    run(main)
