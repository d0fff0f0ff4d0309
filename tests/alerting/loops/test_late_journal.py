"""What was open at the last end, by a journal that comes late or lost its end: its source is dead
since, and nobody hears that it is over until it answers."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from support.alert_events import alert
from support.dispatcher_setup import START_MS
from support.policies import HOUR, MINUTE, config
from support.rule_deps import SetSources, surroundings
from support.rule_texts import alerting, group
from support.scrape_barrier import nothing_awaited
from support.scripted_engine import Rows, row
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import JournalState
from tocsin_alerting.incidents.outbox_message import Delivered
from tocsin_alerting.loops.rule_loop import DispatcherInstances, RuleLoop
from tocsin_alerting.rules.alert import AlertEvent, EventKind
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.rules.unknown_alerts import SourceStatus
from tocsin_exporter.clock import Clock
from tocsin_exporter.snapshot import Source

LOST, OTHER = Source("llm", "e:1"), Source("llm", "e:2")
EXPRS: Mapping[str, Rows] = {
    "m > 5": [row(9.0, __name__="m", instance="e:1")],
    "sum by (host) (m) > 5": [row(9.0, host="h")],
}


class LateJournal(MemoryJournal):
    unreadable = False

    async def load(self) -> JournalState:
        if self.unreadable:
            raise JournalDown("the disk hangs")
        return await super().load()


class Run:
    """One run of a rule on `journal`, its time moved by the test; `result` is what it gives."""

    def __init__(self, journal: LateJournal, expr: str, now_ms: int) -> None:
        self.now_ms, self.journal, self.result = now_ms, journal, EXPRS[expr]
        self.sources = SetSources({LOST: SourceStatus.ALIVE, OTHER: SourceStatus.ALIVE})
        self.reasons: list[str] = []
        self.hold: asyncio.Event | None = None
        self.asked = asyncio.Event()
        deps = surroundings({expr: lambda _: self.result}, sources=self.sources)
        deps = surroundings({}, engine=_Held(self, deps.engine), sources=self.sources)
        self.groups = Groups(deps, 5_000)
        self.dispatcher = Dispatcher(config(), journal, lambda: 0.0)
        self.dispatcher.recovery.recall = self.groups.recall
        clock = Clock(lambda: self.now_ms / 1000, lambda: self.now_ms / 1000)
        instances = DispatcherInstances(self.dispatcher, clock.now_ms)
        self.rounds = RuleLoop(
            self.groups, self.dispatcher, instances, clock, nothing_awaited(clock)
        )
        self.rule = alerting(expr, "Bad", severity="P0")

    async def begin(self) -> None:
        await self.dispatcher.start(self.now_ms)
        began_ms, held = self.now_ms, self.dispatcher.working.active_events(self.now_ms)
        rows = self.dispatcher.recovery.saved_instances
        self.groups.remember(rows, began_ms, lambda _: began_ms, held)
        self.groups.load([RuleFile("f.yml", (group(self.rule),))], self.now_ms)

    async def evaluate(self) -> None:
        self.now_ms += 5_000
        for progress in self.groups.all:
            await self.rounds.evaluate(progress, self.now_ms)
        await self.rounds._end_removed_rules()

    async def look(self) -> None:
        """What is due: the journal is tried again, and messages go."""
        self.now_ms += 1_000
        await self.dispatcher.due(self.now_ms)
        if self.dispatcher._reconnecting is not None:
            await self.dispatcher._reconnecting
        for one in await self.dispatcher.claim(self.now_ms):
            self.reasons.append(one.notification.reason.value)
            await self.dispatcher.delivered(one, Delivered(), self.now_ms)

    @property
    def open(self) -> list[tuple[str, str]]:
        every = self.dispatcher.working.incidents.values()
        return [(one.state.value, one.source.value) for one in every if one.is_open]


class _Held:
    """Answers when `run.hold` is set."""

    def __init__(self, run: Run, engine: Any) -> None:
        self._run, self._engine = run, engine

    async def instant(self, *asked: Any) -> Any:
        self._run.asked.set()
        if self._run.hold is not None:
            await self._run.hold.wait()
        return await self._engine.instant(*asked)


async def _last_run(expr: str, unknown: bool) -> Run:
    run = Run(LateJournal(), expr, START_MS)
    await run.begin()
    for _ in range(3):
        await run.evaluate()
        await run.look()
    if unknown:
        run.sources.healths[LOST], run.result = SourceStatus.DEAD, []
        await run.evaluate()
    assert run.open == [("TRIGGERED", "unknown" if unknown else "firing")]
    return run


async def _next_run(before: Run, expr: str, down_ms: int) -> Run:
    run = Run(before.journal, expr, before.now_ms + down_ms)
    run.sources.healths[LOST], run.result = SourceStatus.DEAD, []
    return run


@pytest.mark.parametrize("expr", EXPRS)
@pytest.mark.parametrize("unknown", [False, True], ids=["firing", "unknown"])
@pytest.mark.parametrize("rows", [False, True], ids=["rows lost", "rows kept"])
@pytest.mark.parametrize("late", ["in time", "before the first", "during it", "after it"])
@pytest.mark.parametrize("down_ms", [0, HOUR])
async def test_what_was_open_is_unknown_until_its_source_answers(
    expr: str, unknown: bool, rows: bool, late: str, down_ms: int
) -> None:
    before = await _last_run(expr, unknown)
    if not rows:
        await before.journal.commit(Changeset(instances={("f.yml", "g"): ()}))
    run = await _next_run(before, expr, down_ms)
    run.journal.unreadable = late != "in time"
    await run.begin()
    if late == "after it":
        for _ in range(100):
            await run.evaluate()
    run.journal.unreadable = False
    if late == "during it":
        run.hold = asyncio.Event()
        evaluating = asyncio.ensure_future(run.evaluate())
        await run.asked.wait()
        await run.look()
        run.hold.set()
        await evaluating
    await run.look()
    for _ in range(100):
        await run.evaluate()
        await run.look()
        assert (run.open, "resolved" in run.reasons) == ([("TRIGGERED", "unknown")], False)
    run.sources.healths[LOST] = SourceStatus.ALIVE
    for _ in range(100):
        await run.evaluate()
        await run.look()
    assert (run.open, "resolved" in run.reasons) == ([], True)


async def test_what_waited_and_ended_before_the_journal_came_counts_no_more() -> None:
    journal = LateJournal()
    before = Run(journal, "m > 5", START_MS)
    before.rule = alerting("m > 5", "Bad", MINUTE, severity="P0")
    await before.begin()
    for _ in range(7):
        await before.evaluate()
    run = Run(journal, "m > 5", before.now_ms)
    run.rule = before.rule
    journal.unreadable = True
    await run.begin()
    fires, run.result = run.result, []
    await run.evaluate()
    run.result = fires
    await run.evaluate()
    journal.unreadable = False
    await run.look()
    for _ in range(9):
        await run.evaluate()
        assert run.open == []
    for _ in range(4):
        await run.evaluate()
    assert run.open == [("TRIGGERED", "firing")]


async def test_what_still_fires_by_a_journal_that_comes_late_fires_on() -> None:
    before = await _last_run("m > 5", False)
    run = Run(before.journal, "m > 5", before.now_ms)
    run.journal.unreadable = True
    await run.begin()
    run.journal.unreadable = False
    await run.look()
    await run.evaluate()
    await run.look()
    assert (run.open, run.reasons) == ([("TRIGGERED", "firing")], [])


@pytest.mark.parametrize("unknown", [False, True], ids=["firing", "unknown"])
@pytest.mark.parametrize("ended", [False, True], ids=["fires on", "has ended"])
async def test_what_has_yet_to_fire_anew_joins_the_incident_that_was_opened_meanwhile(
    unknown: bool, ended: bool
) -> None:
    """Two engines in one incident: one fires anew, the other one is dead."""
    both = [row(9.0, __name__="m", instance=one) for one in ("e:1", "e:2")]
    before = Run(LateJournal(), "m > 5", START_MS)
    before.result = both
    await before.begin()
    await before.evaluate()
    await before.look()
    if unknown:
        before.sources.healths[LOST], before.result = SourceStatus.DEAD, both[1:]
        await before.evaluate()
    assert len(before.open) == 1
    run = await _next_run(before, "m > 5", MINUTE)
    run.journal.unreadable, run.result = True, both[1:]
    await run.begin()
    await run.evaluate()
    if ended:
        run.result = []
        await run.evaluate()
    run.journal.unreadable = False
    await run.look()
    for _ in range(100):
        await run.evaluate()
        await run.look()
    assert (await run.dispatcher.incident(1)).state is IncidentState.CLOSED
    assert run.open == [("TRIGGERED", "unknown" if ended else "firing")]
    (anew,) = run.dispatcher.working.incidents.values()
    says = {dict(one.alert.labels)["instance"]: one.source for one in anew.members.values()}
    assert says == {"e:1": "unknown", "e:2": "clear" if ended else "firing"}
    run.sources.healths[LOST], run.result = SourceStatus.ALIVE, []
    for _ in range(100):
        await run.evaluate()
        await run.look()
    assert run.open == [] and run.reasons[-1] == "resolved"


@pytest.mark.parametrize("first", [False, True], ids=["evaluated", "adopted first"])
async def test_a_rule_that_is_gone_leaves_what_it_said_unwatched(first: bool) -> None:
    before = await _last_run("m > 5", False)
    run = await _next_run(before, "m > 5", MINUTE)
    run.journal.unreadable = True
    run.rule = alerting("m > 5", "Other", uid="g/Other/0", severity="P0")
    await run.begin()
    if not first:
        await run.evaluate()
    run.journal.unreadable = False
    await run.look()
    await run.evaluate()
    await run.look()
    assert run.open == []
    assert "unwatched" in run.reasons and "resolved" not in run.reasons


async def test_a_fault_while_it_is_taken_over_takes_back_nothing_and_is_made_good() -> None:
    before = await _last_run("m > 5", False)
    run = await _next_run(before, "m > 5", MINUTE)
    recalls: list[int] = []

    def recall(held: Any, rows: Any) -> Any:
        recalls.append(len(held))
        if len(recalls) == 1:
            raise RuntimeError("a fault of ours")
        return run.groups.recall(held, rows)

    run.dispatcher.recovery.recall = recall
    run.journal.unreadable = True
    await run.begin()
    other = AlertEvent(EventKind.FIRING, alert("Other", "P0", target="x"), run.now_ms, origin="api")
    await run.dispatcher.handle([other], run.now_ms)
    run.journal.unreadable = False
    await run.look()
    await run.dispatcher.act(Action(Verb.ACK, 1, "li"), run.now_ms)
    seqs = [entry.seq for entry in (await run.dispatcher.timeline(1)).history]
    for _ in range(60):
        await run.look()
    await run.evaluate()
    assert recalls == [1, 1]
    assert (await run.dispatcher.incident(1)).state is IncidentState.ACKED
    assert [entry.seq for entry in (await run.dispatcher.timeline(1)).history][: len(seqs)] == seqs
    assert sorted(run.open) == [("ACKED", "unknown"), ("TRIGGERED", "firing")]
