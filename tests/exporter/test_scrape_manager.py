"""The loops, on a loop whose time jumps: hours of sampling in milliseconds."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from support.virtual_time import VirtualTimeLoop
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.engine_page import OriginalPage
from tocsin_exporter.scrape import ScrapeTarget
from tocsin_exporter.scrape_manager import ScrapeManager, next_due
from tocsin_exporter.slices import Work
from tocsin_exporter.snapshot import Family, Sample, Snapshot, Source

COUNT = Family("count", "gauge", "Readings so far.")
START = 1_000_000_000.0  # Unix seconds, a multiple of the intervals used here


class Counting:
    """Says how often it was read; may take a while or hang."""

    def __init__(self, name: str = "counting", seconds: float = 0.0) -> None:
        self.name, self.count, self.closed = name, 0, False
        self._seconds = seconds

    async def collect(self) -> Sequence[Sample]:
        await asyncio.sleep(self._seconds)
        self.count += 1
        return [Sample(COUNT, self.count)]

    def close(self) -> None:
        self.closed = True


class Machine:
    """A wall clock over the loop's time, which can be set."""

    def __init__(self) -> None:
        self.offset = START
        loop = asyncio.get_running_loop()
        self.clock = Clock(lambda: self.offset + loop.time(), loop.time)

    def set_forward(self, seconds: float) -> None:
        self.offset += seconds


def target(
    collector: Counting, interval: float = 5.0, cheap: bool = False, name: str = "h"
) -> ScrapeTarget:
    names = frozenset({collector.name}) if cheap else frozenset()
    return ScrapeTarget(
        "process", Source("node", name), (collector,), interval, interval * 0.8, names
    )


def virtually(test: Callable[[Machine], Awaitable[None]]) -> Callable[[], None]:
    """Run a test on a loop of its own, where waiting takes no time."""

    def run() -> None:
        async def on_machine() -> None:
            await test(Machine())

        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(on_machine())

    run.__name__ = test.__name__
    return run


async def sample(agent: ScrapeManager, machine: Machine, seconds: float) -> None:
    """Let the agent and its clock run for a while."""
    running = [asyncio.create_task(agent.run()), asyncio.create_task(machine.clock.follow())]
    await asyncio.sleep(seconds)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def test_the_next_due_time_is_a_multiple_of_the_interval_and_later() -> None:
    assert [next_due(now, 5_000) for now in (0, 4_999, 5_000, 5_001)] == [
        5_000,
        5_000,
        10_000,
        10_000,
    ]


@virtually
async def test_rounds_are_aligned_to_the_wall_clock(machine: Machine) -> None:
    machine.offset += 2.0
    machine.clock.check()
    taken: list[Snapshot] = []
    agent = ScrapeManager([target(Counting())], machine.clock, [taken.append])
    await sample(agent, machine, 20.0)
    first, *others = [snapshot.at_ms - int(START * 1000) for snapshot in taken]
    assert first == pytest.approx(2_000, abs=20)
    assert others == [5_000, 10_000, 15_000, 20_000]


@pytest.mark.parametrize("step", [3600.0, -3600.0, 3602.5, -3597.5, 3604.0, -3596.0])
def test_a_clock_stepped_an_hour_loses_no_round(step: float) -> None:
    async def story(machine: Machine) -> None:
        times: list[float] = []
        loop = asyncio.get_running_loop()
        agent = ScrapeManager(
            [target(Counting())], machine.clock, [lambda _: times.append(loop.time())]
        )
        loop.call_later(31.0, machine.set_forward, step)
        await sample(agent, machine, 60.5)
        gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
        assert len(times) >= 13 and max(gaps) <= 5.1
        steps = [s.value for s in agent.samples() if s.family.name == "tocsin_clock_steps_total"]
        assert steps == [1]

    virtually(story)()


def test_a_collector_that_keeps_times_hears_that_the_clock_was_set() -> None:
    class Dating(Counting):
        moved = 0.0

        def move(self, seconds: float) -> None:
            self.moved += seconds

    async def story(machine: Machine) -> None:
        dating = Dating()
        agent = ScrapeManager([target(dating), target(Counting(), name="other")], machine.clock)
        asyncio.get_running_loop().call_later(11.0, machine.set_forward, 3600.0)
        await sample(agent, machine, 20.0)
        assert dating.moved == pytest.approx(3600.0, abs=0.1)

    virtually(story)()


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_round_in_which_the_clock_is_stepped_carries_the_new_time(step: float) -> None:
    async def story(machine: Machine) -> None:
        taken: list[Snapshot] = []
        late: list[int] = []

        def take(snapshot: Snapshot) -> None:
            taken.append(snapshot)
            late.append(machine.clock.now_ms() - snapshot.at_ms)

        agent = ScrapeManager([target(Counting(seconds=3.0))], machine.clock, [take])
        asyncio.get_running_loop().call_later(11.0, machine.set_forward, step)
        await sample(agent, machine, 31.0)
        assert len(taken) >= 6
        assert late == [pytest.approx(3000, abs=100)] * len(late)

    virtually(story)()


@virtually
async def test_a_slow_source_misses_rounds_and_holds_up_nobody(machine: Machine) -> None:
    slow, quick = Counting("slow", seconds=100.0), Counting("quick")
    agent = ScrapeManager(
        [target(slow, name="slow"), target(quick, interval=1.0, name="quick")], machine.clock
    )
    await sample(agent, machine, 20.5)
    assert (slow.count, quick.count) == (0, 21)
    assert slow.closed and quick.closed


@virtually
async def test_a_sink_that_raises_stops_neither_the_others_nor_the_sampling(
    machine: Machine,
) -> None:
    taken: list[Snapshot] = []

    def broken(_snapshot: Snapshot) -> None:
        raise RuntimeError("full")

    agent = ScrapeManager([target(Counting())], machine.clock, [broken, taken.append])
    await sample(agent, machine, 11.0)
    assert len(taken) == 3


class Odd(Counting):
    """It says a number that is none, which no collector may."""

    async def collect(self) -> Sequence[Sample]:
        self.count += 1
        return [Sample(COUNT, "many")]  # type: ignore[arg-type]


@virtually
async def test_a_fault_with_one_source_ends_no_other_and_is_no_success(machine: Machine) -> None:
    taken: list[Snapshot] = []
    good, odd = Counting(), Odd("odd")
    targets = [target(good), target(odd, name="odd")]
    agent = ScrapeManager(targets, machine.clock, sinks=[taken.append])
    await sample(agent, machine, 22)
    assert good.count == odd.count == 5 and agent.ready
    told = [(one.source.instance, one.ok) for one in taken]
    assert told.count(("h", True)) == told.count(("odd", False)) == 5 and len(told) == 10


@virtually
async def test_a_fault_of_ours_with_another_program_says_nothing_of_it(machine: Machine) -> None:
    taken: list[Snapshot] = []
    engine = replace(target(Odd("llm"), name="h:1"), target="h:1")
    agent = ScrapeManager([engine, target(Odd("odd"))], machine.clock, sinks=[taken.append])
    await sample(agent, machine, 2)
    told = {one.source.instance: (one.ok, one.report) for one in taken}
    assert told == {"h:1": (False, False), "h": (False, True)}


@virtually
async def test_a_source_can_come_and_go_while_it_runs(machine: Machine) -> None:
    staying, coming = Counting(), Counting()
    agent = ScrapeManager([target(staying)], machine.clock)
    running = asyncio.gather(agent.run(), machine.clock.follow())
    await asyncio.sleep(1)
    agent.add(target(coming, interval=1.0, name="engine"))
    await asyncio.sleep(3.5)
    agent.remove(Source("node", "engine"))
    await asyncio.sleep(10)
    assert coming.count == 4 and coming.closed and not staying.closed
    assert agent.sources == [Source("node", "h")]
    with pytest.raises(ValueError, match="watched already"):
        agent.add(target(staying))
    running.cancel()


@virtually
async def test_a_scrape_reads_cheap_sources_anew_but_not_twice_in_200_ms(
    machine: Machine,
) -> None:
    cheap, dear = Counting("cheap"), Counting("dear")
    agent = ScrapeManager(
        [target(cheap, 60.0, cheap=True, name="c"), target(dear, 60.0, name="d")], machine.clock
    )
    running = asyncio.create_task(agent.run())
    await asyncio.sleep(1)
    for _ in range(5):
        await agent.page()
    await asyncio.sleep(0.3)
    page = await agent.page()
    assert (cheap.count, dear.count) == (3, 1)
    assert [snapshot.values.tolist() for snapshot in page] == [[3], [1]]
    assert await agent.page(["gpu"]) == []
    running.cancel()


@virtually
async def test_nothing_older_than_three_rounds_is_shown(machine: Machine) -> None:
    agent = ScrapeManager([target(Counting())], machine.clock)
    await sample(agent, machine, 1.0)
    await asyncio.sleep(13.0)
    assert len(await agent.page()) == 1
    await asyncio.sleep(3.0)
    assert await agent.page() == []


@virtually
async def test_it_is_ready_when_every_source_was_read_or_missed_its_deadline(
    machine: Machine,
) -> None:
    agent = ScrapeManager(
        [target(Counting(), name="a"), target(Counting(seconds=100.0), name="b")], machine.clock
    )
    running = asyncio.create_task(agent.run())
    await asyncio.sleep(3.9)
    await agent.page()
    assert not agent.ready, "a scrape is no round"
    await asyncio.sleep(0.2)
    assert agent.ready
    assert {source.instance: snapshot.ok for source, snapshot in agent.last.items()} == {
        "a": True,
        "b": False,
    }
    running.cancel()


@virtually
async def test_a_page_of_one_collector_has_its_families_alone(machine: Machine) -> None:
    other = Family("other", "gauge", "Of another collector.")

    class Other(Counting):
        async def collect(self) -> Sequence[Sample]:
            return [Sample(other, 7)]

    both = ScrapeTarget("host", Source("node", "h"), (Counting("a"), Other("b")), 5, 4)
    agent = ScrapeManager([both], machine.clock)
    running = asyncio.create_task(agent.run())
    await asyncio.sleep(1)
    assert {area: list(names) for area, names in agent.collectors.items()} == {"host": ["a", "b"]}
    for parts, names in ((["b"], {"other"}), (["host"], {"count", "other"}), (["c"], set())):
        page = await agent.page(parts)
        families = {name for one in page for name in one.families}
        assert {n for n in families if not n.startswith(("node_scrape", "node_exporter"))} == names
    running.cancel()


PATIENCE_MS = 500


@virtually
async def test_a_reading_is_awaited_from_its_due_time_until_it_is_there(machine: Machine) -> None:
    agent = ScrapeManager(
        [target(Counting(seconds=0.2)), target(Counting(), name="q")], machine.clock
    )
    running = asyncio.create_task(agent.run())
    slow = Source("node", "h")
    await asyncio.sleep(4.9)
    slot = round(START * 1000) + 5_000
    assert agent.awaited(slot - 1, PATIENCE_MS) == set()
    assert agent.awaited(slot, PATIENCE_MS) == {slow, Source("node", "q")}
    await asyncio.sleep(0.15)
    assert agent.awaited(slot, PATIENCE_MS) == {slow}
    await agent.arrival()
    assert agent.last[slow].at_ms == slot
    assert machine.clock.now_ms() == pytest.approx(slot + 200, abs=2)
    assert agent.awaited(slot, PATIENCE_MS) == set()
    running.cancel()


@virtually
async def test_an_engines_own_page_is_awaited_with_the_engine(machine: Machine) -> None:
    """Rules on its own names were a whole interval late."""
    engine = replace(target(Counting(seconds=0.2)), original=OriginalPage("h", engine_type="vllm"))
    agent = ScrapeManager([engine], machine.clock)
    running = asyncio.create_task(agent.run())
    await asyncio.sleep(5.1)
    slot = round(START * 1000) + 5_000
    assert agent.awaited(slot, PATIENCE_MS) == {Source("node", "h"), Source("vllm", "h")}
    await agent.arrival()
    assert agent.awaited(slot, PATIENCE_MS) == set()
    running.cancel()


@virtually
async def test_a_source_that_hangs_or_was_slow_the_last_time_is_not_awaited(
    machine: Machine,
) -> None:
    hanging = Counting(seconds=0.1)
    agent = ScrapeManager([target(hanging)], machine.clock)
    running = asyncio.create_task(agent.run())
    await asyncio.sleep(4.0)
    hanging._seconds = 1.0
    slot = round(START * 1000) + 5_000
    await asyncio.sleep(1.4)
    assert agent.awaited(slot, PATIENCE_MS) == {Source("node", "h")}
    await asyncio.sleep(0.2)
    assert agent.awaited(slot, PATIENCE_MS) == set()
    await asyncio.sleep(4.3)
    assert agent.awaited(slot + 5_000, PATIENCE_MS) == set()
    hanging._seconds = 0.1
    await asyncio.sleep(5.0)
    assert agent.awaited(slot + 10_000, PATIENCE_MS) == {Source("node", "h")}
    running.cancel()


@virtually
async def test_what_is_watched_no_more_is_not_awaited(machine: Machine) -> None:
    agent = ScrapeManager([target(Counting())], machine.clock)
    running = asyncio.create_task(agent.run())
    await asyncio.sleep(1.0)
    agent.remove(Source("node", "h"))
    assert agent.awaited(round(START * 1000) + 5_000, PATIENCE_MS) == set()
    running.cancel()


@virtually
async def test_what_takes_long_is_prepared_in_slices_before_a_sink_is_called(
    machine: Machine,
) -> None:
    said: list[str] = []

    def prepare(_snapshot: Snapshot) -> Work[None]:
        for _ in range(3):
            said.append("slice")
            yield

    agent = ScrapeManager(
        [target(Counting())], machine.clock, [lambda _: said.append("sink")], prepare
    )
    task = asyncio.create_task(agent.run())
    await asyncio.sleep(1)
    task.cancel()
    assert said == ["slice", "slice", "slice", "sink"]


@virtually
async def test_a_clock_that_drifts_has_each_round_once(machine: Machine) -> None:
    """It is followed by 50 ms twice a second, so that what was slept for may be too short."""
    times: list[int] = []
    sinks = [lambda snapshot: times.append(snapshot.at_ms)]
    agent = ScrapeManager([target(Counting(), interval=1.0)], machine.clock, sinks)
    asyncio.get_running_loop().call_later(1.2, machine.set_forward, -0.9)
    await sample(agent, machine, 30.0)
    gaps = {later - earlier for earlier, later in zip(times[1:], times[2:], strict=False)}
    assert gaps == {1000}


@virtually
async def test_a_clock_that_drifts_in_a_round_has_it_once(machine: Machine) -> None:
    class Drifting(Counting):
        async def collect(self) -> Sequence[Sample]:
            machine.offset -= 0.04
            machine.clock.check()
            return await super().collect()

    times: list[int] = []
    sinks = [lambda snapshot: times.append(snapshot.at_ms)]
    await sample(ScrapeManager([target(Drifting(), 1.0)], machine.clock, sinks), machine, 20.0)
    gaps = {later - earlier for earlier, later in zip(times[1:], times[2:], strict=False)}
    assert gaps == {1000}


@virtually
async def test_rounds_that_were_slept_through_are_counted(machine: Machine) -> None:
    slow = replace(target(Counting(seconds=3.2), interval=1.0), deadline=10.0)
    agent = ScrapeManager([slow], machine.clock)
    await sample(agent, machine, 11.0)
    counts = {s.family.name: s.value for s in agent.samples() if "rounds" in s.family.name}
    assert counts == {"tocsin_sampling_rounds_total": 2, "tocsin_sampling_rounds_missed_total": 6}


@virtually
async def test_one_that_comes_later_and_hangs_does_not_hold_up_whoever_asks_if_it_is_ready(
    machine: Machine,
) -> None:
    agent = ScrapeManager([target(Counting(), name="a")], machine.clock)
    running = asyncio.create_task(agent.run())
    assert agent.unscraped(machine.clock.now_ms())
    await asyncio.sleep(1)
    agent.add(target(Counting(seconds=100.0), name="b"))
    await asyncio.sleep(1)
    assert not agent.ready and agent.unscraped(machine.clock.now_ms()) == ""
    assert "node" in agent.unscraped(machine.clock.now_ms() + 200_000), "it is late all the same"
    running.cancel()
