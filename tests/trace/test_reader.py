"""The trace as its readers want it: order, codes, groups, the latest before, files, timelines and differences."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simulator.model.errors import ScenarioError
from simulator.model.events import COLUMNS, Kind
from simulator.trace.reader import (
    Trace,
    describe,
    first_difference,
    in_order,
    read_parquet,
    timeline,
    write_parquet,
)
from simulator.trace.recorder import SCHEMA


def batch(*events):
    """Events as (t_us, shard, seq, kind, thing, {column: value}) in one batch."""
    rows = [dict(zip(COLUMNS, event[:5], strict=False)) | (event[5] if event[5:] else {}) for event in events]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def trace(*events):
    """(kind, thing, {column: value}), one microsecond apart."""
    return Trace(in_order([batch(*((i, 0, i, *event) for i, event in enumerate(events)))]))


STORY = (
    ("boot", "a", {"status": "cold", "version": "1", "digest": "d" * 64}),
    ("phase", "a", {"job": "j1", "status": "downloading", "span_us": 5}),
    ("phase", "b", {"job": "j2", "status": "downloading"}),
    ("phase", "a", {"job": "j1", "status": "idle", "size": 0}),
    ("run", "", {"status": "end"}),
)


def test_the_order_is_time_then_shard_then_sequence_whatever_the_order_of_batches():
    keys = [(t, shard, seq) for t in (5, 7) for shard in (0, 2, 10) for seq in (1, 2)]
    for seed in range(5):
        mixed = random.Random(seed).sample(keys, len(keys))
        table = in_order([batch(*((*key, "run", "") for key in part)) for part in (mixed[:5], mixed[5:])])
        assert [(r["t_us"], r["shard"], r["seq"]) for r in table.to_pylist()] == keys


@pytest.mark.parametrize(
    "keys", [[(7, 0, 1), (5, 0, 2)], [(5, 2, 1), (5, 0, 2)], [(5, 2, 2), (5, 2, 1)], [(5, 0, 9), (5, 2, 1), (7, 0, 1)]]
)
def test_a_single_event_out_of_order_is_put_right(keys):
    table = in_order([batch(*((*key, "run", "") for key in keys))])
    assert [(r["t_us"], r["shard"], r["seq"]) for r in table.to_pylist()] == sorted(keys)


def test_codes_and_words_say_the_same_as_the_rows():
    made = trace(*STORY)
    assert made.kind(Kind.PHASE).texts("thing") == ["a", "b", "a"]
    assert made.kind(Kind.PHASE)["span_us"].tolist() == [5, -1, -1]
    assert made.kind(Kind.PHASE)["size"].tolist() == [-1, -1, 0]
    assert made.kind(Kind.RUN).texts("job") == [""]
    assert made.kind(Kind.RUN)["job"].tolist() == [-1]
    assert made.words("thing")[made.code("thing", "b")] == "b"
    assert made.code("thing", "nobody") == -2
    assert sorted(made.kind(Kind.PHASE).distinct("status")) == ["downloading", "idle"]


def test_groups_by_kind_thing_execution_and_value():
    made = trace(*STORY)
    assert made.kind(Kind.PHASE, Kind.RUN).rows.tolist() == [1, 2, 3, 4]
    assert made.kind(Kind.COMMIT).rows.tolist() == []
    assert made.thing("a").rows.tolist() == [0, 1, 3]
    assert made.execution("j1").rows.tolist() == [1, 3]
    assert [len(made.thing("nobody")), len(made.execution("none"))] == [0, 0]
    assert made.kind(Kind.PHASE).where("status", "downloading", "unheard of").rows.tolist() == [1, 2]
    assert made.thing("a").only(made.thing("a")["span_us"] >= 0).rows.tolist() == [1]


def test_a_trace_of_nothing():
    empty = Trace(in_order([]))
    assert len(empty) == len(empty.kind(Kind.RUN)) == len(empty.thing("a")) == len(empty.execution("j")) == 0
    assert empty.words("thing") == []
    assert empty.kind(Kind.RUN).texts("status") == empty.kind(Kind.RUN).distinct("status") == []
    assert empty.kind(Kind.RUN).latest(empty.kind(Kind.RUN), "thing").tolist() == []
    assert empty.kind(Kind.RUN).soonest(empty.kind(Kind.RUN), "thing").tolist() == []


def test_latest_and_soonest_are_the_last_before_and_the_first_after_with_the_same_values():
    made = trace(
        ("commit", "a", {"job": "j1"}), ("commit", "a", {"job": "j2"}), ("commit", "b", {"job": "j1"}),
        ("report", "a", {"job": "j1"}), ("report", "c", {"job": "j1"}), ("report", "b"), ("commit", "b"),
        ("report", "b"),
    )  # fmt: skip
    reports, commits = made.kind(Kind.REPORT), made.kind(Kind.COMMIT)
    assert reports.latest(commits, "thing").tolist() == [1, -1, 2, 3]
    assert reports.latest(commits, "thing", "job").tolist() == [0, -1, -1, 3]
    assert commits.latest(reports, "thing").tolist() == [-1, -1, -1, 2]
    assert commits.soonest(reports, "thing").tolist() == [0, 0, 2, 3]
    assert commits.soonest(reports, "thing", "job").tolist() == [0, -1, -1, 3]
    assert reports.soonest(commits, "thing").tolist() == [-1, -1, 3, -1]
    assert reports.soonest(made.kind(Kind.BOOT), "thing").tolist() == [-1] * 4
    assert reports.latest(made.kind(Kind.BOOT), "thing").tolist() == [-1] * 4


def test_latest_and_soonest_agree_with_a_plain_search():
    dice = random.Random(1)
    events = [(dice.choice(("commit", "report")), dice.choice("abc"), {"job": dice.choice((None, "x", "y"))})
              for _ in range(300)]  # fmt: skip
    made = trace(*events)
    commits, reports = made.kind(Kind.COMMIT), made.kind(Kind.REPORT)

    def plain(row):
        same = [at for at, other in enumerate(commits.rows.tolist()) if events[other][1:] == events[row][1:]]
        before = [at for at in same if commits.rows[at] < row]
        after = [at for at in same if commits.rows[at] > row]
        return before[-1] if before else -1, after[0] if after else -1

    found = zip(reports.latest(commits, "thing", "job"), reports.soonest(commits, "thing", "job"), strict=True)
    assert list(found) == [plain(row) for row in reports.rows.tolist()]


# ---- files


def test_parquet_keeps_every_row_null_and_type(tmp_path):
    table = in_order([batch(*((i, 0, i, *event) for i, event in enumerate(STORY)))])
    write_parquet(table, tmp_path / "t.parquet")
    again = read_parquet(tmp_path / "t.parquet")
    assert again.to_pylist() == table.to_pylist()
    assert first_difference(table, again) is None
    stored = pq.read_schema(tmp_path / "t.parquet")
    assert stored.equals(SCHEMA)
    assert stored.metadata[b"fleetsim.schema"]


def test_the_same_rows_give_the_same_bytes_however_they_were_gathered(tmp_path):
    events = [(i, i % 3, i, "phase", f"device-{i % 7}", {"job": f"j{i % 5}"}) for i in range(200)]
    whole = in_order([batch(*events)])
    parts = in_order([batch(*[e for e in reversed(events) if e[1] == shard]) for shard in (2, 0, 1)])
    for table, name in ((whole, "a"), (parts, "b")):
        write_parquet(table, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert whole.cast(SCHEMA).equals(parts.cast(SCHEMA))


def test_a_trace_longer_than_a_row_group_is_one_trace(tmp_path, monkeypatch):
    monkeypatch.setattr("simulator.trace.reader._ROW_GROUP", 50)
    table = in_order([batch(*((i, 0, i, "phase", f"device-{i}") for i in range(120)))])
    write_parquet(table, tmp_path / "t.parquet")
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == 3
    again = Trace(read_parquet(tmp_path / "t.parquet"))
    assert again.kind(Kind.PHASE).texts("thing") == [f"device-{i}" for i in range(120)]
    assert again.thing("device-77").rows.tolist() == [77]


def test_an_empty_trace_has_a_file_too(tmp_path):
    write_parquet(in_order([]), tmp_path / "t.parquet")
    assert len(Trace(read_parquet(tmp_path / "t.parquet"))) == 0


def test_what_is_no_trace_says_so(tmp_path):
    (tmp_path / "text").write_text("no parquet")
    pq.write_table(pa.table({"t_us": [1]}), tmp_path / "other")
    pq.write_table(pa.table({name: [1] for name in SCHEMA.names}), tmp_path / "types")
    for name, said in (("text", "not a trace"), ("other", "lacks .*kind"), ("types", "of another type"),
                       ("none", "not a trace")):  # fmt: skip
        with pytest.raises(ScenarioError, match=said):
            read_parquet(tmp_path / name)


def test_a_trace_of_an_older_version_lacks_the_columns_that_came_later(tmp_path):
    table = in_order([batch((0, 0, 0, "report", "a", {"token": "t"}))])
    pq.write_table(
        table.drop_columns(["token"]).cast(pa.schema([f for f in SCHEMA if f.name != "token"])), tmp_path / "t"
    )
    found = Trace(read_parquet(tmp_path / "t"))
    assert found.kind(Kind.REPORT)["token"].tolist() == [-1]
    assert first_difference(found.table, in_order([batch((0, 0, 0, "report", "a"))])) is None


def test_no_damaged_byte_goes_unnoticed(tmp_path):
    table = in_order([batch(*((i, 0, i, "phase", f"device-{i}", {"job": "j"}) for i in range(300)))])
    write_parquet(table, tmp_path / "t.parquet")
    whole, dice = (tmp_path / "t.parquet").read_bytes(), random.Random(3)
    for at in dice.sample(range(len(whole)), 150):
        broken = bytearray(whole)
        broken[at] ^= 1 << dice.randrange(8)
        (tmp_path / "t.parquet").write_bytes(broken)
        try:
            found = read_parquet(tmp_path / "t.parquet")
        except ScenarioError:
            continue
        assert found.to_pylist() == table.to_pylist(), at


# ---- for a person


def test_an_event_as_a_line():
    made = trace(*STORY)
    assert describe(made.row(0)).split() == ["0.000000s", "boot", "a", "status=cold", "version=1",
                                             "digest=dddddddddddd"]  # fmt: skip
    assert "took=0.000005s" in describe(made.row(1))
    assert " a " not in describe(made.row(1), named=False)


def test_a_line_holds_nothing_that_a_terminal_would_obey():
    line = describe({"t_us": 0, "kind": "offer", "thing": "a\nb", "detail": "\x1b[2Jred"})
    assert line.isprintable()
    assert "\\x1b[2Jred" in line


def test_a_timeline_is_one_things_events_in_order():
    lines = list(timeline(trace(*STORY), "a"))
    assert [line.split()[1] for line in lines] == ["boot", "phase", "phase"]
    assert [line.split()[3] for line in timeline(trace(*STORY), "j2")] == ["job=j2"]
    with pytest.raises(ScenarioError, match="'c'"):
        next(timeline(trace(*STORY), "c"))


def test_the_first_difference_is_found_wherever_it_is():
    events = [(i, 0, i, "phase", f"device-{i % 3}") for i in range(50)]
    table = in_order([batch(*events)])
    assert first_difference(table, in_order([batch(*events)])) is None
    for at in (0, 1, 24, 49):
        changed = list(events)
        changed[at] = (*events[at][:4], "other")
        row, ours, theirs = first_difference(table, in_order([batch(*changed)]))
        assert (row, "other" in ours, "other" in theirs) == (at, False, True)
    shorter = in_order([batch(*events[:40])])
    assert first_difference(table, shorter)[::2] == (40, "(no further event)")
    assert first_difference(in_order([]), shorter)[0] == 0


def test_columns_are_as_small_as_their_codes():
    made = trace(*STORY)
    assert made.column("thing").dtype == np.int32
    assert made.column("t_us").dtype == np.int64


def test_what_is_made_of_a_trace_is_made_once_for_the_same_objects():
    made, calls = trace(*STORY), []

    def count(of, *more):
        calls.append((of, *more))
        return len(calls)

    one, other = [1], [1]
    assert [made.once(count), made.once(count, one), made.once(count, one), made.once(count, other)] == [1, 2, 2, 3]
    assert made.once(count) == 1
    assert calls == [(made,), (made, one), (made, other)]
    assert trace(*STORY).once(count) == 4
