import asyncio
import threading
import weakref
from threading import Event

import pytest

from support.killed_threads import kill
from tocsin_exporter.collectors.collector import Stuck
from tocsin_exporter.collectors.hang_guard import HangGuard


async def test_calls_run_one_after_another_on_one_daemon_thread() -> None:
    guard = HangGuard("lane-1")
    first = await guard.run(threading.current_thread)
    second = await guard.run(threading.current_thread)
    assert first is second is not threading.current_thread()
    assert first.daemon and first.name == "lane-1"
    guard.close()
    first.join(5)
    assert not first.is_alive()


async def test_an_exception_comes_back_to_the_caller() -> None:
    def fail() -> None:
        raise KeyError("x")

    guard = HangGuard("lane-2")
    with pytest.raises(KeyError):
        await guard.run(fail)
    assert await guard.run(lambda: 7) == 7
    guard.close()


async def test_a_hung_call_refuses_the_next_until_it_comes_back() -> None:
    guard, let_go = HangGuard("lane-3"), Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await guard.run(let_go.wait)
    with pytest.raises(Stuck, match="lane-3"):
        await guard.run(lambda: 1)
    let_go.set()
    while guard.busy:
        await asyncio.sleep(0.001)
    assert await guard.run(lambda: 2) == 2
    guard.close()


def test_a_call_that_comes_back_after_the_loop_has_ended_hurts_nobody() -> None:
    guard, let_go, threads = HangGuard("lane-4"), Event(), list[threading.Thread]()

    def hang() -> None:
        threads.append(threading.current_thread())
        let_go.wait()

    async def give_up() -> None:
        running = asyncio.create_task(guard.run(hang))
        async with asyncio.timeout(20):
            while not threads:
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(give_up())
    guard.close()
    let_go.set()
    threads[0].join(5)
    assert not threads[0].is_alive()


class Kept:
    """Something large."""


async def test_a_thread_that_waits_keeps_no_result() -> None:
    guard, gone = HangGuard("lane-5"), Event()
    weakref.finalize(await guard.run(Kept), gone.set)
    async with asyncio.timeout(20):
        while not gone.is_set():
            await asyncio.sleep(0.001)
    assert gone.is_set()
    guard.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_was_killed_costs_one_call() -> None:
    guard = HangGuard("doomed guard")
    assert await guard.run(lambda: 1) == 1
    (thread,) = kill("doomed guard")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await guard.run(lambda: 2)  # the thread wakes for it, and ends
    thread.join(10)
    assert await guard.run(lambda: 3) == 3
    guard.close()
