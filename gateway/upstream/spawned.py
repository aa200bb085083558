"""The upstream of an application that the gateway spawns: requests are counted, and wait for a process."""

from gateway.errors import BackendError
from gateway.protocols.events import LocalRedirect, RequestHead, RequestVariables
from gateway.request import Request, Responder
from gateway.spawn import SpawnedApplication
from gateway.upstream.seats import SeatedPool
from gateway.upstream.switch import Switch
from gateway.upstream.tries import Tries
from gateway.upstream.upstream import Upstream


class SpawnedUpstream(Upstream):
    """As `Upstream`, for the processes of one application. `attach` it before use."""

    def attach(self, application: SpawnedApplication) -> None:
        self._application = application
        application.pool.renew_connections = self.upkeep.renew
        connections = self.servers[0].pool
        if isinstance(connections, SeatedPool):
            application.pool.tell_serving = connections.follow

    def _is_there(self) -> bool:
        # A question would wait on the shared socket for a process that only a request starts.
        return self._application.running

    def _is_awaited(self) -> bool:
        return self._application.awaited

    def _may_send_again(self, request: Request) -> bool:
        # Whatever its method: nobody may have read it.
        return self.terms.companion is not None or Upstream._may_send_again(self, request)

    async def _allow_another(
        self, request: Request, responder: Responder, failure: BackendError, tries: Tries
    ) -> None:
        if not self._application.awaited:
            raise failure
        await Upstream._allow_another(self, request, responder, failure, tries)

    async def exchange(
        self,
        request: Request,
        responder: Responder,
        head: RequestHead | RequestVariables,
        *,
        awaits_continue: bool = False,
        switch: Switch | None = None,
        own_host: bool = False,
    ) -> LocalRedirect | None:
        """As `Upstream.exchange`; failures are explained by what became of the processes."""
        application = self._application
        await application.enter()
        try:
            return await Upstream.exchange(
                self,
                request,
                responder,
                head,
                awaits_continue=awaits_continue,
                switch=switch,
                own_host=own_host,
            )
        except BackendError as failed:
            raise application.explain(failed) from failed.__cause__
        finally:
            application.leave()
