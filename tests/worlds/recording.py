"""Leaves run directories as `fleetsim run` does, with parties of the test's own, or as an interrupt would."""

import json

from simulator.trace import rundir
from simulator.trace.reader import write_parquet
from simulator.worlds import run as running
from simulator.worlds import virtual
from simulator.worlds.live.options import Options


def recorded(out, made):
    """A run directory as `fleetsim run` leaves it."""
    path, judgement = running.run(made, out, "fleetsim run x", Options(), quiet=True)
    return rundir.open_run(path), judgement


def plant(monkeypatch, **parts):
    """Every run from now on has these parties."""
    whole = virtual.Parties
    monkeypatch.setattr(virtual, "Parties", lambda **own: whole(**parts, **own))


def without_its_end(path, rows):
    """Leave only so many rows, as an interrupt would."""
    trace = rundir.open_run(path).trace
    write_parquet(trace.table.slice(0, rows), path / "trace.parquet")
    manifest = json.loads((path / "manifest.json").read_text())
    rundir.write_json(path / "manifest.json", manifest | {"complete": False, "incomplete": ["interrupted"]})
