"""Threads that are let go of: results, errors, cancelled work, and the end of a process."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import wait

import pytest

from support.exhausted import NoThreads, no_threads
from tocsin_exporter.threads import Threads, in_thread, result_of, room_for

HANGS = """
import time
from tocsin_exporter.threads import Threads
Threads(1, "query").submit(time.sleep, 600)
"""


def test_work_gives_its_result_or_its_error() -> None:
    threads = Threads(2, "query")
    assert threads.submit(divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 7, 0).result(5)
    assert threads.submit(threading.current_thread).result(5).name.startswith("query-")
    assert Threads(1, "journal").submit(threading.current_thread).result(5).name == "journal"


def test_what_is_cancelled_while_it_waits_never_runs() -> None:
    threads, free, ran = Threads(1, "query"), threading.Event(), threading.Event()
    busy = threads.submit(free.wait, 5)
    waits = threads.submit(ran.set)
    assert waits.cancel()
    free.set()
    busy.result(5)
    threads.submit(int).result(5)
    assert not ran.is_set()


def test_work_of_one_thread_is_done_in_its_order() -> None:
    threads, free, done = Threads(1, "journal"), threading.Event(), list[int]()
    threads.submit(free.wait, 5)
    works = [threads.submit(done.append, number) for number in range(50)]
    free.set()
    wait(works, 5)
    assert done == list(range(50))


def test_threads_that_are_closed_end_after_what_they_were_asked_for_and_begin_again() -> None:
    threads, busy, free = Threads(2, "query"), threading.Barrier(3), threading.Event()

    def work() -> threading.Thread:
        busy.wait(5)
        free.wait(5)
        return threading.current_thread()

    works = [threads.submit(work) for _ in range(2)]
    busy.wait(5)
    waits = threads.submit(divmod, 7, 2)
    threads.close()
    free.set()
    assert waits.result(5) == (3, 1)
    for thread in [work.result(5) for work in works]:
        thread.join(5)
        assert not thread.is_alive()
    assert threads.submit(divmod, 7, 2).result(5) == (3, 1)
    threads.close()


async def test_who_gives_up_waiting_stops_no_work() -> None:
    threads, free, done = Threads(1, "journal"), threading.Event(), threading.Event()
    busy = threads.submit(free.wait, 5)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await result_of(threads.submit(done.set))
    free.set()
    assert await result_of(busy)
    await result_of(threads.submit(int))
    assert done.is_set()


def test_a_process_ends_while_one_works() -> None:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", HANGS], check=True, timeout=30)
    assert time.monotonic() - began < 20


def test_a_thread_that_cannot_be_had_is_tried_again_and_its_work_is_not_kept() -> None:
    threads, ran = Threads(1, "query"), threading.Event()
    with no_threads(), pytest.raises(RuntimeError, match="can't start new thread"):
        threads.submit(ran.set)
    assert threads.submit(divmod, 7, 2).result(5) == (3, 1)
    assert not ran.is_set()


class Work:
    def __call__(self) -> None:
        """Nothing: who has it is what counts."""


class Lost(Exception):
    """What work raised."""


def fails() -> None:
    raise Lost


@pytest.mark.parametrize("made", [Work, Lost])
def test_a_thread_that_waits_keeps_no_result(made: type[object]) -> None:
    threads, gone = Threads(1, "query"), threading.Event()
    weakref.finalize(threads.submit(made).result(5), gone.set)
    assert gone.wait(20)


def test_a_thread_that_waits_keeps_no_error() -> None:
    threads, gone = Threads(1, "query"), threading.Event()
    failed = threads.submit(fails)
    wait([failed], 5)
    weakref.finalize(failed.exception(), gone.set)
    del failed
    assert gone.wait(20)


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_thread_that_waits_keeps_no_work(cancelled: bool) -> None:
    threads, free, gone, work = Threads(1, "query"), threading.Event(), threading.Event(), [Work()]
    weakref.finalize(work[0], gone.set)
    busy = threads.submit(free.wait, 20)
    waits = threads.submit(work.pop())
    if cancelled:
        assert waits.cancel()
    free.set()
    wait({busy}, 20)
    wait({waits}, 20)
    del waits
    assert gone.wait(20)


def test_work_that_is_refused_is_in_nobodys_way() -> None:
    threads, work = Threads(1, "query"), [Work() for _ in range(20)]
    kept = [weakref.ref(one) for one in work]
    with no_threads():
        while work:
            with pytest.raises(RuntimeError, match="can't start new thread"):
                threads.submit(work.pop())
    gc.collect()
    assert [one() for one in kept] == [None] * 20


def test_where_there_is_no_room_for_more_the_threads_that_there_are_go_on() -> None:
    threads = Threads(4, "query")
    threads.submit(int).result(5)
    with no_threads():
        assert threads.submit(divmod, 7, 2).result(5) == (3, 1)


def test_threads_that_have_begun_are_there_when_there_is_room_for_none() -> None:
    threads = Threads(2, "query").begin()
    with no_threads():
        busy = threading.Barrier(2, timeout=5)
        for work in [threads.submit(busy.wait) for _ in range(2)]:
            work.result(5)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            Threads(1, "query").begin()


def test_how_many_more_there_is_room_for() -> None:
    before = threading.active_count()
    assert room_for(5) == 5
    assert threading.active_count() <= before
    with no_threads():
        assert room_for(5) == 0


async def test_a_call_has_a_thread_or_where_there_is_none_the_loops() -> None:
    here = threading.get_ident()
    assert await in_thread(threading.get_ident) != here
    calls: list[int] = []
    none = NoThreads()
    await in_thread(lambda: calls.append(threading.get_ident()), none)
    with pytest.raises(IndexError):
        none.kept[0]()  # a thread that can be had later does nothing twice
    assert calls == [here]


async def test_what_a_call_raises_is_the_callers_also_where_it_is_a_runtime_error() -> None:
    calls: list[int] = []

    def broken() -> None:
        calls.append(1)
        raise RuntimeError("its own")

    for executor in (None, NoThreads()):
        with pytest.raises(RuntimeError, match="its own"):
            await in_thread(broken, executor)
    assert calls == [1, 1]
