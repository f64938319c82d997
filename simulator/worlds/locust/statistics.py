"""Merges what each step took into Locust's statistics, with the second in which it happened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from locust.stats import RequestStats, StatsEntry, StatsError

METHOD = "device"
"""What stands where a request's method does."""


def merge(stats: RequestStats, bins: Iterable[dict[str, Any]]) -> None:
    """Add bins, as `simulator.worlds.live.steps` makes them."""
    for step in bins:
        entry = _entry(stats, step)
        stats.entries[(step["step"], METHOD)].extend(entry)
        stats.total.extend(entry)
        for reason, times in step.get("failures", {}).items():
            key = StatsError.create_key(METHOD, step["step"], reason)
            stats.errors.setdefault(key, StatsError(METHOD, step["step"], reason)).occurrences += times


def _entry(stats: RequestStats, step: dict[str, Any]) -> StatsEntry:
    """A bin as Locust has it; times in ms."""
    second, count = step["second"], step["count"]
    failed = sum(step.get("failures", {}).values())
    entry = StatsEntry(stats, step["step"], METHOD)
    entry.start_time = float(second)
    entry.last_request_timestamp = float(second)
    entry.total_content_length = step.get("bytes", 0)
    if count:
        entry.num_requests, entry.num_reqs_per_sec[second] = count, count
        entry.total_response_time = step["total_ms"]
        entry.min_response_time, entry.max_response_time = step["shortest_ms"], step["longest_ms"]
        entry.response_times.update(dict(step["histogram"]))
    if failed:
        entry.num_failures, entry.num_fail_per_sec[second] = failed, failed
    return entry
