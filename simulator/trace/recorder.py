"""Records the events of a run: the writing end of the trace.

A `Recorder` is given a clock and a sink. Every part of the simulator that has something to record is given its method
`record`, which appends one event with the time at which it is called. After BATCH_EVENTS events the rows become one Arrow
batch with the columns of `model.events`, and the sink takes it. `StreamFile` is a sink that writes a file, which
`reader.py` reads. Times are whole microseconds since the run began.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import pyarrow as pa

from simulator.model.events import COLUMNS, KINDS, SCHEMA_VERSION

SCHEMA = pa.schema(
    [(name, getattr(pa, arrow)()) for name, (arrow, _) in COLUMNS.items()],
    metadata={"fleetsim.schema": str(SCHEMA_VERSION)},
)
BATCH_EVENTS = 8192


class Record(Protocol):
    """The function by which a part of the simulator records an event; `model.events` explains the columns."""

    def __call__(
        self,
        kind: str,
        thing: str = "",
        *,
        job: str | None = None,
        status: str | None = None,
        phase: str | None = None,
        version: str | None = None,
        digest: str | None = None,
        doc: int | None = None,
        size: int | None = None,
        span_us: int | None = None,
        detail: str | None = None,
        token: str | None = None,
    ) -> None:
        """Append one event, with the present time."""


Sink = Callable[[pa.RecordBatch], None]


class Recorder:
    """Collects events and hands them to `sink` in batches. `clock` counts `per_us` ticks a microsecond and stood at `zero`
    when the run began; `shard` is this recorder's number. Pass the method `record` on and not the recorder: a method is
    called faster than an object."""

    __slots__ = ("_clock", "_done", "_per_us", "_rows", "_shard", "_sink", "_zero")

    def __init__(self, clock: Callable[[], int], sink: Sink, *, shard: int = 0, zero: int = 0, per_us: int = 1) -> None:
        self._clock, self._zero, self._per_us = clock, zero, per_us
        self._sink = sink
        self._shard = shard
        self._done = 0  # events handed on
        self._rows: list[tuple[object, ...]] = []

    def record(
        self,
        kind: str,
        thing: str = "",
        job: str | None = None,
        status: str | None = None,
        phase: str | None = None,
        version: str | None = None,
        digest: str | None = None,
        doc: int | None = None,
        size: int | None = None,
        span_us: int | None = None,
        detail: str | None = None,
        token: str | None = None,
    ) -> None:
        """Append one event, with the present time. Callers see it as a `Record`, which takes all but two arguments by name.
        An unknown kind raises ValueError only when the batch is handed on."""
        rows = self._rows
        rows.append(
            (
                self._clock(),
                kind,
                thing,
                job,
                status,
                phase,
                version,
                digest,
                doc,
                size,
                span_us,
                detail,
                token,
            )
        )
        if len(rows) >= BATCH_EVENTS:
            self.flush()

    @property
    def count(self) -> int:
        """How many events were recorded so far, which is also the `seq` of the last one."""
        return self._done + len(self._rows)

    def flush(self) -> None:
        """Hand what was recorded so far to the sink. Raises ValueError for an event kind that is not registered."""
        if self._rows:
            rows, self._rows = self._rows, []
            first, self._done = self._done + 1, self._done + len(rows)
            self._sink(self._columns(rows, first))

    def _columns(self, rows: list[tuple[object, ...]], first: int) -> pa.RecordBatch:
        """Rows, in the order of `COLUMNS` but for shard and sequence, as one batch. Raises ValueError for a kind that is
        not registered."""
        ticks, *others = zip(*rows, strict=True)
        if unknown := set(others[0]) - KINDS.keys():
            raise ValueError(f"event kinds not in the registry: {sorted(unknown)}")
        t_us = (np.array(ticks) - self._zero) // self._per_us
        own = t_us, np.full(len(rows), self._shard), np.arange(first, first + len(rows))
        arrays = [pa.array(column, type=field.type) for column, field in zip((*own, *others), SCHEMA, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


class StreamFile:
    """A sink that writes a file in Arrow's streaming format. It can be read up to its last whole batch, however the process
    ends."""

    def __init__(self, path: Path) -> None:
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._file, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="lz4"))

    def __call__(self, batch: pa.RecordBatch) -> None:
        """Write one batch to the file at once."""
        self._writer.write_batch(batch)
        self._file.flush()

    def __enter__(self) -> StreamFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stream properly; safe to call twice."""
        if not self._file.closed:
            self._writer.close()
            self._file.close()
