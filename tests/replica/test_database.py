"""The conformance suite of databases on both of them, and what each alone has to bear."""

import asyncio
import signal
import subprocess
import sys

import pytest

from simulator.links.clock import run_virtual
from simulator.model.errors import PartDied, ScenarioError
from simulator.model.events import Kind
from simulator.replica.database import (
    DATABASES,
    DatabaseKind,
    MemoryDatabase,
    SqliteDatabase,
    in_virtual_time,
    named,
)
from tests.conformance.database import CHECKS, held, row
from tests.worlds.virtually import judged, scenario

WRITER = """
import sys
from pathlib import Path
from simulator.replica.database import SqliteDatabase
from simulator.replica.core import Row
database = SqliteDatabase(Path(sys.argv[1]))
print("open", flush=True)
for version in range(1, int(sys.argv[2])):
    database.write([Row(f"d-{n}", version, {"v": version}, {}, "j", (("t", version, "reported"),)) for n in range(20)])
    print(version, flush=True)
sys.stdin.read()
"""


def writer(path, versions):
    """A process that commits a batch of 20 rows per version, and says each version once that is done."""
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(versions)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "open\n"
    return child


def killed(child, said=0):
    """Kill it at once; the last version that it said, of which `said` was heard."""
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read().split()
    child.wait()
    return int(rest[-1]) if rest else said


@pytest.mark.parametrize("check", CHECKS)
def test_sqlite(tmp_path, check):
    asyncio.run(check(lambda: SqliteDatabase(tmp_path / "r.sqlite")))


@pytest.mark.parametrize("check", CHECKS)
def test_memory(check):
    database = MemoryDatabase(lambda: 0.01)
    run_virtual(lambda loop: check(lambda: database))


def test_a_memory_commit_takes_the_drawn_time_and_a_crash_before_its_end_loses_it():
    database = MemoryDatabase(iter([1.0, 3.0]).__next__)

    async def main(loop):
        await database.commit([row(1)])
        assert loop.time() == 1.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.9):
                await database.commit([row(2)])

    run_virtual(main)
    assert asyncio.run(database.load()) == [row(1)]


def test_kill_9_loses_nothing_that_was_committed_and_a_batch_is_whole_or_not_there(tmp_path):
    path = tmp_path / "r.sqlite"
    child = writer(path, 10**6)
    while child.stdout.readline() != "30\n":
        pass
    said = killed(child, 30)
    rows = asyncio.run(held(lambda: SqliteDatabase(path)))
    assert len(rows) == 20
    assert {r.version for r in rows} in ({said}, {said + 1})


def test_a_second_backend_on_the_same_file_is_refused_until_the_first_is_gone(tmp_path):
    path = tmp_path / "r.sqlite"
    first = writer(path, 2)
    assert first.stdout.readline() == "1\n"
    with pytest.raises(ScenarioError, match=r"r\.sqlite: database is locked"):
        SqliteDatabase(path)
    killed(first)
    assert len(asyncio.run(held(lambda: SqliteDatabase(path)))) == 20


def test_what_is_no_database_is_said(tmp_path):
    text = tmp_path / "text"
    text.write_text("not a database" * 100)
    with pytest.raises(ScenarioError, match=f"target.database: {text}: file is not a database"):
        SqliteDatabase(text)
    with pytest.raises(ScenarioError, match="unable to open database file"):
        SqliteDatabase(tmp_path / "nowhere" / "r.sqlite")


def test_a_full_disk_ends_the_part_and_keeps_what_was_committed(tmp_path):
    def make():
        return SqliteDatabase(tmp_path / "r.sqlite")

    database = make()
    asyncio.run(database.commit([row(1)]))
    database._connection.execute("PRAGMA max_page_count = 4")
    with pytest.raises(PartDied, match="full"):
        asyncio.run(database.commit([row(2), *(row(1, f"d-{n}") for n in range(1000))]))
    database.close()
    assert asyncio.run(held(make)) == [row(1)]


# ---- by name


class Counting(MemoryDatabase):
    """A stand-in for a database that another project brings: it counts what it keeps."""

    def __init__(self, where, delay):
        super().__init__(delay)
        self.where, self.commits, self.loads = where, 0, 0

    async def load(self):
        self.loads += 1
        return await super().load()

    async def commit(self, rows):
        self.commits += 1
        await super().commit(rows)


@pytest.fixture
def counting(monkeypatch):
    """The databases that were opened under the name `counting`."""
    opened = []

    def open_(where, delay):
        opened.append(Counting(where, delay))
        return opened[-1]

    monkeypatch.setitem(DATABASES, "counting", DatabaseKind(open_, "counting:WHERE", virtual=True))
    return opened


def test_a_database_that_somebody_adds_carries_a_whole_run_by_its_name(counting):
    fault = {"fault": "F8-backend-killed", "at": "1s", "for": "5s"}
    trace, findings = judged(
        scenario(devices=3, profile="wifi", target={"database": "counting:here:and:now"}, faults=[fault])
    )
    assert findings == {}
    assert set(trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED").texts("thing")) == {
        f"device-{n}" for n in range(3)
    }
    (database,) = counting
    assert (database.where, database.loads) == ("here:and:now", 2)  # once more after the kill
    assert database.commits > 6
    assert {row.reported["software"]["version"] for row in database.rows.values() if "software" in row.reported} == {
        "2.0.0"
    }


def test_in_virtual_time_memory_stands_for_what_waits_for_a_disk():
    assert in_virtual_time(named("sqlite:somewhere")) == ("memory", "")
    assert in_virtual_time(named("memory")) == ("memory", "")


def test_a_database_without_a_path_gets_a_file_in_the_runs_directory(tmp_path):
    assert str(named("sqlite").within(tmp_path)) == f"sqlite:{tmp_path}/replica.sqlite"
    assert named("sqlite").within(tmp_path).path == tmp_path / "replica.sqlite"
    assert str(named("sqlite:x/y:z").within(tmp_path)) == "sqlite:x/y:z"
    assert (str(named("memory").within(tmp_path)), named("memory").path) == ("memory", None)


@pytest.mark.parametrize(
    ("text", "hint"),
    [("mysql:x", ""), ("sqlit", "did you mean sqlite?"), ("sqlite:", ""), (":x", ""), ("", "")],
)
def test_a_name_that_no_database_has_is_said(text, hint):
    with pytest.raises(ScenarioError) as refused:
        named(text)
    expected = f"target.database: {text!r} is none of sqlite, sqlite:PATH, memory"
    assert str(refused.value) == expected + (f"; {hint}" if hint else "")
    with pytest.raises(ScenarioError, match="none of sqlite"):
        judged(scenario(devices=1, target={"database": text}))
