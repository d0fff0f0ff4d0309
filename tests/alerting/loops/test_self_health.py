"""Each part that is not well is named, and nothing is called so that only takes its time."""

from dataclasses import dataclass, field

import pytest

from support.alert_events import alert, fires
from support.dispatcher_setup import START_MS
from support.policies import MINUTE, config
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.loops.self_health import STALLED_SECONDS, SelfHealth
from tocsin_exporter.clock import Clock


class FullDisk(MemoryJournal):
    full = False

    async def commit(self, changeset: Changeset) -> None:
        if self.full:
            raise JournalDown("no space left on device")
        await super().commit(changeset)


@dataclass
class Rules:
    turns_by_s: float | None = None
    waits_for: str = ""
    late_groups: list[str] = field(default_factory=list)

    def unready(self, now_ms: int) -> str:
        return self.waits_for

    def late(self, now_ms: int, patience_ms: int) -> list[str]:
        return self.late_groups


@dataclass
class Paging:
    turns_by_s: float | None = None


@dataclass
class Agent:
    """Time stands until it is moved."""

    now: int = START_MS
    unscraped: str = ""
    rules: Rules = field(default_factory=Rules)
    paging: Paging = field(default_factory=Paging)
    journal: FullDisk = field(default_factory=FullDisk)

    async def start(self) -> "Agent":
        self.dispatcher = Dispatcher(config(), self.journal, lambda: 0.0)
        await self.dispatcher.start(self.now)
        clock = Clock(lambda: self.now / 1000, lambda: self.now / 1000)
        self.health = SelfHealth(
            self.dispatcher, self.rules, self.paging, lambda _: self.unscraped, clock
        )
        return self

    async def fire(self, severity: str) -> None:
        await self.dispatcher.handle([fires(alert("Down", severity), self.now)], self.now)
        await self.dispatcher.due(self.now)

    async def deliver(self, outcome: Outcome) -> int:
        """How many there were."""
        claimed = await self.dispatcher.claim(self.now)
        for delivery in claimed:
            await self.dispatcher.delivered(delivery, outcome, self.now)
        return len(claimed)

    @property
    def parts(self) -> list[str]:
        return [trouble.part for trouble in self.health.troubles()]


async def test_an_agent_that_has_nothing_to_do_is_well() -> None:
    agent = await Agent().start()
    assert agent.health.troubles() == [] and agent.health.unready() == ""
    agent.now += 60 * MINUTE
    assert agent.parts == []


async def test_what_is_not_read_or_evaluated_is_named() -> None:
    agent = await Agent(unscraped="sources are not read any more: node").start()
    agent.rules.waits_for = "rule groups have not run yet: fast"
    assert agent.parts == ["scraping", "evaluation"]
    assert agent.health.unready() == (
        "sources are not read any more: node; rule groups have not run yet: fast"
    )
    agent.unscraped, agent.rules.waits_for = "", ""
    agent.rules.late_groups = ["slow", "fast"]
    assert agent.health.unready() == "rule groups are not evaluated any more: slow, fast"


async def test_a_timer_is_late_after_two_minutes() -> None:
    agent = await Agent().start()
    await agent.fire("P0")
    await agent.deliver(Delivered())
    due_ms = agent.dispatcher.working.schedule.next_due_ms()
    assert due_ms is not None
    agent.now = due_ms + 2 * MINUTE
    assert agent.parts == []
    agent.now += 1
    assert agent.parts == ["timers"]
    await agent.dispatcher.due(agent.now)
    assert "timers" not in agent.parts


@pytest.mark.parametrize("outcome", [RetryAt("connection refused"), Permanent("no such user")])
@pytest.mark.parametrize(("severity", "patience"), [("P0", 2 * MINUTE), ("P2", 15 * MINUTE)])
async def test_a_page_that_reaches_nobody(severity: str, patience: int, outcome: Outcome) -> None:
    """However often another step replaces it."""
    agent = await Agent().start()
    await agent.fire(severity)
    first_ms = None
    for _ in range(90):
        await agent.dispatcher.due(agent.now)
        tried = await agent.deliver(outcome)
        first_ms = agent.now if tried and first_ms is None else first_ms
        late = first_ms is not None and agent.now - first_ms > patience
        assert agent.parts == ["outbox"] * late, (agent.now - START_MS) / MINUTE
        agent.now += 20_000
    assert "reached nobody for" in agent.health.unready()
    while not await agent.deliver(Delivered()):
        agent.now += 20_000
        await agent.dispatcher.due(agent.now)
    assert agent.parts == []


async def test_one_receiver_that_fails_is_no_trouble_while_another_one_reaches_somebody() -> None:
    agent = await Agent().start()
    await agent.fire("P0")
    first, *others = await agent.dispatcher.claim(agent.now)
    assert others
    await agent.dispatcher.delivered(first, Delivered(), agent.now)
    for delivery in others:
        await agent.dispatcher.delivered(delivery, RetryAt("refused"), agent.now)
    agent.now += 3 * MINUTE
    await agent.dispatcher.due(agent.now)
    assert agent.parts == []


async def test_a_journal_that_is_down_is_no_reason_for_a_restart() -> None:
    agent = await Agent().start()
    agent.paging.turns_by_s = agent.rules.turns_by_s = agent.now / 1000
    agent.journal.full = True
    await agent.fire("P0")
    await agent.deliver(Delivered())
    agent.now += 40_000
    assert agent.parts == ["journal"]
    assert "down for 40s: no space left on device" in agent.health.unready()
    assert agent.health.stalled() == ""


async def test_only_a_loop_that_no_longer_turns_is_stalled() -> None:
    agent = await Agent().start()
    assert agent.health.stalled() == "", "before the loops run nothing is late"
    agent.rules.turns_by_s = agent.now / 1000 + 3600
    agent.paging.turns_by_s = agent.now / 1000 + 10
    agent.now += 10_000 + round(1000 * STALLED_SECONDS)
    assert agent.health.stalled() == ""
    agent.now += 1000
    assert agent.health.stalled() == "the loop of incidents has not turned for 121 s"
    agent.paging.turns_by_s = agent.now / 1000
    agent.now += 3600_000
    agent.paging.turns_by_s = agent.now / 1000
    assert agent.health.stalled() == "the loop of rules has not turned for 131 s"
