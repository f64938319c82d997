"""The trace as its readers want it: whole, in order, text as dictionary codes, grouped by kind, thing or execution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from simulator.model.errors import ScenarioError
from simulator.trace.recorder import SCHEMA

Codes = npt.NDArray[np.int64]
_TEXT = tuple(f.name for f in SCHEMA if f.type == pa.string())


def read_stream(path: Path) -> tuple[list[pa.RecordBatch], bool]:
    """The whole batches of one recorder's stream, and whether it ended properly."""
    batches: list[pa.RecordBatch] = []
    try:
        with pa.ipc.open_stream(path) as stream:
            for batch in stream:
                batches.append(batch)
    except (pa.ArrowInvalid, OSError):
        return batches, False
    return batches, True


def in_order(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """One table, ordered by (t_us, shard, seq)."""
    table = pa.Table.from_batches(batches, schema=SCHEMA)
    return table.sort_by([("t_us", "ascending"), ("shard", "ascending"), ("seq", "ascending")])


def write_parquet(table: pa.Table, path: Path) -> None:
    """The trace's file: the same rows give the same bytes."""
    pq.write_table(table, path, compression="zstd", use_dictionary=list(_TEXT), row_group_size=1 << 20)


def read_parquet(path: Path) -> pa.Table:
    """Read a trace's file. Raises ScenarioError for anything else."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ScenarioError(f"{path}: not a trace: {error}") from None
    if missing := set(SCHEMA.names) - set(table.column_names):
        raise ScenarioError(f"{path}: not a trace: it lacks {', '.join(sorted(missing))}")
    return table


class View:
    """Some rows of a trace, in order: `rows` are their numbers, `view["column"]` their values."""

    __slots__ = ("_trace", "rows")

    def __init__(self, trace: Trace, rows: Codes) -> None:
        self._trace, self.rows = trace, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        """Numbers as they are (null: -1), text as codes (null: -1); `trace.text` turns codes into text."""
        return self._trace.column(column)[self.rows]

    def texts(self, column: str) -> list[str]:
        """The column as text; null is empty."""
        words = self._trace.words(column)
        return [words[code] if code >= 0 else "" for code in self[column].tolist()]

    def where(self, column: str, *values: str) -> View:
        """The rows in which this text column has one of these values."""
        codes = [self._trace.code(column, value) for value in values]
        return View(self._trace, self.rows[np.isin(self[column], codes)])


class Trace:
    """A whole trace. Columns are decoded once, text stays dictionary-encoded."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._columns: dict[str, npt.NDArray[Any]] = {}
        self._words: dict[str, list[str]] = {}
        self._lookup: dict[str, dict[str, int]] = {}
        self._kinds: dict[str, View] = {}

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> npt.NDArray[Any]:
        """All values of a column: numbers, or codes of text; -1 where there is none."""
        found = self._columns.get(name)
        if found is None:
            found = self._columns[name] = self._decode(name)
        return found

    def _decode(self, name: str) -> npt.NDArray[Any]:
        column = self.table.column(name)
        if name not in _TEXT:
            return np.asarray(column.fill_null(-1).combine_chunks().to_numpy(zero_copy_only=False))
        encoded = column.combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = pa.concat_arrays(encoded.chunks) if encoded.num_chunks else pa.array([], pa.string())
        if not pa.types.is_dictionary(encoded.type):
            encoded = encoded.dictionary_encode()
        self._words[name] = encoded.dictionary.to_pylist()
        return np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False))

    def words(self, name: str) -> list[str]:
        """code -> text."""
        self.column(name)
        return self._words[name]

    def code(self, name: str, text: str) -> int:
        """text -> code; -2 where it never occurs."""
        if name not in self._lookup:
            self._lookup[name] = {word: code for code, word in enumerate(self.words(name))}
        return self._lookup[name].get(text, -2)

    def kind(self, *kinds: str) -> View:
        """The events of these kinds."""
        key = "|".join(kinds)
        if key not in self._kinds:
            codes = [self.code("kind", kind) for kind in kinds]
            self._kinds[key] = View(self, np.flatnonzero(np.isin(self.column("kind"), codes)))
        return self._kinds[key]

    @cached_property
    def _thing_order(self) -> tuple[Codes, Codes]:
        things = self.column("thing")
        order = np.argsort(things, kind="stable")
        return order, things[order]

    def thing(self, name: str) -> View:
        """One thing's events."""
        order, sorted_codes = self._thing_order
        code = self.code("thing", name)
        first, last = np.searchsorted(sorted_codes, [code, code + 1])
        return View(self, order[first:last] if code >= 0 else order[:0])

    def row(self, number: int) -> dict[str, Any]:
        """One event, without its empty columns."""
        values = self.table.slice(number, 1).to_pylist()[0]
        return {name: value for name, value in values.items() if value not in (None, "")}


def describe(event: dict[str, Any]) -> str:
    """One event as a line for a person."""
    rest = {k: v for k, v in event.items() if k not in ("t_us", "shard", "seq", "kind", "thing")}
    if "span_us" in rest:
        rest["took"] = f"{rest.pop('span_us') / 1e6:.6f}s"
    if "digest" in rest:
        rest["digest"] = rest["digest"][:12]
    said = "  ".join(f"{k}={v}" for k, v in rest.items())
    return f"{event['t_us'] / 1e6:14.6f}s  {event['kind']:<17} {event.get('thing', ''):<14} {said}"


def timeline(trace: Trace, thing: str) -> Iterator[str]:
    """One thing's story, a line for each event. Raises ScenarioError for a thing that the trace does not know."""
    view = trace.thing(thing)
    if not len(view):
        raise ScenarioError(f"no event of {thing!r} in this trace")
    for number in view.rows.tolist():
        yield describe(trace.row(number))


def first_difference(a: pa.Table, b: pa.Table) -> tuple[int, str, str] | None:
    """(row, event of a, event of b) where two traces differ first; None where they are the same."""
    if a.equals(b):
        return None
    ours, theirs = Trace(a), Trace(b)
    low, high = 0, min(len(ours), len(theirs))
    while low < high:  # the first row not covered by an equal prefix
        middle = (low + high) // 2
        if a.slice(low, middle - low + 1).equals(b.slice(low, middle - low + 1)):
            low = middle + 1
        else:
            high = middle
    said = [describe(t.row(low)) if low < len(t) else "(no further event)" for t in (ours, theirs)]
    return low, said[0], said[1]
