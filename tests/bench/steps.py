"""What it costs to have Locust count what devices do: a share of a core at 100,000 events a second.

`python -m tests.bench.steps`: the events of updates through a part's steps, JSON, and the merge into Locust's statistics;
CPU time, the median of some rounds. The parts' share is spread over the shards, the merge is one process's.
"""

from __future__ import annotations

import statistics as stat
import time

import numpy as np
import pyarrow as pa
from locust.stats import RequestStats

from simulator.trace.recorder import BATCH_EVENTS, SCHEMA
from simulator.worlds.live import leading
from simulator.worlds.live.leading import StepsCounted
from simulator.worlds.live.protocol import StepsTaken, event_of
from simulator.worlds.live.protocol import line as protocol_line
from simulator.worlds.live.steps import Joiner, Steps
from simulator.worlds.locust.statistics import merge

EVENTS, ROUNDS, FLUSHES = 100_000, 7, 2  # a second's events, told in so many lines


def batches():
    """A second's events as shards record them: of each update those of a device, in the order of their kinds."""
    moves = [("downloading", "verifying"), ("verifying", "installing"), ("installing", "rebooting"),
             ("rebooting", "confirming"), ("confirming", "reporting"), ("reporting", "idle")]  # fmt: skip
    rng, rows = np.random.default_rng(1), []
    for nth in range(EVENTS // 14):
        job = f"rollout-1.device-{nth}.0"
        device = [
            ("boot", {"status": "cold"}),
            ("connect", {"status": "new"}),
            ("report", {"status": "initial", "size": 1}),
            ("delta", {"status": "start", "job": job}),
            ("download", {"status": "200", "size": 16384, "job": job}),
            *(("phase", {"phase": left, "status": entered, "job": job}) for left, entered in moves),
            ("commit", {"job": job}),
            ("report", {"status": "SUCCESS", "size": 1, "job": job}),
            ("answer", {"status": "accepted", "job": job}),
        ]
        for kind, more in device:
            row = {"t_us": int(nth * 1e6 * 14 / EVENTS), "shard": 10, "seq": len(rows), "kind": kind}
            rows.append(row | {"thing": f"device-{nth}", "span_us": int(rng.lognormal(12, 2)), **more})
    return pa.Table.from_pylist(rows, schema=SCHEMA).to_batches(BATCH_EVENTS)


def main() -> None:
    made, counted, told, merged = batches(), [], [], []
    for _ in range(ROUNDS):
        steps, join, stats = Steps(0.0), Joiner(0.0), RequestStats()
        began = time.process_time()
        for batch in made:
            steps(batch)
        taken = steps.take()
        counted.append(time.process_time() - began)
        began = time.process_time()
        event = event_of(protocol_line(taken), "shard-0")
        assert isinstance(event, StepsTaken)
        line = protocol_line(StepsCounted([*event.steps, *join(event.offers, event.heard)]))
        told.append(time.process_time() - began)
        began = time.process_time()
        for _ in range(FLUSHES):
            merge(stats, leading.event_of(line).steps)
        merged.append(time.process_time() - began)
    for name, took in (
        ("counted in the shards", counted),
        ("told to and by the conductor", told),
        ("merged by Locust", merged),
    ):
        print(f"{name:<30} {100 * stat.median(took):6.2f} % of a core at {EVENTS:,} events/s")


if __name__ == "__main__":
    main()
