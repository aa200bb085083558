"""The CGI backend: what its requests share, and the way of one of them."""

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import translate
from time import perf_counter

import trio

from gateway.backends.cgi.environment import Environment
from gateway.backends.cgi.exchange import Exchange, ExchangeSettings
from gateway.backends.cgi.program import ProgramRules, Programs, Script
from gateway.backends.cgi.transcript import RecordedBody, Recording, Transcript
from gateway.backends.intake import BodyIntake
from gateway.errors import BackendError
from gateway.local_redirect import Dispatch, follow
from gateway.net.pump import Pump
from gateway.protocols.cgi import ResponseParser
from gateway.request import Body, Request, Responder
from gateway.slots import Slots
from gateway.template import Template


class CgiBackend:
    """Runs the programs of a directory, or one program.

    ``path``: the directory or the program. ``pump``: the worker's. ``variables``: added to the environment,
    they win. ``pass_env``: names of variables of our own environment that programs get. ``nph``: patterns
    (fnmatch) of names whose output is a whole HTTP response (RFC 3875 section 5). ``intake``: which request
    bodies are taken. ``slots``: how many programs run at the same time. ``dispatch``
    answers local redirects.

    Programs do not see the Authorization field (RFC 3875 4.1.18) without ``pass_authorization``.
    """

    def __init__(
        self,
        name: str,
        *,
        path: str | os.PathLike[str],
        pump: Pump,
        dispatch: Dispatch,
        settings: ExchangeSettings,
        variables: Mapping[str, Template],
        rules: ProgramRules,
        pass_env: Sequence[str],
        pass_authorization: bool,
        nph: Sequence[str],
        intake: BodyIntake,
        slots: Slots | None,
        transcript: Transcript | None,
    ) -> None:
        self._name = name
        self._programs = Programs(path, rules)
        self._environment = Environment(
            self._programs.document_root,
            variables,
            pass_env=pass_env,
            pass_authorization=pass_authorization,
        )
        self._settings = settings
        self._nph = re.compile("|".join(map(translate, nph)) or "(?!)")
        self._intake = intake
        self._slots = slots
        self._transcript = transcript
        self._pump = pump
        self._dispatch = dispatch
        self._no_input = -1

    @property
    def name(self) -> str:
        return self._name

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep what requests share, until cancelled. Raises StartError if there is no such path."""
        self._programs.check(self._name)
        self._no_input = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            os.close(self._no_input)
            self._no_input = -1

    async def handle(self, request: Request, responder: Responder) -> None:
        """Run the program that *request* names.

        Raises RequestError 403 or 404 if there is none, 411 and 413 for its body; BackendError for what
        the program does wrong.
        """
        script = self._programs.find(request)
        began = perf_counter()
        body = self._intake.take(request.body)
        if body is not None:
            target = await self._run(script, request, responder, body)
        else:
            with await self._intake.store(request.body) as spooled:
                began = perf_counter()
                target = await self._run(script, request, responder, spooled, spooled.descriptor)
        request.upstream_time = perf_counter() - began
        if target is not None:
            await follow(
                request,
                target,
                responder,
                dispatch=self._dispatch,
                backend=self._name,
                address=os.fsdecode(script.filename),
            )

    async def _run(
        self,
        script: Script,
        request: Request,
        responder: Responder,
        body: Body,
        stdin: int | None = None,
    ) -> bytes | None:
        """Run *script* and pass its response on; the target if that is a local redirect.

        *stdin* is a file with the body in it, if there is one.
        """
        if stdin is None and body.length == 0:
            stdin = self._no_input
        if self._slots is None:
            return await self._run_recorded(script, request, responder, body, stdin)
        await self._slots.enter(os.fsdecode(script.filename))
        try:
            return await self._run_recorded(script, request, responder, body, stdin)
        finally:
            self._slots.leave()

    async def _run_recorded(
        self, script: Script, request: Request, responder: Responder, body: Body, stdin: int | None
    ) -> bytes | None:
        transcript = self._transcript
        if transcript is None:
            exchange = Exchange(self._name, script, request, self._settings, self._pump)
            return await self._converse(exchange, script, request, responder, body, stdin)
        recording = Recording(request, os.fsdecode(script.filename), transcript.excerpt)
        exchange = Exchange(self._name, script, request, self._settings, self._pump, recording)
        if stdin is None:
            body = RecordedBody(body, recording)
        elif body.length:
            recording.body(os.pread(stdin, transcript.excerpt, 0))
        try:
            target = await self._converse(exchange, script, request, responder, body, stdin)
        except BackendError as error:
            transcript.add(recording, error.detail)
            raise
        if transcript.always or exchange.failed:
            transcript.add(recording, exchange.ending)
        return target

    async def _converse(
        self,
        exchange: Exchange,
        script: Script,
        request: Request,
        responder: Responder,
        body: Body,
        stdin: int | None,
    ) -> bytes | None:
        try:
            exchange.start(self._environment.of(script, request, body.length), stdin, body)
            parser = ResponseParser(
                nph=self._is_nph(script),
                head_request=request.method == "HEAD",
            )
            if exchange.body_pending:
                target = await exchange.feed_and_relay(body, parser, responder)
            else:
                target = await exchange.relay(parser, responder)
            await exchange.finish()
            return target
        finally:
            # Nothing to wait for here after a normal end.
            await exchange.close()

    def _is_nph(self, script: Script) -> bool:
        return self._nph.match(os.fsdecode(script.filename.rpartition(b"/")[2])) is not None
