"""Long work leaves the loop to others after each slice."""

import asyncio
from itertools import count

import pytest

from tocsin_exporter.slices import IN_A_ROW, TURN_SECONDS, Turns, Work, at_once, in_slices, parts


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


class Line:
    """Turns on a clock by which each slice takes `ms`, and who had one."""

    def __init__(self, ms: float = 1.0) -> None:
        self.now, self.ms = 0.0, ms
        self.turns = Turns(lambda: self.now)
        self.had = list[int]()

    def work(self, number: int, slices: int) -> Work[int]:
        for _ in range(slices):
            self.now += self.ms / 1000
            self.had.append(number)
            yield
        return number


async def test_five_hundred_pages_at_once_leave_the_loop_its_turns() -> None:
    """Whoever else has something to do waits for some milliseconds of them, not for all."""
    line, before, most = Line(), 0, 0
    all_of_them = [asyncio.create_task(line.turns.run(line.work(n, 4))) for n in range(500)]
    while not all(task.done() for task in all_of_them):
        await asyncio.sleep(0)
        most, before = max(most, len(line.had) - before), len(line.had)
    assert [task.result() for task in all_of_them] == list(range(500))
    assert line.had == sorted(line.had), "the first that came is the first that is done"
    assert most <= 1000 * TURN_SECONDS + 1
    assert line.turns.busy_seconds == pytest.approx(2.0)
    assert line.turns.waiting == 0


async def test_long_work_goes_to_the_end_of_the_line() -> None:
    line = Line(0.01)
    long, short = line.turns.run(line.work(0, 3 * IN_A_ROW)), line.turns.run(line.work(1, 1))
    assert [*await asyncio.gather(long, short)] == [0, 1]
    assert line.had.index(1) == IN_A_ROW


async def test_an_error_belongs_to_who_asked_and_who_left_is_let_go() -> None:
    line, turns = Line(), count()

    def breaks() -> Work[int]:
        yield
        raise ValueError("odd")

    leaves = asyncio.create_task(line.turns.run(line.work(0, 10_000)))
    rest = asyncio.gather(line.turns.run(breaks()), line.turns.run(line.work(2, 1)),
                          return_exceptions=True)  # fmt: skip
    while next(turns) < 3:
        await asyncio.sleep(0)
    leaves.cancel()
    odd, two = await rest
    assert (str(odd), two) == ("odd", 2)
    assert line.had.count(0) < 10_000
