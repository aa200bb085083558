"""The state of a worker as metrics: https://prometheus.io/docs/instrumenting/exposition_formats/."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.control.state import Worker
from gateway.upstream.health import State

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What Prometheus asks for."""

    def __init__(self, worker: Worker) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_WorkerCollector(worker))

    def text(self) -> bytes:
        """All metrics as they are now."""
        return generate_latest(self._registry)


class _WorkerCollector(Collector):
    """Nothing is counted for it: what is known anyway is read when somebody asks."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("gateway", "The gateway.", {"version": __version__})
        connections = GaugeMetricFamily("gateway_connections", "Connections of clients that are open.")
        connections.add_metric([], self._worker.service.caps.open)
        yield connections
        yield from self._of_backends()

    def _of_backends(self) -> Iterator[Metric]:
        of_backend, of_server = ["backend"], ["backend", "server"]
        queued = _gauge("queued_requests", "Requests that wait for a connection.", of_backend)
        held = _gauge("held_requests", "Requests that wait for a server to come back.", of_backend)
        up = _gauge("server_up", "Whether the server gets requests (1) or is left out (0).", of_server)
        in_flight = _gauge("server_requests", "Requests that the server has now.", of_server)
        idle = _gauge("server_idle_connections", "Connections kept open without a request.", of_server)
        failures = _gauge("server_failures", "Failures in a row.", of_server)
        latency = _gauge("server_first_byte_seconds", "To the first byte, lately, on average.", of_server)
        for name, upstream in self._worker.upstreams().items():
            queued.add_metric([name], upstream.queued)
            held.add_metric([name], upstream.held)
            for server in upstream.servers:
                labels = [name, server.address]
                up.add_metric(labels, server.state in (State.UP, State.TRIAL))
                in_flight.add_metric(labels, server.in_flight)
                idle.add_metric(labels, server.idle)
                failures.add_metric(labels, server.failures)
                if server.latency is not None:
                    latency.add_metric(labels, server.latency)
        yield from (queued, held, up, in_flight, idle, failures, latency)


def _gauge(name: str, documentation: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"gateway_backend_{name}", documentation, labels=labels)
