"""What a daemon with a supervisor says of itself: it asks all its workers."""

import os
import time
from typing import Any

import trio

from gateway import __version__
from gateway.supervisor.process import Worker
from gateway.supervisor.supervisor import Supervisor
from gateway.supervisor.totals import total


class AllWorkers:
    """Implements `gateway.control.handlers.Daemon`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def status(self) -> dict[str, Any]:
        supervisor = self._supervisor
        asked = await self._ask()
        serving = [state for worker, state in asked if state is not None and not worker.stopping]
        whole = total(serving)
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - supervisor.started_at, 3),
            "draining": supervisor.stopping,
            "connections": sum(state["connections"] for _, state in asked if state is not None),
            "reloads": supervisor.reloads,
            "restarts": supervisor.restarts,
            "workers": [_described(worker, state) for worker, state in asked],
            "backends": whole["backends"],
        }

    async def metrics(self) -> bytes:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

        from gateway.control import metrics

        supervisor = self._supervisor
        asked = await self._ask()
        found: list[Metric] = [
            CounterMetricFamily("gateway_reloads", "Reloads that succeeded.", supervisor.reloads),
            CounterMetricFamily(
                "gateway_worker_restarts", "Workers that died and were replaced.", supervisor.restarts
            ),
        ]
        states = GaugeMetricFamily("gateway_workers", "Worker processes.", labels=["state"])
        for name in ("starting", "serving", "retiring", "silent"):
            count = sum(_described(worker, state)["state"] == name for worker, state in asked)
            states.add_metric([name], count)
        found += [states, *metrics.labelled(metrics.metrics_of_process(os.getpid()), worker="supervisor")]
        for worker, state in asked:
            if state is not None and not worker.stopping:
                of_one = [*metrics.metrics_of(state), *metrics.metrics_of_process(worker.pid)]
                found += metrics.labelled(of_one, worker=str(worker.number))
        return metrics.text(found)

    async def reload(self) -> tuple[list[str], int]:
        wish = await self._supervisor.reload("gateway reload")
        return wish.reasons, wish.status

    def stop(self) -> None:
        self._supervisor.stop("gateway stop")

    async def _ask(self) -> list[tuple[Worker, dict[str, Any] | None]]:
        answers: dict[Worker, dict[str, Any] | None] = {}

        async def ask(worker: Worker) -> None:
            answers[worker] = await worker.state()

        workers = list(self._supervisor.workers())
        async with trio.open_nursery() as asking:
            for worker in workers:
                asking.start_soon(ask, worker)
        return [(worker, answers[worker]) for worker in workers]


def _described(worker: Worker, state: dict[str, Any] | None) -> dict[str, Any]:
    known: dict[str, Any] = {"number": worker.number, "pid": worker.pid}
    if not worker.ready.is_set():
        uptime = round(trio.current_time() - worker.started_at, 3)
        return {**known, "state": "starting", "uptime": uptime}
    if state is None:
        return {**known, "state": "silent"}
    name = "retiring" if worker.stopping else "serving"
    return {**known, "state": name, "uptime": state["uptime"], "connections": state["connections"]}
