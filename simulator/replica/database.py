"""The Database port: SQLite with group commit for the live world, memory with drawn latency for the virtual one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import orjson

from simulator.model.errors import PartDied, ScenarioError
from simulator.replica.core import Row

_LOCK_S = 2.0  # how long a predecessor may take to let go
_TABLE = (
    "CREATE TABLE IF NOT EXISTS replica (thing TEXT PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL)"
    " WITHOUT ROWID"
)


class Database(Protocol):
    """Keeps rows. What `commit` has returned from survives a kill at any moment."""

    def load(self) -> Iterable[Row]:
        """All rows, once, at the start."""

    async def commit(self, rows: Sequence[Row]) -> None:
        """Keep these rows, all or none. Raises PartDied when the disk is full."""

    def close(self) -> None:
        """Let go of the files; safe to call twice."""


class MemoryDatabase:
    """Rows in memory; a commit takes the drawn time, and a crash loses what was not committed."""

    def __init__(self, delay: Callable[[], float]) -> None:
        self._delay = delay
        self.rows: dict[str, Row] = {}

    def load(self) -> Iterable[Row]:
        """All committed rows."""
        return list(self.rows.values())

    async def commit(self, rows: Sequence[Row]) -> None:
        """Wait the drawn time, then keep the rows."""
        await asyncio.sleep(self._delay())
        for row in rows:
            self.rows[row.thing] = row

    def close(self) -> None:
        """Nothing to close."""


class SqliteDatabase:
    """One SQLite file, written by one thread; a batch is one transaction, synchronous=FULL. It is ours alone: a second
    backend on it would take version numbers back. Raises ScenarioError when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        try:
            self._connection = sqlite3.connect(path, timeout=_LOCK_S, check_same_thread=False, isolation_level=None)
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.execute(_TABLE)
        except sqlite3.Error as error:
            raise ScenarioError(f"target.database: {path}: {error}") from None

    def load(self) -> Iterable[Row]:
        """All committed rows."""
        for thing, version, body in self._connection.execute("SELECT thing, version, body FROM replica"):
            desired, reported, job, tokens = orjson.loads(body)
            known = tuple((token, at, _kind(*more)) for token, at, *more in tokens)
            yield Row(thing, version, desired, reported, job, known)

    async def commit(self, rows: Sequence[Row]) -> None:
        """Keep the rows: one transaction, on the disk when this returns."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self.write, rows)

    def write(self, rows: Sequence[Row]) -> None:
        """The same, in the caller's thread."""
        latest = {row.thing: row for row in rows}
        packed = [(r.thing, r.version, orjson.dumps((r.desired, r.reported, r.job, r.tokens))) for r in latest.values()]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR REPLACE INTO replica VALUES (?, ?, ?)", packed)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise PartDied(f"the replica's database: {error}") from error

    def close(self) -> None:
        """Finish the thread and close the file."""
        self._thread.shutdown()
        self._connection.close()


def _kind(said: str | bool = False) -> str:
    """What a token was of; once there were but pairs, then only whether it asked for a change of what is desired."""
    return said if isinstance(said, str) else "desired" if said else "reported"
