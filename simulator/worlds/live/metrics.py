"""What is known of a live run while it lasts, for Prometheus: aggregates alone, never a label for a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, make_asgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from simulator import __version__
from simulator.model.scenario import Scenario
from simulator.worlds.progress import Now

_STAGES = ("ramp", "rollout", "heal", "settle")
_OUTCOMES = ("succeeded", "failed", "timed out", "rejected", "canceled")
# of the totals: name -> (metric, what it counts)
_COUNTERS = {
    "connected": ("connects", "Connections that devices made."),
    "connects failed": ("connect_failures", "Attempts of devices to connect that failed."),
    "disconnected": ("disconnects", "Connections of devices that ended."),
    "offered": ("offers", "Desired states that the application published for the first time."),
    "deltas": ("deltas", "Deltas that devices heard of."),
    "downloads ended": ("downloads", "HTTP requests of downloads that ended, well or not."),
    "bytes": ("downloaded_bytes", "Bytes of software that devices received."),
    "confirmed": ("confirmed", "Boots into new software that was kept."),
    "events": ("events", "Events that were recorded."),
}
# of a process's health: name -> (metric, what it is)
_HEALTH = {
    "loop_lag_s_max": ("loop_lag_seconds", "The longest that a sleep of 50 ms overslept, in the last second."),
    "cpu_share": ("cpu_share", "CPU used, of one core."),
    "wait_share": ("wait_share", "Share of the time in which the process was ready and had no core."),
    "rss_bytes": ("resident_bytes", "Resident memory."),
    "open_files": ("open_files", "Open files, sockets among them."),
    "unsent": (
        "unsent",
        "Of the application offers, of a shard attempts to connect, that are due and have not been sent.",
    ),
}


def app(scenario: Scenario, now: Now) -> Callable[..., Any]:
    """An ASGI application that tells on every path what is known at that moment."""
    registry = CollectorRegistry()
    registry.register(RunCollector(scenario, now))
    return make_asgi_app(registry)


class RunCollector(Collector):
    """Makes the metrics of what is known whenever somebody asks: nothing is counted a second time."""

    def __init__(self, scenario: Scenario, now: Now) -> None:
        self._now = now
        self._devices = len(scenario.fleet.present)
        self._run = {"scenario": scenario.name, "seed": str(scenario.seed), "version": __version__}

    def collect(self) -> Iterator[Metric]:
        """All metrics, of this moment."""
        now = self._now
        yield InfoMetricFamily("fleetsim_run", "What runs.", self._run)
        yield _labelled("stage", "1 for the stage that the run is in.", {s: s == now.stage for s in _STAGES}, "stage")
        yield GaugeMetricFamily("fleetsim_devices", "Devices of the scenario.", self._devices)
        yield GaugeMetricFamily("fleetsim_targets", "Devices that are to be updated.", now.targets)
        yield GaugeMetricFamily("fleetsim_connected", "Devices that are connected.", now.connected)
        yield GaugeMetricFamily("fleetsim_downloading", "Devices that are downloading.", now.downloading)
        for name, (metric, text) in _COUNTERS.items():
            yield CounterMetricFamily(f"fleetsim_{metric}", text, now.totals[name])
        ended = CounterMetricFamily("fleetsim_executions", "Executions that ended, by how.", labels=["outcome"])
        for outcome in _OUTCOMES:
            ended.add_metric([outcome.replace(" ", "_")], now.totals[outcome])
        yield ended
        for name, (metric, text) in _HEALTH.items():
            values = {process: facts[name] for process, facts in sorted(now.health.items()) if name in facts}
            yield _labelled(f"process_{metric}", text, values, "process")


def _labelled(metric: str, text: str, values: dict[str, Any], label: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"fleetsim_{metric}", text, labels=[label])
    for name, value in values.items():
        family.add_metric([name], float(value))
    return family
