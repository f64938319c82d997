"""The recorder: time and sequence are taken together, rows become columns in batches, batches go to a sink."""

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
    """How a room records an event; the columns are explained in `model.events`."""

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
        """Append one event, stamped now."""


Sink = Callable[[pa.RecordBatch], None]


class Recorder:
    """Appends events. `clock` counts `per_us` ticks a microsecond and stood at `zero` when the run began; `shard` names
    this recorder. Rooms are given its `record`, for a bound method is called faster than an object."""

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
        """Append one event, stamped now; a `Record`, which asks for names."""
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
        """How many events were recorded so far: the last one's `seq`."""
        return self._done + len(self._rows)

    def flush(self) -> None:
        """Hand what was recorded so far to the sink."""
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
    """A sink: one Arrow IPC stream, readable up to its last whole batch whatever ends the process."""

    def __init__(self, path: Path) -> None:
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._file, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="lz4"))

    def __call__(self, batch: pa.RecordBatch) -> None:
        """Write one batch through to the file."""
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
