"""Long work leaves the loop to others after each slice."""

import asyncio

import pytest

from tocsin_exporter.slices import Work, at_once, in_slices, parts


def counted(slices: int) -> Work[int]:
    for _ in range(slices):
        yield
    return slices


async def test_others_have_a_turn_after_each_slice() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    assert await in_slices(counted(50)) == 50
    task.cancel()
    assert turns >= 50


async def test_it_can_be_given_up_between_two_slices() -> None:
    def endless() -> Work[None]:
        while True:
            yield

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await in_slices(endless())


def test_at_once_and_parts() -> None:
    assert at_once(counted(3)) == 3
    assert [list(part) for part in parts([1, 2, 3, 4, 5], 2)] == [[1, 2], [3, 4], [5]]
    assert list(parts([], 2)) == []
