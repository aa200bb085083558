"""Calls that take very long: each is told about once, with what its thread is doing, and again when it ends.

The threads are looked at now and then, so that a call costs nothing for it. A call that waits for its client
is not stuck, however slow the client is.
"""

from typing import Final

import trio

from gateway.backends.wsgi.call import ApplicationCall
from gateway.backends.wsgi.threads import WorkerThreads
from gateway.logger import get_logger
from gateway.stacks import stack_of

LOOKS: Final = 4
"""How often the threads are looked at in the time after which a call is stuck: so exact it is."""

log = get_logger()


class _Seen:
    """A call as it was seen in a thread, for the first time at the clock time *since*."""

    __slots__ = ("call", "since", "told")

    def __init__(self, call: ApplicationCall, since: float) -> None:
        self.call = call
        self.since = since
        self.told = False


class StuckWatch:
    """Looks at *threads*, those of *backend*, for calls that run for longer than *after* seconds."""

    def __init__(self, threads: WorkerThreads, backend: str, after: float) -> None:
        self._threads = threads
        self._backend = backend
        self._after = after
        self._seen: dict[int, _Seen] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await trio.sleep(self._after / LOOKS)  # noqa: TID251 - nothing tells that nothing happens
            self.look(trio.current_time())

    def look(self, now: float) -> None:
        """See what each thread is doing at the clock time *now*."""
        for number, call in enumerate(self._threads.current):
            seen = self._seen.get(number)
            if seen is not None and seen.call is not call:
                if seen.told:
                    self._tell_ended(seen, now)
                del self._seen[number]
                seen = None
            if not isinstance(call, ApplicationCall):
                continue
            if seen is None:
                self._seen[number] = _Seen(call, now)
            elif call.waits_for_client and not seen.told:
                seen.since = now
            elif now - seen.since >= self._after and not seen.told:
                seen.told = True
                self._tell_stuck(number, call, now - seen.since)

    def _tell_stuck(self, number: int, call: ApplicationCall, seconds: float) -> None:
        ident = self._threads.ident(number)
        log.warning(
            "application call is stuck",
            backend=self._backend,
            **call.describe(),
            seconds=round(seconds, 1),
            # Others wait for a thread when all are like that.
            threads_busy=sum(each is not None for each in self._threads.current),
            stack="" if ident is None else stack_of(ident, below=call.run),
        )

    def _tell_ended(self, seen: _Seen, now: float) -> None:
        log.warning(
            "application call that was stuck has ended",
            backend=self._backend,
            **seen.call.describe(),
            seconds=round(now - seen.since, 1),
        )
