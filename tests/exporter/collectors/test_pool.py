import asyncio
import sys
import threading
from threading import Event

import pytest

from support.killed_threads import kill
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.pool import Pool


async def test_calls_share_a_few_daemon_threads_and_errors_are_answers() -> None:
    pool = Pool[int, threading.Thread]("pool-1", 3, 0)

    def fail() -> threading.Thread:
        raise KeyError("x")

    calls = [(n, threading.current_thread) for n in range(50)]
    found = await pool.run([*calls, (99, fail)], patience=5, budget=10)
    assert found.keys() == {*range(50), 99}
    assert isinstance(found[99], KeyError)
    threads = {one for one in found.values() if isinstance(one, threading.Thread)}
    assert 1 <= len(threads) <= 3
    assert all(one.daemon and one.name == "pool-1" for one in threads)
    again = await pool.run(calls, patience=5, budget=10)
    threads |= {one for one in again.values() if isinstance(one, threading.Thread)}
    assert len(threads) <= 3, "they stay for the next time"
    pool.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


async def test_what_hangs_is_not_called_again_before_it_comes_back() -> None:
    pool, let_go, called = Pool[str, bool]("pool-2", 1, 1), Event(), list[str]()

    def hang() -> bool:
        called.append("hang")
        return let_go.wait()

    calls = [("hang", hang), ("fine", lambda: True)]
    for _ in range(3):
        assert await pool.run(calls, patience=0.05, budget=5) == {"fine": True}
        assert pool.hung == {"hang"}
    assert called == ["hang"]
    let_go.set()
    async with asyncio.timeout(5):
        while pool.hung:
            await asyncio.sleep(0.001)
    assert await pool.run(calls, patience=5, budget=5) == {"hang": True, "fine": True}
    pool.close()


async def test_what_was_not_reached_is_missing_and_reached_the_next_time() -> None:
    pool, let_go = Pool[int, bool]("pool-3", 1, 0), Event()
    calls = [(0, let_go.wait), (1, lambda: True)]
    assert await pool.run(calls, patience=0.05, budget=0.5) == {}, "the only thread hangs"
    let_go.set()
    async with asyncio.timeout(5):
        while pool.hung:
            await asyncio.sleep(0.001)
    assert await pool.run(calls, patience=5, budget=5) == {0: True, 1: True}
    pool.close()


async def test_a_cancelled_run_leaves_nothing_to_do() -> None:
    pool, let_go, called = Pool[int, bool]("pool-4", 1, 1), Event(), list[int]()

    def call() -> bool:
        called.append(1)
        return True

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            calls = [(0, let_go.wait), (1, call)]
            await pool.run(calls, patience=60, budget=60)
    let_go.set()
    assert await pool.run([(2, lambda: True)], patience=5, budget=5) == {2: True}
    assert not called
    pool.close()


async def test_without_room_for_a_thread_it_fails_and_works_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = Pool[int, bool]("pool-5", 2, 0)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        with pytest.raises(CollectorError, match="can't start new thread"):
            await pool.run([(0, lambda: True)], patience=5, budget=5)
    assert await pool.run([(1, lambda: True)], patience=5, budget=5) == {1: True}
    pool.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_ended_is_replaced_and_its_key_called_again() -> None:
    pool = Pool[str, int]("doomed pool", 1, 0)
    assert await pool.run([("a", lambda: 1)], 5, 10) == {"a": 1}
    assert await pool.run([("a", sys.exit)], 0.2, 0.5) == {}
    assert await pool.run([("a", lambda: 3)], 5, 10) == {"a": 3} and not pool.hung
    pool.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_was_killed_in_a_call_leaves_nothing_hung() -> None:
    pool, entered, free = Pool[str, bool]("doomed caller", 1, 0), Event(), Event()

    def call() -> bool:
        entered.set()
        return free.wait(10)

    running = asyncio.create_task(pool.run([("a", call)], 0.3, 0.5))
    while not entered.is_set():
        await asyncio.sleep(0)
    (thread,) = kill("doomed caller")
    free.set()
    thread.join(10)
    assert await running == {} and not pool.hung
    assert await pool.run([("a", lambda: True)], 0.2, 5) == {"a": True}
    pool.close()
