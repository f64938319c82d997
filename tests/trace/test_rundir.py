"""The run directory: a place of its own for each run, and a record that opens whatever ended the run."""

import json
import os
import signal
import sys

import pytest

from simulator import cli
from simulator.model.errors import ScenarioError
from simulator.trace import rundir
from simulator.trace.recorder import Recorder, StreamFile

MANIFEST = {"scenario": {"name": "s"}, "complete": True}


def part(path, shard, times, kind="run"):
    """One recorder's stream below a run directory."""
    with StreamFile(path / "parts" / f"part-{shard}.arrow") as stream:
        recorder = Recorder(iter(times).__next__, stream, shard=shard)
        for _ in times:
            recorder.record(kind)
            recorder.flush()


def left(root, *, collected=True):
    """A run directory as a run of two parts leaves it."""
    path = rundir.create(root, "s")
    rundir.write_json(path / "manifest.json", MANIFEST)
    part(path, 1, [5, 9])
    part(path, 0, [5, 7])
    if collected:
        rundir.collect(path)
    return path


def order(trace):
    return [(row["t_us"], row["shard"]) for row in trace.table.to_pylist()]


def test_runs_within_one_second_have_places_of_their_own(tmp_path):
    paths = [rundir.create(tmp_path / "runs", "s") for _ in range(5)]
    assert len(set(paths)) == 5
    assert all((path / "parts").is_dir() for path in paths)
    assert paths[0].parent == tmp_path / "runs" / "s"
    assert {path.parent for path in paths} == {paths[0].parent}


def test_latest_points_to_the_newest_and_moves_with_the_tree(tmp_path):
    rundir.create(tmp_path / "runs", "first")
    newest = rundir.create(tmp_path / "runs", "second")
    latest = tmp_path / "runs" / "latest"
    assert latest.resolve() == newest.resolve()
    assert not os.path.isabs(os.readlink(latest))
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["first", "latest", "second"]


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc/x", "a/b", "..", "", "<b>", "latest/../x", ".hidden"])
def test_no_scenario_name_leads_out_of_the_place_for_runs(tmp_path, name):
    path = rundir.create(tmp_path / "runs", name)
    assert path.resolve().parent.parent == (tmp_path / "runs").resolve()
    assert (tmp_path / "runs" / "latest").resolve() == path.resolve()


def test_a_place_that_cannot_be_had_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScenarioError, match="--out"):
        rundir.create(tmp_path / "file", "s")
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    with pytest.raises(ScenarioError, match=r"latest: is in the way.*--out"):
        rundir.create(tmp_path / "runs", "s")
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"latest", "s"}


def test_parts_are_merged_in_order_of_time_then_shard(tmp_path):
    run = rundir.open_run(left(tmp_path))
    assert run.complete
    assert order(run.trace) == [(5, 0), (5, 1), (7, 0), (9, 1)]
    assert run.manifest == MANIFEST


def test_a_killed_run_is_read_from_its_parts_again_and_again(tmp_path):
    path = left(tmp_path, collected=False)
    whole = (path / "parts" / "part-1.arrow").read_bytes()
    for length, events in ((len(whole) // 2, 2), (len(whole) - 20, 3), (len(whole), 4)):  # one still under way grows
        (path / "parts" / "part-1.arrow").write_bytes(whole[:length])
        run = rundir.open_run(path)
        assert not run.complete
        assert len(run.trace) == events
    assert not (path / "trace.parquet").exists()


def test_a_torn_part_is_said_by_the_merge(tmp_path):
    path = left(tmp_path, collected=False)
    assert rundir.collect(path)[1]
    torn = path / "parts" / "part-0.arrow"
    torn.write_bytes(torn.read_bytes()[:-20])
    trace, whole = rundir.collect(path)
    assert (len(trace), whole) == (3, False)


def test_a_run_that_recorded_nothing_opens(tmp_path):
    path = rundir.create(tmp_path, "s")
    rundir.write_json(path / "manifest.json", MANIFEST)
    assert len(rundir.open_run(path).trace) == 0


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    rundir.write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        rundir.write_json(tmp_path / "a.json", {("no", "key"): 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


DAMAGE = {
    "no directory": ("manifest.json", None, "not a run directory"),
    "empty manifest": ("manifest.json", b"", "manifest.json: cannot be read"),
    "half a manifest": ("manifest.json", b'{"scenario": {"na', "manifest.json: cannot be read"),
    "no text": ("manifest.json", b"\xff\xfe\x00", "manifest.json: cannot be read"),
    "another's manifest": ("manifest.json", b"[1]", "names no scenario"),
    "no scenario": ("manifest.json", b"{}", "names no scenario"),
    "a scenario of another time": ("manifest.json", b'{"scenario": {"flet": {}}}', "its scenario is not valid"),
    "an empty trace": ("trace.parquet", b"", "trace.parquet: not a trace"),
    "half a trace": ("trace.parquet", b"PAR1\0\0", "remove it to have the run read from its parts"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_run_is_refused_in_3_with_one_sentence(tmp_path, monkeypatch, capsys, what):
    name, content, said = DAMAGE[what]
    path = left(tmp_path)
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(content)
    for verb in (("check",), ("report",), ("trace", "device-0")):
        if what == "a scenario of another time" and verb[0] == "trace":
            continue
        monkeypatch.setattr(sys, "argv", ["fleetsim", verb[0], str(path), *verb[1:]])
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (3, "")
        assert said in err


def test_a_damaged_trace_that_is_removed_is_read_from_the_parts(tmp_path):
    path = left(tmp_path)
    (path / "trace.parquet").write_bytes(b"PAR1")
    with pytest.raises(ScenarioError, match="remove it"):
        rundir.open_run(path)
    (path / "trace.parquet").unlink()
    assert len(rundir.open_run(path).trace) == 4
