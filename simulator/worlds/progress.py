"""What a person sees while it runs: counts from the recorders' batches, one live line on a terminal."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.compute as pc

from simulator.model.events import Kind

# (kind, status) -> what it adds to
_COUNTED = {
    (Kind.CONNECT, "new"): "connected",
    (Kind.CONNECT, "resumed"): "connected",
    (Kind.CONNECT, "failed"): "connects failed",
    (Kind.LOST, None): "disconnected",
    (Kind.OFFER, "sent"): "offered",
    (Kind.DELTA, None): "deltas",
    (Kind.PHASE, "downloading"): "downloads begun",
    (Kind.DOWNLOAD, None): "downloads ended",
    (Kind.CONFIRM, None): "confirmed",
    (Kind.EXECUTION, "SUCCEEDED"): "succeeded",
    (Kind.EXECUTION, "FAILED"): "failed",
    (Kind.EXECUTION, "TIMED_OUT"): "timed out",
    (Kind.EXECUTION, "REJECTED"): "rejected",
    (Kind.EXECUTION, "CANCELED"): "canceled",
}


def count(batch: pa.RecordBatch) -> dict[str, int]:
    """What a batch adds to the counts; `events` and, in bytes, `bytes`, among them."""
    counts: Counter[str] = Counter(events=batch.num_rows)
    table = pa.Table.from_batches([batch]).select(["kind", "status", "size"])
    for row in table.group_by(["kind", "status"]).aggregate([([], "count_all")]).to_pylist():
        name = _COUNTED.get((row["kind"], row["status"])) or _COUNTED.get((row["kind"], None))
        if name:
            counts[name] += row["count_all"]
    downloads = table.filter(pc.equal(table["kind"], Kind.DOWNLOAD))
    counts["bytes"] = pc.sum(downloads["size"]).as_py() or 0
    return dict(counts)


def stopped(batch: pa.RecordBatch, before: str) -> str:
    """Why a rollout is paused or was aborted after this batch; empty where it goes on."""
    table = pa.Table.from_batches([batch]).select(["kind", "status", "detail"])
    for row in table.filter(pc.equal(table["kind"], Kind.ROLLOUT)).to_pylist():
        if row["status"] in ("pause", "abort"):
            before = f"{'PAUSED' if row['status'] == 'pause' else 'ABORTED'}: {row['detail']}"
        elif row["status"] == "resume":
            before = ""
    return before


@dataclass(slots=True)
class Now:
    """What is known of a run while it lasts: totals by the names that `count` gives them; `stopped`: why a rollout is paused
    or was aborted; and, of a live one, its stage and what each process last said of its health."""

    targets: int
    totals: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    stage: str = ""
    health: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def connected(self) -> int:
        """Devices that are connected."""
        return self.totals["connected"] - self.totals["disconnected"]

    @property
    def downloading(self) -> int:
        """Devices that are between the first request of a download and the end of the last."""
        return max(0, self.totals["downloads begun"] - self.totals["downloads ended"])

    @property
    def failed(self) -> int:
        """Executions that ended otherwise than well, and were not called off."""
        return sum(self.totals[name] for name in ("failed", "timed out", "rejected"))


class Live:
    """A line that is drawn again and again; nothing when it is not `on`."""

    def __init__(self, stream: TextIO = sys.stderr, *, on: bool = True) -> None:
        self._stream, self._on = stream, on

    def _draw(self, text: str) -> None:
        if self._on:
            self._stream.write(f"\r{text[: self._columns()]}\x1b[K")
            self._stream.flush()

    def _columns(self) -> int | None:
        """How much has room: what goes on in the next row would stay there."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns - 1
        except OSError:  # no terminal
            return None

    def clear(self) -> None:
        """Take the line away."""
        self._draw("")


def _bar(done: int, of: int) -> str:
    return f"[{'█' * (20 * done // max(1, of)):<20}]"


class SeedLine(Live):
    """How far an exploration is: seeds done, failures, seeds a second; at most ten times a second."""

    def __init__(self, seeds: int, stream: TextIO = sys.stderr, *, on: bool = True) -> None:
        super().__init__(stream, on=on)
        self._seeds, self._shown_s = seeds, 0.0

    def show(self, at_s: float, done: int, failed: int) -> None:
        """Draw the line; `at_s` is seconds since the beginning."""
        if at_s - self._shown_s < 0.1:
            return
        self._shown_s = at_s
        rate = f"{done / at_s:.1f} seeds/s"
        self._draw(
            f"{at_s:7.0f} s {_bar(done, self._seeds)} {done:,} of {self._seeds:,} seeds, {failed:,} failed, {rate} "
        )


class Line(Live):
    """One live line a second: totals and rates."""

    def __init__(self, targets: int, stream: TextIO = sys.stderr, *, on: bool = True) -> None:
        super().__init__(stream, on=on)
        self.now = Now(targets)
        self._shown: tuple[float, Counter[str]] = (0.0, Counter())

    def add(self, counts: dict[str, int]) -> None:
        """More has happened."""
        self.now.totals.update(counts)

    def show(self, at_s: float) -> None:
        """Draw the line, if a second has passed; `at_s` is seconds of the run."""
        then, before = self._shown
        if not self._on or at_s - then < 1.0:
            return
        now, t, span = self.now, self.now.totals, at_s - then
        bar = _bar(t["succeeded"] + now.failed, now.targets)
        self._draw(
            f"{at_s:7.0f} s {bar} {now.stopped and now.stopped + '; '}connected {now.connected:,} offered {t['offered']:,} "
            f"downloading {now.downloading:,} succeeded {t['succeeded']:,} "
            f"failed {now.failed:,}  {(t['deltas'] - before['deltas']) / span:,.0f} deltas/s "
            f"{(t['bytes'] - before['bytes']) / span / 1e6:.1f} MB/s "
        )
        self._shown = (at_s, Counter(t))


def follow(line: Line) -> Callable[[pa.RecordBatch], Any]:
    """A sink that feeds the line from a virtual run's batches."""

    def sink(batch: pa.RecordBatch) -> None:
        line.add(count(batch))
        line.now.stopped = stopped(batch, line.now.stopped)
        line.show(batch.column(0)[-1].as_py() / 1e6)

    return sink
