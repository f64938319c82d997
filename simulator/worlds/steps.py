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
import pyarrow.compute as pc

from simulator.model.events import Kind
from simulator.model.update import plain

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
        found: dict[str, Any] = {"count": self.count}
        if self.count:
            found |= {"total_ms": self.total_ms, "shortest_ms": self.shortest_ms, "longest_ms": self.longest_ms}
            found["histogram"] = list(self.histogram.items())
        if self.bytes:
            found["bytes"] = self.bytes
        if self.failures:
            found["failures"] = dict(self.failures)
        return found


class Bins:
    """Bins by step and second. `began` is the Unix time at which the record's clock began."""

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

    def fail(self, step: str, t_us: int, span_us: int | None, reason: str) -> None:
        """It failed then, after so long where that is known."""
        found = self._at(step, (t_us + self._began_us) // 1_000_000)
        found.add(np.array([span_us or 0], np.int64))
        found.failures[plain(reason) or "no reason given"] += 1

    def receive(self, step: str, t_us: int, size: int) -> None:
        """So many bytes came."""
        self._at(step, (t_us + self._began_us) // 1_000_000).bytes += size

    def take(self) -> list[dict[str, Any]]:
        """All that came since the last look: step, second (Unix time), and the bin's facts."""
        bins, self._bins = self._bins, {}
        return [{"step": step, "second": second, **found.facts()} for (step, second), found in bins.items()]


class Steps:
    """Counts a process's own batches."""

    def __init__(self, began: float) -> None:
        self._bins = Bins(began)
        self._failed: dict[str, tuple[str, int]] = {}  # by job: the step that failed, and how long it took
        self._due: dict[str, int] = {}  # by job: when its offer was due
        self._offers: list[tuple[str, int]] = []
        self._heard: list[tuple[str, int]] = []

    def __call__(self, batch: pa.RecordBatch) -> None:
        """One more batch."""
        kinds = batch.column("kind").dictionary_encode()
        codes, known = kinds.indices.to_numpy(), kinds.dictionary.to_pylist()
        for kind, take in _TAKES.items():
            if kind in known:
                take(self, batch.take(pa.array(np.flatnonzero(codes == known.index(kind)))))

    def take(self) -> dict[str, Any]:
        """What came since the last look: `steps`, and for whoever joins them `offers` and `heard`, (job, t_us) each."""
        found = {"steps": self._bins.take(), "offers": self._offers, "heard": self._heard}
        self._offers, self._heard = [], []
        return {name: rows for name, rows in found.items() if rows}

    def connects(self, rows: pa.RecordBatch) -> None:
        """Attempts to connect."""
        self._add("connect", rows.filter(pc.not_equal(rows["status"], "failed")))
        for row in rows.filter(pc.equal(rows["status"], "failed")).to_pylist():
            self._bins.fail("connect", row["t_us"], row["span_us"], row["detail"] or "")

    def downloads(self, rows: pa.RecordBatch) -> None:
        """What came over HTTP, in the second of the last."""
        self._bins.receive("download", rows["t_us"][-1].as_py(), pc.sum(rows["size"]).as_py() or 0)

    def phases(self, rows: pa.RecordBatch) -> None:
        """Work that is done, and work that failed; why is in the report."""
        for (left, entered), step in (_AFTER | _FAILED).items():
            some = rows.filter(pc.and_(pc.equal(rows["phase"], left), pc.equal(rows["status"], entered)))
            if (left, entered) in _AFTER:
                self._add(step, some)
            else:
                self._failed |= {row["job"]: (step, row["span_us"]) for row in some.to_pylist()}

    def reports(self, rows: pa.RecordBatch) -> None:
        """The first of a connection ends its subscribing; the first of a failure tells its reason."""
        self._add("subscribe", rows.filter(pc.and_(pc.equal(rows["status"], "initial"), rows["span_us"].is_valid())))
        for row in rows.filter(pc.and_(pc.equal(rows["status"], "FAILURE"), pc.equal(rows["size"], 1))).to_pylist():
            if (failed := self._failed.pop(row["job"], None)) is not None:
                self._bins.fail(failed[0], row["t_us"], failed[1], row["detail"] or "")

    def answers(self, rows: pa.RecordBatch) -> None:
        """Of reports of an end."""
        ends = rows.filter(pc.and_(rows["job"].is_valid(), rows["span_us"].is_valid()))
        self._add("report", ends.filter(pc.equal(ends["status"], "accepted")))
        for row in ends.filter(pc.not_equal(ends["status"], "accepted")).to_pylist():
            self._bins.fail("report", row["t_us"], row["span_us"], f"{row['status']}: {row['detail'] or ''}")

    def deltas(self, rows: pa.RecordBatch) -> None:
        """By which a device learned of what was not known to it."""
        new = rows.filter(pc.is_in(rows["status"], pa.array(["start", "supersede", "installed"])))
        self._heard += zip(new["job"].to_pylist(), new["t_us"].to_pylist(), strict=True)

    def offers(self, rows: pa.RecordBatch) -> None:
        """From when they were due."""
        sent = rows.filter(pc.equal(rows["status"], "sent"))
        due = (sent["t_us"].to_numpy() - sent["span_us"].to_numpy(zero_copy_only=False)).astype(np.int64).tolist()
        made = list(zip(sent["job"].to_pylist(), due, strict=True))
        self._offers += made
        self._due |= made

    def executions(self, rows: pa.RecordBatch) -> None:
        """Whole updates, as the application learned of their ends."""
        for row in rows.filter(pc.is_in(rows["status"], pa.array(["SUCCEEDED", *_ENDS]))).to_pylist():
            t_us, due_us = row["t_us"], self._due.pop(row["job"], None)
            if row["status"] != "SUCCEEDED":
                reason = f"{row['status']}: {row['detail'] or ''}"
                self._bins.fail("update", t_us, None if due_us is None else t_us - due_us, reason)
            elif due_us is not None:
                self._bins.add("update", np.array([t_us]), np.array([t_us - due_us]))

    def _add(self, step: str, rows: pa.RecordBatch) -> None:
        rows = rows.filter(rows["span_us"].is_valid())
        if rows.num_rows:
            self._bins.add(step, rows["t_us"].to_numpy(), rows["span_us"].to_numpy())


_TAKES: dict[
    str, Callable[[Steps, pa.RecordBatch], None]
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


class Joined:
    """What began in one process and ended in another: from an offer's due time to when its device first heard of it."""

    def __init__(self, began: float) -> None:
        self._bins = Bins(began)
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
