"""The recorder: time and sequence together, batches, what it refuses, and a stream that outlives its process."""

import itertools

import pyarrow as pa
import pytest

from simulator.model.events import COLUMNS, Kind
from simulator.model.update import Phase, State
from simulator.trace.reader import in_order, read_stream
from simulator.trace.recorder import BATCH_EVENTS, SCHEMA, Recorder, StreamFile


def made(batches, shard=0, step_us=1):
    return Recorder(itertools.count(0, step_us).__next__, batches.append, shard=shard)


def rows(batches):
    return [row for batch in batches for row in batch.to_pylist()]


def test_each_event_gets_the_time_and_the_next_number():
    batches = []
    recorder = made(batches, shard=7, step_us=10)
    for _ in range(3):
        recorder.record(Kind.RUN)
    recorder.flush()
    assert [(r["t_us"], r["shard"], r["seq"]) for r in rows(batches)] == [(0, 7, 1), (10, 7, 2), (20, 7, 3)]


def test_a_clock_of_nanoseconds_gives_the_whole_microseconds_since_the_run_began():
    batches = []
    recorder = Recorder(iter([5_000, 5_999, 6_000, 4_999]).__next__, batches.append, zero=5_000, per_us=1_000)
    for _ in range(4):
        recorder.record(Kind.RUN)
    recorder.flush()
    assert [row["t_us"] for row in rows(batches)] == [0, 0, 1, -1]


def test_every_column_comes_back_as_it_was_given():
    given = {"job": "j", "status": "sent", "phase": "idle", "version": "1", "digest": "d", "doc": 2, "size": 3,
             "span_us": 4, "detail": "é ✓", "token": "r1"}  # fmt: skip
    batches = []
    recorder = made(batches)
    recorder.record(Kind.OFFER, "device-0", **given)
    recorder.record(Kind.RUN)
    recorder.flush()
    full, empty = rows(batches)
    assert full == {"t_us": 0, "shard": 0, "seq": 1, "kind": "offer", "thing": "device-0", **given}
    assert {name for name, value in empty.items() if value is None} == set(given)
    assert set(full) == set(COLUMNS)


def test_members_of_enumerations_are_plain_text():
    batches = []
    recorder = made(batches)
    recorder.record(Kind.EXECUTION, "a", status=State.SUCCEEDED, phase=Phase.IDLE)
    recorder.flush()
    assert [(r["status"], r["phase"]) for r in rows(batches)] == [("SUCCEEDED", "idle")]


def test_batches_are_handed_on_when_full_and_a_flush_of_nothing_is_nothing():
    batches = []
    recorder = made(batches)
    recorder.flush()
    for _ in range(BATCH_EVENTS + 1):
        recorder.record(Kind.RUN)
    assert [batch.num_rows for batch in batches] == [BATCH_EVENTS]
    recorder.flush()
    recorder.flush()
    assert [batch.num_rows for batch in batches] == [BATCH_EVENTS, 1]


def test_an_unregistered_kind_is_refused_by_name():
    recorder = made([])
    recorder.record(Kind.RUN)
    recorder.record("ruhn")
    with pytest.raises(ValueError, match="ruhn"):
        recorder.flush()


def stream(path, *batches_of, close=True):
    """A stream file with batches of these sizes; unclosed as a killed process leaves it."""
    file = StreamFile(path)
    recorder = Recorder(itertools.count().__next__, file)
    for events in batches_of:
        for _ in range(events):
            recorder.record(Kind.PHASE, "device-1", job="j", status="idle")
        recorder.flush()
    if close:
        file.close()
    return path


def test_a_stream_is_read_as_it_was_written(tmp_path):
    batches, whole = read_stream(stream(tmp_path / "a.arrow", 3, 2))
    assert whole
    assert [r["seq"] for r in rows(batches)] == [1, 2, 3, 4, 5]
    assert batches[0].schema == SCHEMA


def test_closing_twice_does_no_harm(tmp_path):
    with StreamFile(tmp_path / "a.arrow") as file:
        file.close()
    assert read_stream(tmp_path / "a.arrow") == ([], True)


def test_an_unfinished_stream_is_readable_up_to_its_last_whole_batch(tmp_path):
    path = stream(tmp_path / "a.arrow", 3, 2, close=False)
    length = path.stat().st_size
    batches, whole = read_stream(path)
    assert (len(rows(batches)), whole) == (5, False)
    path.write_bytes(path.read_bytes()[: length - 10])
    batches, whole = read_stream(path)
    assert (len(rows(batches)), whole) == (3, False)


@pytest.mark.parametrize("kept", [0, 1, 7, 100])
def test_a_stream_torn_before_its_first_batch_holds_nothing(tmp_path, kept):
    path = stream(tmp_path / "a.arrow", 3)
    path.write_bytes(path.read_bytes()[:kept])
    assert read_stream(path) == ([], False)


def test_every_torn_length_gives_whole_batches(tmp_path):
    whole = stream(tmp_path / "a.arrow", 3, 2, 4).read_bytes()
    seen = set()
    for length in range(0, len(whole), 16):
        (tmp_path / "torn.arrow").write_bytes(whole[:length])
        seen.add(len(in_order(read_stream(tmp_path / "torn.arrow")[0])))
    assert seen == {0, 3, 5, 9}


def test_garbage_is_no_stream(tmp_path):
    (tmp_path / "a.arrow").write_bytes(b"\0garbage" * 100)
    assert read_stream(tmp_path / "a.arrow") == ([], False)
    assert read_stream(tmp_path / "none.arrow") == ([], False)
    assert isinstance(in_order([]), pa.Table)
