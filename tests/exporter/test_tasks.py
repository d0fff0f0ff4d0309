"""Tasks that end together, and say what went wrong in its own words."""

import asyncio
import threading

import pytest

from support.exhausted import NoThreads
from tocsin_exporter.tasks import in_thread, task_group


async def fails(why: str) -> None:
    raise OSError(why)


async def test_the_first_failure_is_raised_as_it_is_and_ends_the_others() -> None:
    with pytest.raises(OSError, match="^first$"):
        async with task_group() as group:
            hangs = group.create_task(asyncio.Event().wait())
            group.create_task(fails("first"))
            group.create_task(fails("second"))
    assert hangs.cancelled()


async def test_a_failure_has_no_other_causes_than_its_own() -> None:
    with pytest.raises(OSError, match="^first$") as failed:
        async with task_group() as group:
            group.create_task(fails("first"))
    assert failed.value.__cause__ is failed.value.__context__ is None


async def test_a_deadline_ends_them_all() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), task_group() as group:
            hangs = group.create_task(asyncio.Event().wait())
    assert hangs.cancelled()


async def test_results_are_there_afterwards() -> None:
    async with task_group() as group:
        read = group.create_task(asyncio.sleep(0, "read"))
    assert read.result() == "read"


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
