"""Where a replica keeps its documents: the port of databases, the two that there are, and both by name.

A replica writes before it answers: what `commit` has returned from is there after a kill at any moment. A replica that
starts loads all rows at once and answers from memory afterwards, so a database is asked for nothing but these two
things. SQLite writes everything that gathered while the last commit ran as one transaction. Memory takes a drawn time
for each commit, and is what virtual time uses: there no real disk may be waited for.

A scenario's `target.database` names one: the part before the first colon is looked up in DATABASES, the rest tells
where it is. A new database is a class that implements `Database`, and an entry in DATABASES.
"""

from __future__ import annotations

import asyncio
import difflib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

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

    async def load(self) -> Sequence[Row]:
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

    async def load(self) -> Sequence[Row]:
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

    async def load(self) -> Sequence[Row]:
        """All committed rows."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read)

    def _read(self) -> list[Row]:
        rows: list[Row] = []
        for thing, version, body in self._connection.execute("SELECT thing, version, body FROM replica"):
            desired, reported, job, tokens = orjson.loads(body)
            known = tuple((token, at, _kind(*more)) for token, at, *more in tokens)
            rows.append(Row(thing, version, desired, reported, job, known))
        return rows

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


def _kind(kept: str | bool = False) -> str:
    """What a token was of. Files of older versions hold nothing here, or whether it asked for a change of what is desired."""
    return kept if isinstance(kept, str) else "desired" if kept else "reported"


# ---- by name


class DatabaseKind(NamedTuple):
    """How databases of one scheme are opened: `open(where, delay)`, where `delay()` draws the seconds that a commit takes
    in virtual time."""

    open: Callable[[str, Callable[[], float]], Database]
    usage: str
    """How a scenario spells its names, for people."""
    file: str | None = None
    """Of a scheme whose `where` is a path: the file's name in a run's own directory, where the scenario tells no path."""
    virtual: bool = False
    """Whether it can take part in virtual time, where nothing real may be waited for."""


DATABASES: dict[str, DatabaseKind] = {
    "sqlite": DatabaseKind(
        lambda where, delay: SqliteDatabase(Path(where)), "sqlite, sqlite:PATH", file="replica.sqlite"
    ),
    "memory": DatabaseKind(lambda where, delay: MemoryDatabase(delay), "memory", virtual=True),
}
"""Scheme -> how its databases are opened."""


class DatabaseName(NamedTuple):
    """A database as a scenario names it: SCHEME, or SCHEME:WHERE."""

    scheme: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}:{self.where}" if self.where else self.scheme

    @property
    def path(self) -> Path | None:
        """The file that holds it; None where it is none of this machine's files."""
        return Path(self.where) if DATABASES[self.scheme].file is not None and self.where else None

    def within(self, directory: Path) -> DatabaseName:
        """The same, with its file in this directory if it needs one and its name tells no path."""
        file = DATABASES[self.scheme].file
        return self if self.where or file is None else DatabaseName(self.scheme, str(directory / file))

    def open(self, delay: Callable[[], float] = lambda: 0.0) -> Database:
        """Open it; a commit takes `delay()` seconds if it is simulated. Raises ScenarioError where it cannot be opened."""
        return DATABASES[self.scheme].open(self.where, delay)


def named(text: str) -> DatabaseName:
    """The database that a scenario's `target.database` names. Raises ScenarioError where there is none of that name."""
    scheme, colon, where = text.partition(":")
    kind = DATABASES.get(scheme)
    if kind is None or bool(colon) != bool(where):
        usages = ", ".join(kind.usage for kind in DATABASES.values())
        near = difflib.get_close_matches(scheme, DATABASES, 1)
        hint = f"; did you mean {near[0]}?" if near and near[0] != scheme else ""
        raise ScenarioError(f"target.database: {text!r} is none of {usages}{hint}")
    return DatabaseName(scheme, where)


def in_virtual_time(name: DatabaseName) -> DatabaseName:
    """The database that stands for this one in virtual time: itself if it can, else memory."""
    return name if DATABASES[name.scheme].virtual else DatabaseName("memory")
