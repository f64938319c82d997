"""Merges what each step took into Locust's statistics, with the second in which it happened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from locust.stats import RequestStats, StatsEntry, StatsError

METHOD = "device"
"""What stands where a request's method does."""


def merge(stats: RequestStats, bins: Iterable[dict[str, Any]]) -> None:
    """Add bins, as `simulator.worlds.live.steps` makes them."""
    for one in bins:
        entry = _entry(stats, one)
        stats.entries[(one["step"], METHOD)].extend(entry)
        stats.total.extend(entry)
        for reason, times in one.get("failures", {}).items():
            key = StatsError.create_key(METHOD, one["step"], reason)
            stats.errors.setdefault(key, StatsError(METHOD, one["step"], reason)).occurrences += times


def _entry(stats: RequestStats, one: dict[str, Any]) -> StatsEntry:
    """A bin as Locust has it; times in ms."""
    second, count = one["second"], one["count"]
    failed = sum(one.get("failures", {}).values())
    entry = StatsEntry(stats, one["step"], METHOD)
    entry.start_time = float(second)
    entry.last_request_timestamp = float(second)
    entry.total_content_length = one.get("bytes", 0)
    if count:
        entry.num_requests, entry.num_reqs_per_sec[second] = count, count
        entry.total_response_time = one["total_ms"]
        entry.min_response_time, entry.max_response_time = one["shortest_ms"], one["longest_ms"]
        entry.response_times.update(dict(one["histogram"]))
    if failed:
        entry.num_failures, entry.num_fail_per_sec[second] = failed, failed
    return entry
