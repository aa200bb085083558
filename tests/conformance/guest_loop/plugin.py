"""Runs the tests of a suite on the gateway's asyncio loop: ``pytest -p guest_loop.plugin``.

The loop takes the place of asyncio's own wherever a test makes one: by anyio's plugin, by ``asyncio.run``, by
a new loop in a thread. Tests of anyio's other backends, and of other loops, are none of this; what else is
left out is in :data:`LEFT_OUT`.
"""

import asyncio
import functools
import socket
import sys
from collections.abc import Awaitable, Callable
from fnmatch import fnmatch
from typing import Final

import pytest
import trio

from gateway.backends.asgi.guest import AsyncioHost
from gateway.backends.asgi.host import Message, Receive, Scope, Send, Wait
from gateway.net.pump import Pump

from .stepped import SteppedLoop

LEFT_OUT: Final = {
    # anyio's issue 525
    "test_from_async[[]asyncio-trio]": "the loop's thread is trio's, and waits for another that is",
    "test_cancelled_send_does_not_send_the_next_one*": "counts on how much the kernel takes, and when",
}
"""Patterns of names, and why."""

NEEDS_IPV6: Final = (
    "*ipv6*",
    "test_happy_eyeballs[[]*dualstack]",
    "test_connection_refused[[]*multi]",
    "test_tcp_listener_same_port[[]*localhost*",
    "test_tcp_listener_retry_after_partial_failure*",
    "test_tcp_listener_total_bind_failure*",
)
"""Left out where localhost has no IPv6."""

NEEDS_FLOW_CONTROL: Final = (
    "test_send_waits_for_the_os_to_accept_the_datagram*",
    "test_cancelled_send_does_not_buffer_the_next_datagram*",
)
"""Left out where asyncio never resumes who has sent too many datagrams: CPython's issue 135444."""


class _NoExchange:
    on_complete: Callable[[], None] | None = None
    wait: Wait

    async def receive(self) -> Message:
        raise NotImplementedError

    async def send(self, message: Message, /) -> None:
        raise NotImplementedError


def pytest_configure(config: pytest.Config) -> None:
    """Make the loop the one that asyncio makes."""
    config.addinivalue_line("markers", "asyncio: a coroutine function, for asyncio.run")
    # Not by a policy: Python 3.14 warns of them.
    for module in (asyncio, asyncio.events):
        pytest.MonkeyPatch().setattr(module, "new_event_loop", SteppedLoop)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not about the loop, and have anyio's tests run on it."""
    left_out = [
        *LEFT_OUT,
        *(() if _has_ipv6() else NEEDS_IPV6),
        *(NEEDS_FLOW_CONTROL if (3, 13) <= sys.version_info < (3, 13, 6) else ()),
    ]
    kept = [
        item
        for item in items
        if not any(fnmatch(item.name, pattern) for pattern in left_out) and _runs_on_loop(item)
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _has_ipv6() -> bool:
    try:
        socket.getaddrinfo("localhost", 0, socket.AF_INET6)
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _runs_on_loop(item: pytest.Item) -> bool:
    """Whether *item* is for asyncio's own loop, in whose place it then gets the gateway's."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return True
    options = item.callspec.params
    if "anyio_backend" not in options:
        return True
    if options["anyio_backend"] != ("asyncio", {"debug": True}):
        return False
    options["anyio_backend"] = ("asyncio", {"debug": True, "loop_factory": SteppedLoop})
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run what is marked for pytest-asyncio as an application of the gateway's, in answer to a request."""
    if pyfuncitem.get_closest_marker("asyncio") is None:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    test = functools.partial(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in names})
    trio.run(_run_in_host, test)
    return True


async def _run_in_host(test: Callable[[], Awaitable[None]]) -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await test()

    async with trio.open_nursery() as nursery:
        pump = Pump()
        await nursery.start(pump.run)
        host = AsyncioHost("suite", pump=pump, patience=5)
        await nursery.start(host.run)
        try:
            await host.enter(app, {}, _NoExchange())
        finally:
            await host.aclose(trio.CancelScope(deadline=trio.current_time() + 5, shield=True))
            nursery.cancel_scope.cancel()
