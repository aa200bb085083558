"""The state of workers as metrics: https://prometheus.io/docs/instrumenting/exposition_formats/.

It is read when somebody asks. Only then is this module imported: the library takes a while.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.front.tally import BOUNDS
from gateway.upstream.health import State

_SERVED = (State.UP.value, State.TRIAL.value)


def metrics_of(described: dict[str, Any]) -> Iterator[Metric]:
    """What Prometheus wants to know of a worker that `state.WorkerState.describe` has described."""
    yield from _answers(described["answers"])
    connections = GaugeMetricFamily("gateway_connections", "Connections of clients that are open.")
    connections.add_metric([], described["connections"])
    yield connections
    of_backend, of_server = ["backend"], ["backend", "server"]
    queued = _gauge("queued_requests", "Requests that wait for a connection.", of_backend)
    held = _gauge("held_requests", "Requests that wait for a server to come back.", of_backend)
    up = _gauge("server_up", "Whether the server gets requests (1) or is left out (0).", of_server)
    in_flight = _gauge("server_requests", "Requests that the server has now.", of_server)
    idle = _gauge("server_idle_connections", "Connections kept open without a request.", of_server)
    failures = _gauge("server_failures", "Failures in a row.", of_server)
    latency = _gauge("server_first_byte_seconds", "To the first byte, lately, on average.", of_server)
    for name, backend in described["backends"].items():
        if "servers" not in backend:
            continue
        queued.add_metric([name], backend["queued"])
        held.add_metric([name], backend["held"])
        for server in backend["servers"]:
            labels = [name, server["address"]]
            up.add_metric(labels, server["state"] in _SERVED)
            in_flight.add_metric(labels, server["in_flight"])
            idle.add_metric(labels, server["idle"])
            failures.add_metric(labels, server["failures"])
            if server["latency"] is not None:
                latency.add_metric(labels, server["latency"])
    yield from (queued, held, up, in_flight, idle, failures, latency)


def _answers(answers: dict[str, Any]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "gateway_requests",
        "Requests that were answered; 499: their clients went before.",
        labels=["backend", "code"],
    )
    took = HistogramMetricFamily(
        "gateway_request_seconds",
        "From the first byte of a request to the last of its response.",
        labels=["backend"],
    )
    for name, of_one in answers.items():
        for status, count in of_one["statuses"].items():
            requests.add_metric([name, str(status)], count)
        buckets = zip((*map(str, BOUNDS), "+Inf"), accumulate(of_one["buckets"]), strict=True)
        took.add_metric([name], list(buckets), of_one["seconds"])
    yield from (requests, took)


def metrics_of_process(pid: int) -> Iterable[Metric]:
    """What is known of any process: memory, CPU time, descriptors."""
    return ProcessCollector(pid=lambda: pid, registry=None).collect()


def labelled(metrics: Iterable[Metric], **labels: str) -> Iterator[Metric]:
    """The same with *labels* on each sample."""
    for metric in metrics:
        metric.samples = [each._replace(labels={**each.labels, **labels}) for each in metric.samples]
        yield metric


def text(metrics: Iterable[Metric]) -> bytes:
    """*metrics* as Prometheus reads them; those of one name together."""
    families: dict[str, Metric] = {}
    for metric in (InfoMetricFamily("gateway", "The gateway.", {"version": __version__}), *metrics):
        families.setdefault(metric.name, metric)
        if families[metric.name] is not metric:
            families[metric.name].samples += metric.samples
    registry = CollectorRegistry()
    registry.register(_Known(families.values()))
    return generate_latest(registry)


class _Known(Collector):
    """Metrics that are made already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _gauge(name: str, documentation: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"gateway_backend_{name}", documentation, labels=labels)
