"""The agent of a test: the stages that run in production, on a store, a clock and channels that
the test has made."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import Calendars, external_url, incident_config
from tocsin_alerting.incident_test.channel import ScriptedChannel
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.journal.protocol import Journal
from tocsin_alerting.incidents.outbox_message import Delivery, Outcome
from tocsin_alerting.loops.resume import load_last_run
from tocsin_alerting.loops.rule_loop import DispatcherInstances, RuleLoop
from tocsin_alerting.loops.scrape_barrier import ScrapeBarrier
from tocsin_alerting.notify.delivery import DeliveryLoop, DeliveryQueue
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.rules.rule_test import RuleTestStore
from tocsin_alerting.rules.rule_test_file import RuleTest
from tocsin_alerting.rules.unknown_alerts import AllAlive
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.clock import Clock

_PATIENCE_S = 60.0  # a busy machine is no slow disk: the clock of the test stands meanwhile


@dataclass(frozen=True, slots=True)
class AgentInputs:
    """What a test gives to each of its agents, one after the other."""

    config: Config
    calendars: Calendars
    test: RuleTest
    rules: Sequence[RuleFile]
    interval_ms: int
    store: Store
    bench: RuleTestStore
    channels: Mapping[str, ScriptedChannel]
    group_order: tuple[str, ...] = ()


@dataclass(slots=True)
class WatchedQueue:
    """The outbox as the delivery loop has it. `reported` hears how each attempt ended, before it
    is recorded; `busy` says whether one is being recorded."""

    queue: DeliveryQueue
    reported: Callable[[Delivery, Outcome], None]
    recording: int = field(default=0)

    @property
    def busy(self) -> bool:
        return self.recording > 0

    async def claim(self, now_ms: int) -> Sequence[Delivery]:
        return await self.queue.claim(now_ms)

    async def delivered(self, delivery: Delivery, outcome: Outcome, now_ms: int) -> None:
        self.recording += 1
        try:
            self.reported(delivery, outcome)
            await self.queue.delivered(delivery, outcome, now_ms)
        finally:
            self.recording -= 1


class AgentUnderTest:
    """One life of the agent: from its start until it is killed."""

    def __init__(
        self,
        bed: AgentInputs,
        clock: Clock,
        journal: Journal,
        reported: Callable[[Delivery, Outcome], None],
    ) -> None:
        self.clock = clock
        self._bed, self._journal = bed, journal
        config, test = bed.config, bed.test
        deps = EvaluationDeps(
            engine=bed.bench.engine,
            write=bed.bench.write,
            sources=AllAlive(),
            seconds=clock.monotonic,
            external_labels=test.external_labels or config.external_labels,
            external_url=test.external_url or external_url(config),
            unknown_max_ms=config.unknown_max,
        )
        self.groups = Groups(deps, bed.interval_ms)
        self.dispatcher = Dispatcher(
            replace(incident_config(config, bed.calendars), heartbeats=()),  # they count as sent
            journal,
            lambda: 0.5,
            patience_s=_PATIENCE_S,
            answer_s=_PATIENCE_S,
            start_patience_s=_PATIENCE_S,
        )
        self.dispatcher.recovery.recall = self.groups.recall
        self.queue = WatchedQueue(self.dispatcher, reported)
        self.delivery_loop = DeliveryLoop(self.queue, bed.channels, clock.now_ms)
        instances = DispatcherInstances(self.dispatcher, clock.now_ms)
        barrier = ScrapeBarrier(_none_awaited, _nothing, tuple, deps.sources.touched, _never, clock)
        self.rule_loop = RuleLoop(self.groups, self.dispatcher, instances, clock, barrier)
        self._instances = instances
        clock.on_move(self._moved)

    async def start(self, newest_ms: int | None) -> None:
        """As the agent starts: `newest_ms` is when the last run read its last sample."""
        now_ms = self.clock.now_ms()
        await load_last_run(self._bed.store, self.dispatcher, now_ms)
        rows = await self._instances.load()
        written_ms = self._bed.store.newest_ms
        self.groups.remember(
            rows, newest_ms, written_ms, self.dispatcher.working.active_events(now_ms)
        )
        removed = self.groups.load(self._bed.rules, now_ms)
        await self.dispatcher.handle(removed, now_ms)

    async def evaluate(self) -> str:
        """All groups, in order; the first rule that failed, and why."""
        now_ms, broken = self.clock.now_ms(), ""
        order = {name: number for number, name in enumerate(self._bed.group_order)}
        for progress in sorted(self.groups.all, key=lambda one: order.get(one.group.name, 0)):
            await self.rule_loop.evaluate(progress, now_ms)
            failed = (rule for rule in progress.rules if rule.last_error)
            broken = broken or next((f"{r.rule.name}: {r.last_error}" for r in failed), "")
        await self.dispatcher.heartbeat(now_ms)
        return broken

    def next_due_ms(self) -> int | None:
        """When a timer is due, or a message may go."""
        now_ms = self.clock.now_ms()
        both = (self.dispatcher.next_due_ms(), self.dispatcher.next_claim_ms(now_ms))
        return min((at_ms for at_ms in both if at_ms is not None), default=None)

    async def kill(self) -> None:
        """As SIGKILL: what is in memory is gone, and nothing is said to the journal."""
        await self.delivery_loop.close()
        await self._journal.close()

    def _moved(self, delta_ms: int) -> None:
        now_ms = self.clock.now_ms()
        self._bed.store.shift_clock(delta_ms, now_ms)
        self.groups.shift(delta_ms)
        self.dispatcher.clock_jumped(delta_ms, now_ms)


def _none_awaited(at_ms: int, patience_ms: int) -> tuple[()]:
    return ()


async def _nothing() -> Awaitable[None] | None:
    return None


def _never(source: object) -> None:
    return None
