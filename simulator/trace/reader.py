"""The trace of a run, as checks and reports read it.

A trace is one table of events, ordered by (t_us, shard, seq). Text columns are dictionary codes: each text is stored once, and
the column holds its number (null: -1), so that millions of rows are compared as integers. Nobody walks over events one by
one: a `View` is some rows of the trace, and filtering or joining views gives row numbers as NumPy arrays. What several
checks need is computed by `Trace.once`, for the first who asks, and kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from simulator.model.errors import ScenarioError
from simulator.model.events import Kind
from simulator.trace.recorder import SCHEMA

Codes = npt.NDArray[np.int64]
_Made = TypeVar("_Made")
_LATER = ("token",)  # columns that the traces of older versions lack
_TEXT = tuple(f.name for f in SCHEMA if f.type == pa.string())
_ENCODED = pa.schema(
    [f.with_type(pa.dictionary(pa.int32(), pa.string())) if f.name in _TEXT else f for f in SCHEMA], SCHEMA.metadata
)
_ROW_GROUP = 1 << 20
_GROUPS_MAX = 1 << 62  # groups times rows: what an int64 can number
_END = b"\xff\xff\xff\xff\0\0\0\0"  # Arrow IPC streaming format: the end-of-stream marker


def read_stream(path: Path) -> tuple[list[pa.RecordBatch], bool]:
    """The whole batches of one recorder's stream, and whether it ended properly."""
    batches: list[pa.RecordBatch] = []
    try:
        with pa.ipc.open_stream(path) as stream:
            for batch in stream:
                batches.append(batch)
        with path.open("rb") as file:
            file.seek(-len(_END), os.SEEK_END)
            return batches, file.read() == _END
    except (pa.ArrowException, OSError):
        return batches, False


def in_order(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """One table, ordered by (t_us, shard, seq), its text as dictionary codes."""
    return merged([encoded(batches)])


def encoded(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """One table of a recorder's batches, its text as dictionary codes: a third of their size."""
    return _encoded(pa.Table.from_batches(batches, schema=SCHEMA))


def merged(tables: list[pa.Table]) -> pa.Table:
    """One table of several that are encoded, ordered by (t_us, shard, seq)."""
    table = tables[0] if len(tables) == 1 else _encoded(pa.concat_tables(tables or [encoded([])]))
    t_us, shard, seq = (table[name].to_numpy() for name in ("t_us", "shard", "seq"))
    later, level = np.diff(t_us), np.diff(shard)
    follows = (later > 0) | ((later == 0) & ((level > 0) | ((level == 0) & (np.diff(seq) > 0))))
    return table if follows.all() else table.take(pa.array(np.lexsort((seq, shard, t_us))))


def _encoded(table: pa.Table) -> pa.Table:
    """Each column in one piece, text as dictionary codes."""
    return pa.table([_in_one(table.column(field.name), field.type) for field in _ENCODED], schema=_ENCODED)


def _in_one(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    if not len(column):
        return pa.array([], kind)
    if pa.types.is_string(column.type):
        chunks = column.dictionary_encode().chunks  # all with the same dictionary
        return pa.DictionaryArray.from_arrays(pa.concat_arrays([c.indices for c in chunks]), chunks[0].dictionary)
    if pa.types.is_dictionary(kind):
        column = column.unify_dictionaries()
    return column.combine_chunks()


def write_parquet(table: pa.Table, path: Path) -> None:
    """The trace's file, whole or not at all: the same rows give the same bytes."""
    part = path.with_name(path.name + ".part")
    with pq.ParquetWriter(
        part, SCHEMA, compression="zstd", use_dictionary=list(_TEXT), write_page_checksum=True
    ) as file:
        for start in range(0, len(table), _ROW_GROUP):
            file.write_table(table.slice(start, _ROW_GROUP).cast(SCHEMA), row_group_size=_ROW_GROUP)
    part.replace(path)


def read_parquet(path: Path) -> pa.Table:
    """Read a trace's file. Raises ScenarioError for anything else."""
    try:
        table = pq.read_table(path, read_dictionary=list(_TEXT), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise ScenarioError(f"{path}: not a trace, or a damaged one: {error}") from None
    for name in _LATER:
        if name not in table.column_names:
            table = table.append_column(_ENCODED.field(name), pa.nulls(len(table), _ENCODED.field(name).type))
    if missing := set(SCHEMA.names) - set(table.column_names):
        raise ScenarioError(f"{path}: not a trace: it lacks {', '.join(sorted(missing))}")
    if other := [f.name for f in _ENCODED if table.schema.field(f.name).type != f.type]:
        raise ScenarioError(f"{path}: not a trace: {', '.join(other)} of another type")
    return _encoded(table)


class View:
    """Some rows of a trace, in order: `rows` are their numbers in `trace`, `view["column"]` their values."""

    __slots__ = ("rows", "trace")

    def __init__(self, trace: Trace, rows: Codes) -> None:
        self.rows, self.trace = rows, trace

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        """Numbers as they are (null: -1), text as codes (null: -1); `trace.words` turns codes into text."""
        return self.trace.column(column)[self.rows]

    def texts(self, column: str) -> list[str]:
        """The column as text; null is empty."""
        codes, words = self[column], self.trace.words(column)
        return [words[code] if code >= 0 else "" for code in codes.tolist()]

    def distinct(self, column: str) -> list[str]:
        """The texts that stand in the column, each once, in no order; without null."""
        words = self.trace.words(column)
        return [words[code] for code in np.unique(self[column]).tolist() if code >= 0]

    def where(self, column: str, *values: str) -> View:
        """The rows in which this text column has one of these values."""
        return self.only(self.trace.among(column, self[column], values))

    def only(self, mask: npt.NDArray[np.bool_]) -> View:
        """The rows for which the mask, one value a row, is true."""
        return View(self.trace, self.rows[mask])

    def latest(self, past: View, *by: str) -> Codes:
        """For each row, which row of `past` (its position there) came last before it with the same values in the one
        or two columns `by`; -1 where none did."""
        ours, theirs = _groups(self, past, by)
        return newest(ours, self.rows, past, theirs)

    def soonest(self, future: View, *by: str) -> Codes:
        """For each row, which row of `future` (its position there) came first after it, in the same way."""
        ours, theirs = _groups(self, future, by)
        span = np.int64(len(self.trace) + 1)
        order, places = _places(future, theirs, span)
        at = np.searchsorted(places, ours * span + self.rows, "right")
        has_future = np.append(places, np.iinfo(np.int64).max)[at] < (ours + 1) * span
        return np.where(has_future, np.append(order, -1)[at], -1)


def newest(groups: Codes, rows: Codes, past: View, of: Codes) -> Codes:
    """For each of the rows, which of `past` (its position there), whose groups are `of`, came last before it in its
    own group; -1 where none did."""
    span = np.int64(len(past.trace) + 1)
    order, places = _places(past, of, span)
    base = groups.astype(np.int64) * span
    at = np.searchsorted(places, base + rows) - 1
    has_past = (at >= 0) & (places[at] >= base) if len(places) else np.zeros(len(rows), bool)
    return np.where(has_past, order[at] if len(order) else -1, -1)


def _places(view: View, groups: Codes, span: np.int64) -> tuple[Codes, Codes]:
    """The view's positions ordered by group and row, and the place of each in that order."""
    order = np.argsort(groups, kind="stable")
    return order, groups[order].astype(np.int64) * span + view.rows[order]


def _groups(view: View, other: View, by: tuple[str, ...]) -> tuple[Codes, Codes]:
    """One number for each row of both views, the same where the values in these columns are."""
    keys = np.concatenate([view[by[0]], other[by[0]]]).astype(np.int64)
    for column in by[1:]:
        values = np.concatenate([view[column], other[column]]) + np.int64(1)
        keys = (keys + 1) * (values.max(initial=0) + 1) + values
    if keys.max(initial=0) >= _GROUPS_MAX // (len(view.trace) + 1):
        keys = np.unique(keys, return_inverse=True)[1]
    return keys[: len(view)], keys[len(view) :]


class Trace:
    """A whole trace. Columns are decoded once, text stays dictionary-encoded."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._columns: dict[str, npt.NDArray[Any]] = {}
        self._words: dict[str, list[str]] = {}
        self._kinds: dict[tuple[str, ...], View] = {}
        self._codes: dict[str, dict[str, int]] = {}
        self._made: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> npt.NDArray[Any]:
        """All values of a column: numbers, or codes of text; -1 where there is none."""
        decoded = self._columns.get(name)
        if decoded is None:
            (values,) = self.table.column(name).chunks or [pa.array([], _ENCODED.field(name).type)]
            values = values.indices if name in _TEXT else values
            decoded = self._columns[name] = np.asarray(values.fill_null(-1) if values.null_count else values)
        return decoded

    def dictionary(self, name: str) -> pa.Array:
        """The texts of a column, in the order of their codes."""
        chunks = self.table.column(name).chunks
        return chunks[0].dictionary if chunks else pa.array([], pa.string())

    def words(self, name: str) -> list[str]:
        """code -> text."""
        if name not in self._words:
            self._words[name] = self.dictionary(name).to_pylist()
        return self._words[name]

    def code(self, name: str, text: str) -> int:
        """text -> code; -2 where it never occurs."""
        codes = self._codes.get(name)
        if codes is None:
            codes = self._codes[name] = {word: code for code, word in enumerate(self.words(name))}
        return codes.get(text, -2)

    def among(self, name: str, codes: npt.NDArray[Any], texts: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """For each of this column's codes, whether it is that of one of a few texts."""
        first, *others = texts
        mask = np.asarray(codes == self.code(name, first))
        for text in others:
            mask |= codes == self.code(name, text)
        return mask

    def kind(self, *kinds: str) -> View:
        """The events of these kinds."""
        if kinds not in self._kinds:
            self._kinds[kinds] = View(self, np.flatnonzero(self.among("kind", self.column("kind"), kinds)))
        return self._kinds[kinds]

    def once(self, make: Callable[..., _Made], *of: Any) -> _Made:
        """`make(trace, *of)`, made when it is first asked for of these very objects, and shared from then on."""
        key = (make, *map(id, of))
        if key not in self._made:
            self._made[key] = make(self, *of), of  # kept, so that no other object can have its id
        made: _Made = self._made[key][0]
        return made

    @cached_property
    def _by_thing(self) -> tuple[Codes, Codes]:
        return _grouped(self.column("thing"))

    @cached_property
    def _by_job(self) -> tuple[Codes, Codes]:
        return _grouped(self.column("job"))

    def thing(self, name: str) -> View:
        """One thing's events."""
        return self._group(self._by_thing, self.code("thing", name))

    def execution(self, job: str) -> View:
        """One execution's events."""
        return self._group(self._by_job, self.code("job", job))

    def _group(self, groups: tuple[Codes, Codes], code: int) -> View:
        order, ordered = groups
        first, last = np.searchsorted(ordered, [code, code + 1]) if code >= 0 else (0, 0)
        return View(self, order[first:last])

    def row(self, number: int) -> dict[str, Any]:
        """One event, without its empty columns."""
        values = self.table.slice(number, 1).to_pylist()[0]
        return {name: value for name, value in values.items() if value not in (None, "")}


def _grouped(codes: Codes) -> tuple[Codes, Codes]:
    """The rows ordered by code, those of one code in their own order; and the codes in that order."""
    order = np.argsort(codes, kind="stable")
    return order, codes[order]


def describe(event: dict[str, Any], *, named: bool = True) -> str:
    """One event as a line for a person; control characters are escaped. `named`: with the name of its thing."""
    rest = {k: v for k, v in event.items() if k not in ("t_us", "shard", "seq", "kind", "thing")}
    if "span_us" in rest:
        name = "grant-for" if event["kind"] == Kind.DELTA else "took"
        rest[name] = f"{rest.pop('span_us') / 1e6:.6f}s"
    if "digest" in rest:
        rest["digest"] = rest["digest"][:12]
    fields = "  ".join(f"{k}={v}" for k, v in rest.items())
    thing = f"{event.get('thing', ''):<14} " if named else ""
    line = f"{event['t_us'] / 1e6:14.6f}s  {event['kind']:<17} {thing}{fields}"
    return line if line.isprintable() else line.encode("unicode_escape").decode()


def timeline(trace: Trace, name: str) -> Iterator[str]:
    """The story of one thing, or of one job, a line for each event. Raises ScenarioError where the trace knows
    neither."""
    view = trace.thing(name) or trace.execution(name)
    if not view:
        raise ScenarioError(f"no event of {name!r} in this trace")
    for number in view.rows.tolist():
        yield describe(trace.row(number))


def first_difference(a: pa.Table, b: pa.Table) -> tuple[int, str, str] | None:
    """(row, event of a, event of b) where two traces differ first; None where they are the same."""
    one_side, theirs = Trace(a), Trace(b)
    a, b = a.cast(SCHEMA), b.cast(SCHEMA)  # the same text may have different codes
    if a.equals(b):
        return None
    low, high = 0, min(len(one_side), len(theirs))
    while low < high:  # the first row not covered by an equal prefix
        middle = (low + high) // 2
        if a.slice(low, middle - low + 1).equals(b.slice(low, middle - low + 1)):
            low = middle + 1
        else:
            high = middle
    lines = [describe(t.row(low)) if low < len(t) else "(no further event)" for t in (one_side, theirs)]
    return low, lines[0], lines[1]
