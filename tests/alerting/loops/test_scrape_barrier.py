"""What a group waits for before it runs, on a loop whose time jumps."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from support.rule_texts import group, recording
from support.virtual_time import VirtualTimeLoop
from tocsin_alerting.loops.scrape_barrier import MAX_WAIT_MS, ScrapeBarrier, wait_ms
from tocsin_alerting.rules.state import GroupState, RuleState
from tocsin_alerting.tsdb.source_health import LastSeen
from tocsin_exporter.clock import Clock
from tocsin_exporter.snapshot import Source

GPU, HOST = Source("dcgm", "h"), Source("node", "h")
SLOT_MS = 10_000


class Scrapes:
    """Sources whose readings are still to come; the rule reads that of GPU alone."""

    def __init__(self, *awaited: Source) -> None:
        loop = asyncio.get_running_loop()
        self.awaited = set(awaited)
        self.asked_of: list[int] = []
        self.last: dict[Source, LastSeen] = {}
        self.offset_s = SLOT_MS / 1000
        self.clock = Clock(lambda: self.offset_s + loop.time(), loop.time)
        self._arrived = asyncio.Event()
        rule = recording("r", "m")
        progress = RuleState("f.yml", "g", rule)
        self.progress = GroupState(group(rule), 5_000, [progress], loaded_ms=0, begun_ms=SLOT_MS)
        self.barrier = ScrapeBarrier(
            self._awaited,
            self._arrival,
            lambda: (GPU, HOST),
            lambda selector: frozenset({GPU}),
            self.last.get,
            self.clock,
        )

    def arrives(self, source: Source, at_ms: int) -> None:
        self.awaited.discard(source)
        self.last[source] = LastSeen(at_ms, True)
        self._arrived.set()
        self._arrived = asyncio.Event()

    def _awaited(self, at_ms: int, patience_ms: int) -> Collection[Source]:
        self.asked_of.append(at_ms)
        return set(self.awaited)

    async def _arrival(self) -> None:
        await self._arrived.wait()

    async def waited(self) -> tuple[int, float]:
        """Until when samples belong to the slot, and for how many seconds that was waited for."""
        began = asyncio.get_running_loop().time()
        until_ms = await self.barrier.wait(self.progress)
        return until_ms, asyncio.get_running_loop().time() - began


def virtually(story: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await story()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


def later(seconds: float, call: Callable[..., Any], *arguments: object) -> None:
    asyncio.get_running_loop().call_later(seconds, call, *arguments)


def test_it_waits_for_a_reading_of_what_the_rules_read() -> None:
    async def story() -> None:
        scrapes = Scrapes(GPU, HOST)
        later(0.2, scrapes.arrives, GPU, SLOT_MS + 150)
        assert await scrapes.waited() == (SLOT_MS + 150, 0.2)

    virtually(story)


def test_what_no_rule_reads_holds_up_nothing() -> None:
    async def story() -> None:
        assert await Scrapes(HOST).waited() == (SLOT_MS, 0.0)

    virtually(story)


def test_a_source_that_hangs_is_waited_for_as_long_as_may_be_and_no_longer() -> None:
    async def story() -> None:
        scrapes = Scrapes(GPU)
        assert await scrapes.waited() == (SLOT_MS, wait_ms(5_000) / 1000)
        assert wait_ms(1_000) == 500 and wait_ms(60_000) == MAX_WAIT_MS

    virtually(story)


def test_a_reading_of_the_next_slot_does_not_belong_to_this_one() -> None:
    async def story() -> None:
        scrapes = Scrapes()
        scrapes.arrives(GPU, SLOT_MS + 4_999)
        scrapes.arrives(HOST, SLOT_MS - 1)
        assert await scrapes.waited() == (SLOT_MS, 0.0)

    virtually(story)


def test_a_slot_that_moves_with_the_clock_is_asked_for_where_it_is_now() -> None:
    async def story() -> None:
        scrapes = Scrapes(GPU, HOST)

        def step() -> None:
            scrapes.offset_s += 3_600
            scrapes.clock.check()
            scrapes.progress.shift(3_600_000)
            scrapes.arrives(HOST, SLOT_MS + 3_600_100)

        later(0.1, step)
        later(0.2, scrapes.arrives, GPU, SLOT_MS + 3_600_200)
        assert await scrapes.waited() == (SLOT_MS + 3_600_200, 0.2)
        assert scrapes.asked_of[-1] == SLOT_MS + 3_600_000

    virtually(story)
