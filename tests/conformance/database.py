"""What every `Database` must do, as checks that take `make`: each call of it opens the same database again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from simulator.replica.core import Row
from simulator.replica.database import Database

Make = Callable[[], Database]
Check = Callable[[Make], Awaitable[None]]
CHECKS: list[Check] = []


def check(wanted: Check) -> Check:
    """Add a check to the suite."""
    CHECKS.append(wanted)
    return wanted


def row(version: int, thing: str = "d") -> Row:
    return Row(thing, version, {"a": version}, {"b": [1, {"c": None}]}, "job", (("t", version, "reported"),))


async def kept(make: Make, batch: Sequence[Row]) -> list[Row]:
    """What is there for the next opener after one commit."""
    database = make()
    await database.commit(batch)
    database.close()
    return await held(make)


async def held(make: Make) -> list[Row]:
    database = make()
    rows = sorted(await database.load(), key=lambda row: row.thing)
    database.close()
    return rows


@check
async def a_new_database_is_empty_and_closes_twice(make: Make) -> None:
    database = make()
    assert list(await database.load()) == []
    database.close()
    database.close()


@check
async def a_commit_is_there_for_the_next_opener(make: Make) -> None:
    assert await kept(make, [row(1, "a"), row(7, "b")]) == [row(1, "a"), row(7, "b")]
    assert await kept(make, [row(2, "a")]) == [row(2, "a"), row(7, "b")]


@check
async def the_last_row_of_a_thing_in_a_batch_is_kept(make: Make) -> None:
    assert await kept(make, [row(1), row(1, "other"), row(2), row(3)]) == [row(3), row(1, "other")]


@check
async def a_row_comes_back_as_it_was(make: Make) -> None:
    odd = {"é\n'\"": ["Ω", 0.1, -(2**63), 2**63, True, False, {"deep": {"er": [[], {}]}}], "": "", "null\0": "\0"}
    rows = [
        Row("d", 2**62, odd, {}, "", ()),
        Row("thing with 'quotes' é", 1, {}, odd, "jöb", (("t", 1, "running"), ("u", 2, "desired"))),
    ]
    assert await kept(make, rows) == rows


@check
async def commits_that_overlap_are_kept_in_their_order(make: Make) -> None:
    database = make()
    await asyncio.gather(*(database.commit([row(version)]) for version in range(1, 21)))
    database.close()
    assert await held(make) == [row(20)]


@check
async def a_commit_given_up_is_whole_or_not_there(make: Make) -> None:
    database = make()
    committing = asyncio.ensure_future(database.commit([row(1, f"d-{n}") for n in range(200)]))
    await asyncio.sleep(0)
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    database.close()
    assert len(await held(make)) in (0, 200)


@check
async def others_run_while_a_commit_does(make: Make) -> None:
    database = make()
    committing = asyncio.ensure_future(database.commit([row(1, f"d-{n}") for n in range(20_000)]))
    turns = 0
    while not committing.done():
        turns += 1
        await asyncio.sleep(0.0005)
    assert turns > 5
    await committing
    database.close()
    assert len(await held(make)) == 20_000
