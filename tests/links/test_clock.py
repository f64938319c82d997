"""Virtual time: order, determinism, deadlock, limits, and that everything real is refused."""

import asyncio

import pytest

from simulator.links.clock import Deadlock, TimeLimit, run_virtual
from simulator.model.errors import NotSimulated


def test_sleeping_takes_virtual_time_only():
    async def main(loop):
        await asyncio.sleep(3600)
        return loop.now_us

    assert run_virtual(main) == 3_600_000_000


def test_timers_of_one_instant_fire_in_the_order_they_were_set():
    async def main(loop):
        heard = []
        for n in range(100):
            loop.call_at(1.0, heard.append, n)
        await asyncio.sleep(1.0)
        await asyncio.sleep(0)
        return heard

    assert run_virtual(main) == list(range(100))


def test_who_waits_for_an_instant_never_wakes_before_it():
    async def main(loop):
        for n in range(1, 2000):
            when = loop.time() + 1e-3 / 3 + n * 1e-7
            await asyncio.sleep(when - loop.time())
            handle = asyncio.Event()
            loop.call_at(when, handle.set)
            await handle.wait()
            assert loop.time() >= when

    run_virtual(main)


def test_any_wait_takes_time():
    async def main(loop):
        await asyncio.sleep(1e-9)
        return loop.now_us

    assert run_virtual(main) == 1


def test_deadlock_names_who_waits():
    async def stuck():
        await asyncio.get_running_loop().create_future()

    async def main(loop):
        await loop.create_task(stuck(), name="the stuck one")

    with pytest.raises(Deadlock, match="the stuck one"):
        run_virtual(main)


def test_time_limit():
    async def main(loop):
        await asyncio.sleep(10)

    with pytest.raises(TimeLimit):
        run_virtual(main, until_s=5)


def test_timeouts_groups_and_cancellation_work():
    async def main(loop):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.sleep(5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(5), 1)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1))
            group.create_task(asyncio.sleep(2))
        return loop.time()

    assert run_virtual(main) == 5.0


@pytest.mark.parametrize("name", ["run_in_executor", "create_connection", "add_reader", "call_soon_threadsafe"])
def test_everything_real_is_refused_by_name(name):
    async def main(loop):
        getattr(loop, name)(None, print)

    with pytest.raises(NotSimulated, match=name):
        run_virtual(main)


def test_an_exception_that_nobody_awaited_is_raised_at_the_end():
    async def main(loop):
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(ZeroDivisionError):
        run_virtual(main)
