"""Half of the event loop for a rule with many alerts, in slices."""

import asyncio

import pytest

from support.virtual_time import VirtualTimeLoop
from tocsin_alerting.rules.fair_share import MAX_SECONDS, MIN_SECONDS, FairShare
from tocsin_exporter.slices import Work

COST = 0.0001  # seconds of an alert
MANY = 5_000


def steps(loop: VirtualTimeLoop) -> Work[int]:
    for _ in range(MANY):
        loop.hold(COST)
        yield
    return MANY


def test_work_pauses_as_often() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        running = asyncio.create_task(others())
        assert await FairShare(loop.time).of(steps(loop)) == MANY
        running.cancel()
        assert abs(turns - MANY * COST / MIN_SECONDS) <= 2

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(story())


@pytest.mark.parametrize(
    ("busy", "longest"),
    [(0.0, MIN_SECONDS), (0.03, 0.03), (0.5, MAX_SECONDS)],
)
def test_it_computes_as_long_as_the_others_do_within_bounds(busy: float, longest: float) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        waits: list[float] = []

        async def others() -> None:
            while True:
                before = loop.time()
                await asyncio.sleep(0)
                waits.append(loop.time() - before)
                loop.hold(busy)

        running, share = asyncio.create_task(others()), FairShare(loop.time)
        for _ in range(MANY):
            loop.hold(COST)
            await share.pause()
        running.cancel()
        assert longest * 0.9 <= max(waits) <= longest + 2 * COST
        rounds = MANY * COST / longest
        assert loop.time() <= MANY * COST + (rounds + 3) * busy + 0.01

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(story())
