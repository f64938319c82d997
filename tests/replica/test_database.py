"""The conformance suite of databases on both of them, and what each alone has to bear."""

import asyncio
import signal
import subprocess
import sys

import pytest

from simulator.links.clock import run_virtual
from simulator.model.errors import PartDied, ScenarioError
from simulator.replica.database import MemoryDatabase, SqliteDatabase
from tests.conformance.database import CHECKS, held, row

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
    assert list(database.load()) == [row(1)]


def test_kill_9_loses_nothing_that_was_committed_and_a_batch_is_whole_or_not_there(tmp_path):
    path = tmp_path / "r.sqlite"
    child = writer(path, 10**6)
    while child.stdout.readline() != "30\n":
        pass
    said = killed(child, 30)
    rows = held(lambda: SqliteDatabase(path))
    assert len(rows) == 20
    assert {r.version for r in rows} in ({said}, {said + 1})


def test_a_second_backend_on_the_same_file_is_refused_until_the_first_is_gone(tmp_path):
    path = tmp_path / "r.sqlite"
    first = writer(path, 2)
    assert first.stdout.readline() == "1\n"
    with pytest.raises(ScenarioError, match=r"r\.sqlite: database is locked"):
        SqliteDatabase(path)
    killed(first)
    assert len(held(lambda: SqliteDatabase(path))) == 20


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
    assert held(make) == [row(1)]
