"""Slices of the event loop for many rules; the most urgent group goes first."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from support.virtual_time import VirtualTimeLoop
from tocsin_alerting.loops.rule_scheduler import SLICE_SECONDS, RuleScheduler, Urgency

COST = 0.001  # seconds of each rule


def on_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(test())


class Work:
    """Groups whose rules each hold the loop for `COST`."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        assert isinstance(self.loop, VirtualTimeLoop)
        self.turns = RuleScheduler(self.loop.time)
        self.ended: list[str] = []

    async def group(self, name: str, urgency: Urgency, rules: int) -> None:
        for _ in range(rules):
            await self.turns.turn(urgency)
            self.loop.hold(COST)  # type: ignore[attr-defined]
        self.ended.append(name)


def test_ten_thousand_rules_hold_the_loop_for_a_slice_at_a_time() -> None:
    async def story() -> None:
        work, late = Work(), []
        running = asyncio.create_task(work.group("large", (9, 5_000), 10_000))
        while not running.done():
            before = work.loop.time()
            await asyncio.sleep(0.001)
            late.append(work.loop.time() - before - 0.001)
        assert len(late) > 900
        assert max(late) <= 2 * (SLICE_SECONDS + COST)

    on_virtual_time(story)


def test_a_group_that_pages_p0_goes_before_a_thousand_others_that_began_earlier() -> None:
    async def story() -> None:
        work = Work()
        others = [work.group(f"g{n}", (2, 1_000), 10) for n in range(1_000)]
        tasks = [asyncio.create_task(one) for one in others]
        await asyncio.sleep(0.05)
        began = work.loop.time()
        await work.group("urgent", (0, 60_000), 3)
        assert work.loop.time() - began <= 3 * SLICE_SECONDS
        await asyncio.gather(*tasks)
        assert len(work.ended) == 1_001

    on_virtual_time(story)


def test_urgent_groups_that_never_end_make_the_others_late_and_not_silent() -> None:
    async def story() -> None:
        work = Work()
        urgent = [asyncio.create_task(work.group(f"p0 {n}", (0, 0), 10**9)) for n in range(3)]
        began = work.loop.time()
        late = [work.group(f"p{n}", (n, 60_000), 30) for n in (2, 3)]
        await asyncio.wait_for(asyncio.gather(*late), 1)
        assert work.loop.time() - began > 0.3  # the urgent ones have the most by far
        for one in urgent:
            one.cancel()
        await asyncio.wait(urgent)

    on_virtual_time(story)


def test_one_that_gave_up_waiting_holds_up_nobody() -> None:
    async def story() -> None:
        work = Work()
        tasks = [asyncio.create_task(work.group(f"g{n}", (n, 0), 20)) for n in range(4)]
        await asyncio.sleep(0.012)
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(work.ended) == ["g0", "g1", "g3"]

    on_virtual_time(story)


def test_a_slice_is_left_to_a_more_urgent_group_that_waits() -> None:
    async def story() -> None:
        work, order = Work(), list[str]()
        work.loop.hold(2 * SLICE_SECONDS)  # type: ignore[attr-defined]

        async def turns(*steps: tuple[str, Urgency]) -> None:
            for name, urgency in steps:
                await work.turns.turn(urgency)
                order.append(name)

        await asyncio.gather(
            turns(("second", (5, 0))),
            turns(("p0", (0, 0)), ("last", (9, 0))),  # its slice has only begun
            turns(("third", (7, 0))),
        )
        assert order == ["p0", "second", "third", "last"]

    on_virtual_time(story)
