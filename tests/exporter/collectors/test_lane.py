import asyncio
import threading
import weakref
from threading import Event

import pytest

from tocsin_exporter.collectors.collector import Stuck
from tocsin_exporter.collectors.lane import Lane


async def test_calls_run_one_after_another_on_one_daemon_thread() -> None:
    lane = Lane("lane-1")
    first = await lane.run(threading.current_thread)
    second = await lane.run(threading.current_thread)
    assert first is second is not threading.current_thread()
    assert first.daemon and first.name == "lane-1"
    lane.close()
    first.join(5)
    assert not first.is_alive()


async def test_an_exception_comes_back_to_the_caller() -> None:
    def fail() -> None:
        raise KeyError("x")

    lane = Lane("lane-2")
    with pytest.raises(KeyError):
        await lane.run(fail)
    assert await lane.run(lambda: 7) == 7
    lane.close()


async def test_a_hung_call_refuses_the_next_until_it_comes_back() -> None:
    lane, let_go = Lane("lane-3"), Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await lane.run(let_go.wait)
    with pytest.raises(Stuck, match="lane-3"):
        await lane.run(lambda: 1)
    let_go.set()
    while lane.busy:
        await asyncio.sleep(0.001)
    assert await lane.run(lambda: 2) == 2
    lane.close()


def test_a_call_that_comes_back_after_the_loop_has_ended_hurts_nobody() -> None:
    lane, let_go, threads = Lane("lane-4"), Event(), list[threading.Thread]()

    def hang() -> None:
        threads.append(threading.current_thread())
        let_go.wait()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await lane.run(hang)

    asyncio.run(give_up())
    lane.close()
    let_go.set()
    threads[0].join(5)
    assert not threads[0].is_alive()


class Kept:
    """Something large."""


async def test_a_thread_that_waits_keeps_no_result() -> None:
    lane, gone = Lane("lane-5"), Event()
    weakref.finalize(await lane.run(Kept), gone.set)
    async with asyncio.timeout(20):
        while not gone.is_set():
            await asyncio.sleep(0.001)
    lane.close()
