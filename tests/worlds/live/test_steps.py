"""Steps: what a batch of events adds to each, joined over processes, and what Locust makes of it."""

import subprocess
import sys
import textwrap

import pyarrow as pa

from simulator.trace.recorder import SCHEMA
from simulator.worlds.live.steps import Joiner, Steps
from tests.worlds.running import ROOT

BEGAN = 1_700_000_000.5


def batch(*events):
    """(t_us, kind, columns) as a recorder hands them on."""
    rows = [
        {"t_us": t_us, "shard": 10, "seq": nth, "kind": kind, "thing": "d", **more}
        for nth, (t_us, kind, more) in enumerate(events)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def taken(*events):
    """step -> its bins, by second, of these events."""
    steps = Steps(BEGAN)
    steps(batch(*events))
    found = {}
    for one in steps.take().steps:
        found.setdefault(one.pop("step"), {})[one.pop("second")] = one
    return found


def test_a_bin_holds_what_happened_in_its_second():
    done = {"status": "verifying", "phase": "downloading", "job": "j"}
    found = taken(
        (400_000, "phase", {**done, "span_us": 10_000}),
        (600_000, "phase", {**done, "span_us": 20_000}),
        (700_000, "phase", {**done, "span_us": 40_000}),
        (700_000, "download", {"size": 300, "job": "j"}),
    )
    assert found["download"][1_700_000_000] == {
        "count": 1, "total_ms": 10.0, "shortest_ms": 10.0, "longest_ms": 10.0, "histogram": [(10, 1)],
    }  # fmt: skip
    later = found["download"][1_700_000_001]
    assert (later["count"], later["total_ms"], later["bytes"]) == (2, 60.0, 300)
    assert (later["shortest_ms"], later["longest_ms"]) == (20.0, 40.0)


def test_a_failure_has_the_step_that_failed_and_the_reason_that_was_reported():
    found = taken(
        (1, "report", {"status": "initial", "size": 1, "span_us": 2000}),
        (2, "phase", {"status": "reporting", "phase": "verifying", "job": "j", "span_us": 5000}),
        (3, "report", {"status": "FAILURE", "size": 1, "job": "j", "detail": "sha256 0123456789abcdef: wrong"}),
        (4, "report", {"status": "FAILURE", "size": 2, "job": "j", "detail": "sha256 0123456789abcdef: wrong"}),
        (5, "connect", {"status": "failed", "span_us": 9000, "detail": "connection refused"}),
    )
    assert found["verify"][1_700_000_000]["failures"] == {"sha256 …: wrong": 1}
    assert found["verify"][1_700_000_000]["count"] == 1
    assert found["connect"][1_700_000_000]["failures"] == {"connection refused": 1}
    assert found["subscribe"][1_700_000_000]["count"] == 1
    assert "report" not in found


def test_an_update_counts_from_when_its_offer_was_due():
    found = taken(
        (100_000, "offer", {"status": "sent", "job": "a", "span_us": 40_000}),
        (100_000, "offer", {"status": "sent", "job": "b", "span_us": 0}),
        (560_000, "execution", {"status": "SUCCEEDED", "job": "a"}),
        (600_000, "execution", {"status": "TIMED_OUT", "job": "b", "detail": "silent for 30 s"}),
    )
    bins = found["update"][1_700_000_001]
    assert (bins["count"], bins["longest_ms"], bins["shortest_ms"]) == (2, 500.0, 500.0)
    assert bins["failures"] == {"TIMED_OUT: silent for … s": 1}


def test_a_delta_is_joined_whichever_end_is_heard_of_first():
    join = Joiner(BEGAN)
    assert join([("a", 100_000)], []) == []
    assert join([], [("b", 300_000)]) == []
    (one,) = join([("b", 250_000)], [("a", 160_000), ("a", 900_000)])
    assert (one["step"], one["count"], one["total_ms"]) == ("delta", 2, 110.0)
    assert join([], [("a", 950_000)]) == []


def beside(code):
    """Run it in a process of its own: to import Locust is to have the sockets of this one replaced."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_milliseconds_are_rounded_as_locust_rounds_them():
    beside("""
        import numpy as np
        from locust.stats import bucket_response_time
        from simulator.worlds.live.steps import rounded_ms

        spans_ms = [0, 0.4, 0.6, 7, 99.4, 100, 104, 147, 994, 1049, 3432, 9949, 58760, 123456]
        mine = rounded_ms(np.array([round(ms * 1000) for ms in spans_ms])).tolist()
        assert mine == [bucket_response_time(ms) for ms in spans_ms], mine
    """)


def test_statistics_hold_the_sum_of_all_bins_and_each_second():
    beside("""
        from locust.stats import RequestStats
        from simulator.worlds.locust import statistics

        stats = RequestStats()
        one = {"step": "install", "second": 1000, "count": 2, "total_ms": 30.0, "shortest_ms": 10.0, "longest_ms": 20.0,
               "histogram": [(10, 1), (20, 1)], "failures": {"no room": 1}}
        statistics.merge(stats, [one, {**one, "second": 1001}])
        entry = stats.get("install", "device")
        assert (entry.num_requests, entry.num_failures, entry.avg_response_time) == (4, 2, 15.0)
        assert (entry.min_response_time, entry.max_response_time) == (10.0, 20.0)
        assert dict(entry.num_reqs_per_sec) == {1000: 2, 1001: 2}
        assert dict(entry.response_times) == {10: 2, 20: 2}
        assert stats.total.num_requests == 4
        (error,) = stats.errors.values()
        assert (error.name, error.error, error.occurrences) == ("install", "no room", 2)
    """)
