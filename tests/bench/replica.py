"""Durable updates a second of one replica process: bytes in -> committed by SQLite, synchronous=FULL -> bytes out.

To reach: 20,000 a second.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import orjson

from simulator.dialects.atlas.replica import AtlasReplica
from simulator.model.io import Message
from simulator.replica.core import Replica
from simulator.replica.database import SqliteDatabase

THINGS, UPDATES, BATCH = 5_000, 100_000, 2_000


async def main() -> None:
    dialect = AtlasReplica()
    replica = Replica(dialect, download=lambda *_: None, credential=lambda url, thing, now: None)
    messages = [
        Message(
            f"state/device-{i % THINGS}/update",
            orjson.dumps(
                {
                    "state": {"reported": {"software": {"version": f"1.{i}", "softwareURL": "http://s/a/1"}}},
                    "clientToken": f"r{i}",
                }
            ),
        )
        for i in range(UPDATES)
    ]
    with tempfile.TemporaryDirectory() as directory:
        database = SqliteDatabase(Path(directory) / "replica.sqlite")
        began, cpu, sent = time.perf_counter(), time.process_time(), 0
        for start in range(0, UPDATES, BATCH):
            decisions = []
            for message in messages[start : start + BATCH]:
                request = dialect.parse(message)
                assert request is not None
                decisions.append(replica.decide(request, 0.0))
            await database.commit([d.row for d in decisions if d.row is not None])
            sent += sum(len(output.payload) for d in decisions for output in d.outputs)
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        kept = len(await database.load())
        database.close()
    assert kept == THINGS
    print(f"{UPDATES:,} updates, {BATCH:,} a commit, {sent:,} bytes out")
    print(f"{UPDATES / wall:,.0f} updates/s by wall clock, {used / UPDATES * 1e6:.1f} µs of CPU each")
    print(f"ratio to the goal of 20,000/s: {UPDATES / wall / 20_000:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
