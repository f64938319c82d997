"""What a commit returned from survives kill -9, and versions never go back."""

import asyncio
import signal
import subprocess
import sys

import pytest

from simulator.backend.database import MemoryDatabase, SqliteDatabase
from simulator.backend.replica import Row
from simulator.links.clock import run_virtual

WRITER = """
import sys
from pathlib import Path
from simulator.backend.database import SqliteDatabase
from simulator.backend.replica import Row
database = SqliteDatabase(Path(sys.argv[1]))
for version in range(1, 10**6):
    database.write([Row(f"d-{n}", version, {"v": version}, {}, "j", (("t", version),)) for n in range(20)])
    print(version, flush=True)
"""


def row(version):
    return Row("d", version, {"a": version}, {"b": [1]}, "job", (("t", version),))


def check_database(run, make):
    """The conformance suite: `run(coroutine)`, `make()` opens the same database again."""
    database = make()
    assert list(database.load()) == []
    run(database.commit([row(1), row(2)]))
    run(database.commit([row(3)]))
    database.close()
    again = make()
    assert list(again.load()) == [row(3)]
    again.close()


def test_sqlite(tmp_path):
    check_database(asyncio.run, lambda: SqliteDatabase(tmp_path / "r.sqlite"))


def test_memory():
    database = MemoryDatabase(lambda: 0.5)

    async def commit(rows):
        await rows

    check_database(lambda coro: run_virtual(lambda loop: commit(coro)), lambda: database)


def test_memory_crash_loses_exactly_what_was_not_committed():
    database = MemoryDatabase(lambda: 1.0)

    async def main(loop):
        await database.commit([row(1)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await database.commit([row(2)])

    run_virtual(main)
    assert list(database.load()) == [row(1)]


def test_kill_9_loses_nothing_that_was_committed(tmp_path):
    path = tmp_path / "r.sqlite"
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    said = 0
    while said < 30:
        said = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read().split()
    child.wait()
    said = int(rest[-1]) if rest else said
    rows = list(SqliteDatabase(path).load())
    assert len(rows) == 20
    assert {r.version for r in rows} <= {said, said + 1}
    assert len({r.version for r in rows}) == 1  # a batch is whole or not there
