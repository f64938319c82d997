"""What each step of an update took, second by second, while a run goes on: what Locust's statistics are made of.

A process counts what its own events tell; what begins in one and ends in another is joined by who hears both. Times are
rounded as Locust rounds them, to two digits: the percentiles of a report come from the trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from simulator.model.events import Kind
from simulator.model.update import plain
from simulator.worlds.live.protocol import StepsTaken

STEPS = ("connect", "subscribe", "delta", "download", "verify", "install", "reboot", "report", "update")
_AFTER = {  # (phase left, phase entered) -> the step that is done
    ("downloading", "verifying"): "download",
    ("verifying", "installing"): "verify",
    ("installing", "rebooting"): "install",
    ("rebooting", "confirming"): "reboot",
}
_FAILED = {  # the same, of a step that failed
    ("downloading", "reporting"): "download",
    ("verifying", "reporting"): "verify",
    ("installing", "reporting"): "install",
    ("rebooting", "reporting"): "reboot",
    ("rebooting", "rolling-back"): "reboot",
}
_ENDS = ("FAILED", "TIMED_OUT", "REJECTED")
_Ints = npt.NDArray[np.int64]


def rounded_ms(span_us: _Ints) -> _Ints:
    """Whole milliseconds, two digits of them, as Locust keeps them."""
    ms = np.rint(span_us / 1000)
    unit = 10.0 ** np.clip(np.floor(np.log10(np.maximum(ms, 1))) - 1, 0, 3)
    return np.asarray(np.rint(ms / unit) * unit, np.int64)


class Bin:
    """What happened to one step in one second: how often, how long it took, what was received, what failed and why."""

    __slots__ = ("bytes", "count", "failures", "histogram", "longest_ms", "shortest_ms", "total_ms")

    def __init__(self) -> None:
        self.count = self.bytes = 0
        self.total_ms = self.longest_ms = 0.0
        self.shortest_ms = float("inf")
        self.histogram: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()

    def add(self, span_us: _Ints) -> None:
        """It took so long each time."""
        self.count += len(span_us)
        self.total_ms += float(span_us.sum()) / 1000
        self.shortest_ms = min(self.shortest_ms, float(span_us.min()) / 1000)
        self.longest_ms = max(self.longest_ms, float(span_us.max()) / 1000)
        for ms, times in zip(
            *(part.tolist() for part in np.unique(rounded_ms(span_us), return_counts=True)), strict=True
        ):
            self.histogram[ms] += times

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        facts: dict[str, Any] = {"count": self.count}
        if self.count:
            facts |= {"total_ms": self.total_ms, "shortest_ms": self.shortest_ms, "longest_ms": self.longest_ms}
            facts["histogram"] = list(self.histogram.items())
        if self.bytes:
            facts["bytes"] = self.bytes
        if self.failures:
            facts["failures"] = dict(self.failures)
        return facts


class StepBins:
    """StepBins by step and second. `began` is the Unix time at which the record's clock began."""

    def __init__(self, began: float) -> None:
        self._began_us = round(began * 1e6)
        self._bins: dict[tuple[str, int], Bin] = {}

    def _at(self, step: str, second: int) -> Bin:
        return self._bins.setdefault((step, second), Bin())

    def add(self, step: str, t_us: _Ints, span_us: _Ints) -> None:
        """It was done at these times of the record, and took so long."""
        seconds = (t_us + self._began_us) // 1_000_000
        for second in np.unique(seconds).tolist():
            self._at(step, second).add(span_us[seconds == second])

    def fail(self, step: str, t_us: int, span_us: int, reason: str) -> None:
        """It failed then, after so long; -1 where that is not known."""
        bin_ = self._at(step, (t_us + self._began_us) // 1_000_000)
        bin_.add(np.array([max(0, span_us)], np.int64))
        bin_.failures[plain(reason) or "no reason given"] += 1

    def receive(self, step: str, t_us: int, size: int) -> None:
        """So many bytes came."""
        self._at(step, (t_us + self._began_us) // 1_000_000).bytes += size

    def take(self) -> list[dict[str, Any]]:
        """All that came since the last look: step, second (Unix time), and the bin's facts."""
        bins, self._bins = self._bins, {}
        return [{"step": step, "second": second, **bin_.facts()} for (step, second), bin_ in bins.items()]


class _Batch:
    """A batch by columns: numbers as arrays, -1 for none; words as codes."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch
        codes = {name: batch.column(name).dictionary_encode() for name in ("kind", "status", "phase")}
        self._places = {name: made.indices.fill_null(-1).to_numpy() for name, made in codes.items()}
        self._known = {name: made.dictionary.to_pylist() for name, made in codes.items()}
        self.t_us = batch.column("t_us").to_numpy()
        self.span_us = batch.column("span_us").fill_null(-1).to_numpy()

    def where(self, rows: _Ints, column: str, *words: str) -> _Ints:
        """Those of the rows in which the column holds one of these words."""
        matches, places = np.zeros(len(rows), bool), self._places[column][rows]
        for word in words:
            if word in (known := self._known[column]):
                matches |= places == known.index(word)
        return rows[matches]

    def words(self, column: str, rows: _Ints) -> list[str]:
        """What stands there, nothing as an empty word."""
        return [word or "" for word in self._batch.column(column).take(pa.array(rows)).to_pylist()]

    def numbers(self, column: str, rows: _Ints) -> _Ints:
        """What stands there, nothing as 0."""
        return np.asarray(self._batch.column(column).take(pa.array(rows)).fill_null(0).to_numpy())


class Steps:
    """Counts a process's own batches."""

    def __init__(self, began: float) -> None:
        self._bins = StepBins(began)
        self._failed: dict[str, tuple[str, int]] = {}  # by job: the step that failed, and how long it took
        self._due: dict[str, int] = {}  # by job: when its offer was due
        self._offers: list[tuple[str, int]] = []
        self._heard: list[tuple[str, int]] = []

    def __call__(self, batch: pa.RecordBatch) -> None:
        """One more batch."""
        made, everything = _Batch(batch), np.arange(batch.num_rows)
        for kind, take in _TAKES.items():
            rows = made.where(everything, "kind", kind)
            if len(rows):
                take(self, made, rows)

    def take(self) -> StepsTaken:
        """What came since the last look; its offers and heard deltas are for a `Joiner`."""
        taken = StepsTaken(self._bins.take(), self._offers, self._heard)
        self._offers, self._heard = [], []
        return taken

    def connects(self, batch: _Batch, rows: _Ints) -> None:
        """Attempts to connect."""
        self._add("connect", batch, batch.where(rows, "status", "new", "resumed"))
        failed = batch.where(rows, "status", "failed")
        self._fail("connect", batch, failed, batch.words("detail", failed))

    def downloads(self, batch: _Batch, rows: _Ints) -> None:
        """What came over HTTP, in the second of the last."""
        self._bins.receive("download", int(batch.t_us[rows[-1]]), int(batch.numbers("size", rows).sum()))

    def phases(self, batch: _Batch, rows: _Ints) -> None:
        """Work that is done, and work that failed; why is in the report."""
        for (left, entered), step in _AFTER.items():
            self._add(step, batch, batch.where(batch.where(rows, "phase", left), "status", entered))
        for (left, entered), step in _FAILED.items():
            some = batch.where(batch.where(rows, "phase", left), "status", entered)
            for job, span_us in zip(batch.words("job", some), batch.span_us[some].tolist(), strict=True):
                self._failed[job] = (step, span_us)

    def reports(self, batch: _Batch, rows: _Ints) -> None:
        """The first of a connection ends its subscribing; the first of a failure tells its reason."""
        self._add("subscribe", batch, batch.where(rows, "status", "initial"))
        failures = batch.where(rows, "status", "FAILURE")
        failures = failures[batch.numbers("size", failures) == 1]
        reasons = zip(batch.words("job", failures), failures.tolist(), batch.words("detail", failures), strict=True)
        for job, row, reason in reasons:
            if (failed := self._failed.pop(job, None)) is not None:
                self._bins.fail(failed[0], int(batch.t_us[row]), failed[1], reason)

    def answers(self, batch: _Batch, rows: _Ints) -> None:
        """Of reports of an end."""
        rows = rows[batch.span_us[rows] >= 0]
        self._add("report", batch, batch.where(rows, "status", "accepted"))
        lost = batch.where(rows, "status", "rejected", "given-up")
        reasons = zip(batch.words("status", lost), batch.words("detail", lost), strict=True)
        self._fail("report", batch, lost, [f"{status}: {detail}" for status, detail in reasons])

    def deltas(self, batch: _Batch, rows: _Ints) -> None:
        """By which a device learned of what was not known to it."""
        new = batch.where(rows, "status", "start", "supersede", "installed")
        self._heard += zip(batch.words("job", new), batch.t_us[new].tolist(), strict=True)

    def offers(self, batch: _Batch, rows: _Ints) -> None:
        """From when they were due."""
        sent = batch.where(rows, "status", "sent")
        due_us = batch.t_us[sent] - batch.span_us[sent].clip(min=0)
        made = list(zip(batch.words("job", sent), due_us.tolist(), strict=True))
        self._offers += made
        self._due |= made

    def executions(self, batch: _Batch, rows: _Ints) -> None:
        """Whole updates, as the application learned of their ends."""
        ends = batch.where(rows, "status", "SUCCEEDED", *_ENDS)
        columns = (ends.tolist(), batch.words("job", ends), batch.words("status", ends), batch.words("detail", ends))
        for row, job, status, detail in zip(*columns, strict=True):
            t_us, due_us = int(batch.t_us[row]), self._due.pop(job, None)
            if status != "SUCCEEDED":
                self._bins.fail("update", t_us, -1 if due_us is None else t_us - due_us, f"{status}: {detail}")
            elif due_us is not None:
                self._bins.add("update", np.array([t_us]), np.array([t_us - due_us]))

    def _add(self, step: str, batch: _Batch, rows: _Ints) -> None:
        rows = rows[batch.span_us[rows] >= 0]
        if len(rows):
            self._bins.add(step, batch.t_us[rows], batch.span_us[rows])

    def _fail(self, step: str, batch: _Batch, rows: _Ints, reasons: list[str]) -> None:
        for row, reason in zip(rows.tolist(), reasons, strict=True):
            self._bins.fail(step, int(batch.t_us[row]), int(batch.span_us[row]), reason)


_TAKES: dict[
    str, Callable[[Steps, _Batch, _Ints], None]
] = {  # a failure's phase before its report, an offer before its end
    Kind.CONNECT: Steps.connects,
    Kind.DOWNLOAD: Steps.downloads,
    Kind.PHASE: Steps.phases,
    Kind.REPORT: Steps.reports,
    Kind.ANSWER: Steps.answers,
    Kind.DELTA: Steps.deltas,
    Kind.OFFER: Steps.offers,
    Kind.EXECUTION: Steps.executions,
}


class Joiner:
    """What began in one process and ended in another: from an offer's due time to when its device first heard of it."""

    def __init__(self, began: float) -> None:
        self._bins = StepBins(began)
        self._due: dict[str, int] = {}
        self._heard: dict[str, int] = {}

    def __call__(self, offers: list[tuple[str, int]], heard: list[tuple[str, int]]) -> list[dict[str, Any]]:
        """The bins that these complete; either may come first."""
        for job, t_us in heard:
            self._heard.setdefault(job, t_us)
        self._due |= offers
        met = [job for job, _ in (*offers, *heard) if job in self._due and job in self._heard]
        for job in dict.fromkeys(met):
            due_us, at_us = self._due.pop(job), self._heard[job]
            self._bins.add("delta", np.array([at_us]), np.array([at_us - due_us]))
        return self._bins.take()
