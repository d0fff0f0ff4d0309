"""Tasks that end together, and say what went wrong in its own words."""

import asyncio

import pytest

from tocsin_exporter.tasks import task_group


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
