"""Groups: order, slots, reloads, restarts, and a clock that is set."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.rule_deps import MemoryJournal, SetSources, Written, surroundings
from support.rule_texts import MINUTE, alerting, group, recording
from support.scripted_engine import Rows, row
from tocsin_alerting.promql.parser.ast import selectors
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.rules.alert import AlertEvent, AlertState, EventKind
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.groups import HEARTBEAT_MS, Groups, missed, slot_ms
from tocsin_alerting.rules.moves import SLICE_RULES
from tocsin_alerting.rules.rule import RuleFile, RuleGroup
from tocsin_alerting.rules.state import RuleHealth
from tocsin_alerting.rules.unknown_alerts import SourceStatus
from tocsin_exporter.slices import at_once
from tocsin_exporter.snapshot import Labels, Source

Samples = Sequence[tuple[Labels, float]]
UP = [row(1.0, __name__="m", instance="e:1")]
HOUR = 60 * MINUTE
ENGINE = Source("llm", "e:1")


class Condition:
    """Whether `m > 0` holds; a test sets it."""

    def __init__(self) -> None:
        self.rows: Rows = UP

    def __call__(self, t_ms: int) -> Rows:
        return self.rows


def files(*groups: RuleGroup) -> list[RuleFile]:
    return [RuleFile("f.yml", groups)]


def loaded(deps: EvaluationDeps, *groups: RuleGroup) -> Groups:
    made = Groups(deps, MINUTE)
    made.load(files(*groups), 0)
    return made


async def run(groups: Groups, *minutes: float) -> list[AlertEvent]:
    events: list[AlertEvent] = []
    for minute in minutes:
        for progress in groups.all:
            events += await groups.evaluate(progress, round(minute * MINUTE))
    return events


def kinds(events: Iterable[AlertEvent]) -> list[EventKind]:
    return [event.kind for event in events]


def state(groups: Groups) -> list[AlertState]:
    rules = [rule for progress in groups.all for rule in progress.rules]
    return [alert.state for rule in rules for alert in rule.alerts.values()]


async def test_rules_run_in_order_at_one_time_and_a_later_one_sees_the_earlier() -> None:
    written = Written()

    def of_recorded(t_ms: int) -> Rows:
        high = [(labels, value) for labels, value in written.now().items() if value > 1]
        return [(labels, value) for labels, value in high if dict(labels)["__name__"] == "r"]

    script = {"sum(m)": lambda t_ms: [row(2.0)], "r > 1": of_recorded}
    groups = loaded(
        surroundings(script, write=written), group(recording("r", "sum(m)"), alerting("r > 1"))
    )
    assert kinds(await run(groups, 1)) == [EventKind.FIRING]
    assert {at_ms for _, at_ms, _ in written.calls} == {MINUTE}


async def test_a_reading_that_began_late_is_read_and_what_is_written_stays_on_the_grid() -> None:
    deps = surroundings({"m > 0": Condition(), "sum(m)": lambda t_ms: [row(2.0)]})
    groups = loaded(deps, group(recording("r", "sum(m)"), alerting()))
    await groups.evaluate(groups.all[0], MINUTE, MINUTE + 30)
    assert {at_ms for _, at_ms in deps.engine.asked} == {MINUTE + 30}  # type: ignore[attr-defined]
    assert {at_ms for _, at_ms, _ in deps.write.calls} == {MINUTE}  # type: ignore[attr-defined]
    (alert,) = groups.all[0].rules[1].alerts.values()
    assert alert.active_at_ms == MINUTE


async def test_a_query_offset_reads_what_is_as_old_whatever_came_late() -> None:
    deps = surroundings({"m > 0": Condition()}, query_offset_ms=5_000)
    groups = loaded(deps, group(alerting()))
    await groups.evaluate(groups.all[0], MINUTE, MINUTE + 30)
    assert {at_ms for _, at_ms in deps.engine.asked} == {MINUTE - 5_000}  # type: ignore[attr-defined]


async def test_a_broken_rule_does_not_stop_the_next() -> None:
    def broken(t_ms: int) -> Rows:
        raise ZeroDivisionError

    groups = loaded(
        surroundings({"n > 0": broken, "m > 0": lambda t_ms: UP}),
        group(alerting("n > 0", name="B"), alerting()),
    )
    assert kinds(await run(groups, 1)) == [EventKind.FIRING]
    assert [rule.last_error for rule in groups.all[0].rules] == ["ZeroDivisionError", ""]


async def course(groups: Groups, now: int, rounds: int, cost_ms: int) -> list[str]:
    """The names of the groups in the order in which they run, each taking `cost_ms`."""
    names: list[str] = []
    for _ in range(rounds):
        at, due = groups.next_due(now)
        for progress in due:
            now = max(at, now)
            await groups.evaluate(progress, groups.slot(progress, now))
            names.append(progress.group.name)
            now += cost_ms
    return names


async def test_each_group_runs_once_a_slot() -> None:
    groups = loaded(
        surroundings({}), group(name="a"), group(name="b"), group(name="c", interval_ms=7_000)
    )
    names = await course(groups, 10**12, 110, 0)
    assert abs(names.count("a") - names.count("b")) <= 1
    assert 7 <= names.count("c") / names.count("a") <= 9
    assert [one.missed for one in groups.all] == [0, 0, 0]


async def test_a_group_whose_slot_comes_while_another_runs_is_late_and_not_passed_over() -> None:
    made = [group(name=f"g{number}", interval_ms=1_000) for number in range(20)]
    groups = loaded(surroundings({}), *made)
    names = await course(groups, 10**12, 400, 40)  # 800 ms of work in each second
    counts = [names.count(one.name) for one in made]
    assert max(counts) - min(counts) <= 1


def test_nothing_to_do_is_looked_at_again_after_an_interval() -> None:
    assert Groups(surroundings({}), MINUTE).next_due(5) == (5 + MINUTE, [])


def test_a_group_that_just_came_waits_for_its_slot() -> None:
    groups = Groups(surroundings({}), MINUTE)
    groups.load(files(group()), 10**12)
    at, (progress,) = groups.next_due(10**12)
    assert 10**12 < at <= 10**12 + MINUTE
    assert groups.slot(progress, at) == at


async def test_slots_that_were_missed_are_counted_and_not_made_up_for() -> None:
    groups = loaded(surroundings({}), group())
    await run(groups, 1, 2, 7)
    assert (groups.all[0].missed, groups.all[0].evaluations) == (4, 3)
    late = groups.slot(groups.all[0], 10**12)
    assert 0 <= 10**12 - late < MINUTE


async def test_a_reload_of_equal_groups_leaves_them_untouched() -> None:
    groups = loaded(surroundings({"m > 0": Condition()}), group(alerting()))
    await run(groups, 1)
    before = groups.all[0]
    assert groups.load(files(group(alerting())), MINUTE) == []
    assert groups.all[0] is before


@pytest.mark.parametrize("changed", ["expr", "for", "annotations", "order"])
async def test_a_reload_keeps_state_by_name_and_labels(changed: str) -> None:
    condition = Condition()
    script = {"m > 0": condition, "m > 0.5": condition}
    groups = loaded(surroundings(script), group(alerting(for_ms=5 * MINUTE)))
    await run(groups, 0, 1, 2, 3)
    new = {
        "expr": [alerting("m > 0.5", for_ms=5 * MINUTE)],
        "for": [alerting(for_ms=4 * MINUTE)],
        "annotations": [alerting(for_ms=5 * MINUTE, annotations={"s": "new"})],
        "order": [
            alerting(name="B"),
            alerting(for_ms=5 * MINUTE, uid="g/A/2"),
        ],
    }[changed]
    assert groups.load(files(group(*new)), 3 * MINUTE) == []
    rule = groups.all[0].rules[-1]
    assert [alert.active_at_ms for alert in rule.alerts.values()] == [0]
    assert [alert.rule for alert in rule.alerts.values()] == [rule.rule.uid]
    await run(groups, 4, 5)
    assert AlertState.FIRING in state(groups)


async def test_a_reload_tells_what_fired_and_is_gone() -> None:
    groups = loaded(surroundings({"m > 0": Condition()}), group(alerting(severity="P1")))
    await run(groups, 1)
    (event,) = groups.load(files(group(alerting(severity="P2"))), 2 * MINUTE)
    assert (event.kind, event.at_ms) == (EventKind.REMOVED, 2 * MINUTE)
    assert event.reason == "rule g/A/1 is no longer in f.yml"
    assert dict(event.alert.labels)["severity"] == "P1"
    assert kinds(groups.load([], 3 * MINUTE)) == []


@pytest.mark.parametrize("where", ["group", "file", "both"])
async def test_a_reload_that_moves_a_rule_keeps_its_alerts(where: str) -> None:
    """What waits goes on to wait, what fires says nothing new and is asked for by its old name."""
    deps = surroundings({"m > 0": Condition()})
    rules = [alerting(), alerting(name="Waits", for_ms=5 * MINUTE, uid="g/Waits/1")]
    groups = loaded(deps, group(*rules))
    assert kinds(await run(groups, 1, 2, 3)) == [EventKind.FIRING]
    name, file = "g" if where == "file" else "h", "f.yml" if where == "group" else "new.yml"
    moved = [
        alerting(uid=f"{name}/A/1", annotations={"s": "new"}),
        alerting(name="Waits", for_ms=5 * MINUTE, uid=f"{name}/Waits/1"),
    ]
    wanted = [RuleFile(file, (group(*moved, name=name, file=file),))]
    assert groups.lost(wanted) == []
    assert groups.load(wanted, 3 * MINUTE + 1) == []
    assert kinds(await run(groups, 4)) == []
    fires, waits = groups.all[0].rules
    assert [alert.fired_at_ms for alert in fires.alerts.values()] == [MINUTE]
    assert [alert.active_at_ms for alert in waits.alerts.values()] == [MINUTE]
    assert fires.former_origins == ("rules;f.yml;g/A/1",)
    assert kinds(await run(groups, 5)) == []
    assert kinds(await run(groups, 6)) == [EventKind.FIRING]


async def test_a_rule_that_moves_to_a_group_which_runs_more_often_waits_no_longer() -> None:
    """A reload late in the old group's interval is no outage: `activeAt` stays what it was."""
    deps = surroundings({"m > 0": Condition()})
    waits = alerting(name="Waits", for_ms=5 * MINUTE)
    groups = loaded(deps, group(waits))
    await run(groups, 1, 2, 3)
    moved = group(replace(waits, uid="h/Waits/1"), name="h", interval_ms=15_000)
    assert groups.load(files(moved), 3 * MINUTE + 50_000) == []
    assert kinds(await run(groups, 4)) == []
    (alert,) = groups.all[0].rules[0].alerts.values()
    assert (alert.state, alert.active_at_ms) == (AlertState.PENDING, MINUTE)
    assert kinds(await run(groups, 5.75, 6)) == [EventKind.FIRING]


async def test_a_rule_that_takes_the_place_of_its_twin_says_whom_it_was() -> None:
    """The first of two rules of one name is removed: the second one is now the first."""
    deps = surroundings({"m > 0": Condition()})
    twins = [alerting(severity="P1"), alerting(uid="g/A/2", severity="P2")]
    groups = loaded(deps, group(*twins))
    await run(groups, 1)
    wanted = files(group(alerting(severity="P2")))
    (lost,) = groups.lost(wanted)
    assert lost.rule is twins[0]
    (event,) = groups.load(wanted, 2 * MINUTE)
    assert (event.kind, dict(event.alert.labels)["severity"]) == (EventKind.REMOVED, "P1")
    (rule,) = groups.all[0].rules
    assert (rule.origin, rule.former_origins) == ("rules;f.yml;g/A/1", ("rules;f.yml;g/A/2",))
    assert kinds(await run(groups, 3)) == [] and state(groups) == [AlertState.FIRING]


async def test_a_group_that_is_reloaded_was_not_late_before_it() -> None:
    groups = loaded(surroundings({"m > 0": Condition()}), group(alerting()))
    await run(groups, 1)
    groups.load(files(group(alerting(), alerting(name="B", uid="g/B/1"))), 90_000)
    assert groups.all[0].loaded_ms == 90_000


async def test_of_a_file_that_cannot_be_read_nobody_knows() -> None:
    """What fired by its rules is unknown, and is taken up when it can be read."""
    deps, journal = surroundings({"m > 0": Condition()}), MemoryJournal()
    ours, others = group(alerting()), group(alerting(name="B", uid="g/B/1"), file="bad.yml")
    good, bad = RuleFile("f.yml", (ours,)), RuleFile("bad.yml", (others,))
    groups = Groups(deps, MINUTE)
    groups.load([good, bad], 0)
    await run(groups, 1, 2)
    for progress in groups.all:
        await groups.persist(progress, journal)
    again = Groups(deps, MINUTE)
    again.remember(await journal.load())
    (event,) = again.load([good], 3 * MINUTE, unread=["bad.yml"])
    assert (event.kind, event.origin) == (EventKind.UNKNOWN, "rules;bad.yml;g/B/1")
    assert "cannot be read" in event.reason
    assert again.is_unread(event.origin) and not again.is_unread("rules;f.yml;g/A/1")
    await run(again, 3)
    await again.persist(again.all[0], journal)
    assert {row.file for row in await journal.load()} == {"f.yml", "bad.yml"}
    assert again.load([good, bad], 4 * MINUTE) == []
    await run(again, 4)
    assert state(again) == [AlertState.FIRING] * 2 and not again.is_unread(event.origin)
    (_, fires) = again.all
    assert [alert.fired_at_ms for alert in fires.rules[0].alerts.values()] == [MINUTE]


async def test_the_series_of_a_removed_rule_go_stale_after_two_intervals() -> None:
    written = Written()
    groups = loaded(
        surroundings({"m > 0": Condition(), "n": lambda t_ms: []}, write=written),
        group(alerting()),
        group(recording("r", "n"), name="other"),
    )
    await run(groups, 1)
    assert len(written.now()) == 2
    groups.load(files(group(recording("r", "n"), name="other")), MINUTE)
    await run(groups, 2)
    assert len(written.now()) == 2
    await run(groups, 3)
    assert written.now() == {}


async def test_the_series_of_a_removed_rule_that_is_back_in_time_go_on() -> None:
    written = Written()
    deps = surroundings({"m > 0": Condition(), "n": lambda t_ms: []}, write=written)
    other = group(recording("r", "n"), name="other")
    groups = loaded(deps, group(alerting()), other)
    await run(groups, 1)
    groups.load(files(other), MINUTE)
    await run(groups, 2)
    groups.load(files(group(alerting()), other), 2 * MINUTE)
    await run(groups, 3)
    assert len(written.now()) == 2


async def test_a_store_that_takes_nothing_keeps_no_event_from_people() -> None:
    """Neither what the rules write is taken, nor the end of a rule that is gone."""
    condition, written = Condition(), Written()
    full = False

    def write(source: Source, at_ms: int, samples: Samples) -> None:
        if full:
            raise OSError("the disk is full")
        written(source, at_ms, samples)

    deps = surroundings({"m > 0": condition}, write=write)
    groups = loaded(deps, group(alerting()), group(alerting(uid="other"), name="other"))
    assert kinds(await run(groups, 1)) == [EventKind.FIRING] * 2
    groups.load(files(group(alerting())), MINUTE)
    full, condition.rows = True, []
    assert kinds(await run(groups, 3, 4)) == [EventKind.CLEAR]
    (progress,) = groups.all
    (rule,) = progress.rules
    assert (rule.health, rule.last_error) == (RuleHealth.ERR, "the disk is full")
    assert (rule.failures, rule.last_success_ms) == (2, 4 * MINUTE)
    full = False
    assert await run(groups, 5) == [] and written.last(rule.source) == {}
    assert rule.health is RuleHealth.OK


async def test_times_move_with_a_clock_that_is_set_and_nothing_else_happens() -> None:
    condition = Condition()
    groups = loaded(surroundings({"m > 0": condition}), group(alerting(for_ms=5 * MINUTE)))
    events = await run(groups, *range(100, 104))
    groups.shift(-HOUR)
    events += await run(groups, 44)
    assert (events, state(groups)) == ([], [AlertState.PENDING])
    events = await run(groups, 45)
    assert kinds(events) == [EventKind.FIRING]
    groups.shift(HOUR)
    assert await run(groups, 106, 107) == []
    assert groups.all[0].missed == 0
    condition.rows = []
    assert kinds(await run(groups, 108)) == [EventKind.CLEAR]


async def test_a_clock_that_is_set_during_an_evaluation_costs_no_slot() -> None:
    groups: Groups

    def answer(at_ms: int) -> Rows:
        if at_ms == MINUTE:
            groups.shift(HOUR)
        return []

    groups = loaded(surroundings({"m > 0": answer}), group(alerting()))
    await run(groups, 1, 62)
    assert groups.all[0].missed == 0


async def restarted(
    deps: EvaluationDeps, journal: MemoryJournal, groups: Groups, minute: float, *new: RuleGroup
) -> tuple[Groups, list[AlertEvent]]:
    """What a new process makes of the journal, one evaluation included."""
    for progress in groups.all:
        await groups.persist(progress, journal)
    again = Groups(deps, MINUTE)
    again.remember(await journal.load())
    events = again.load(files(*new) if new else files(*(g.group for g in groups.all)), 0)
    return again, events + await run(again, minute)


@pytest.mark.parametrize(
    ("waited", "outage", "wanted"),
    [
        (1, 30, [AlertState.PENDING]),  # the outage does not count
        (2, 59, [AlertState.PENDING]),
        (2, 61, [AlertState.PENDING]),  # beyond the tolerance: from zero
        (6, 30, [AlertState.FIRING]),
        (6, 600, [AlertState.FIRING]),
    ],
)
async def test_for_survives_a_restart(waited: int, outage: int, wanted: list[AlertState]) -> None:
    deps = surroundings({"m > 0": Condition()})
    groups = loaded(deps, group(alerting(for_ms=5 * MINUTE)))
    await run(groups, *range(waited + 1))
    again, events = await restarted(deps, MemoryJournal(), groups, waited + outage)
    assert (state(again), events) == (wanted, [])
    (alert,) = again.all[0].rules[0].alerts.values()
    if wanted == [AlertState.FIRING]:
        assert alert.fired_at_ms == 5 * MINUTE
    else:
        fresh = outage > 60
        missed = outage - 1  # the first evaluation after the last one was due a minute later
        assert alert.active_at_ms == ((waited + outage) if fresh else missed) * MINUTE
        left = 5 if fresh else 5 - waited - 1
        assert kinds(await run(again, waited + outage + left)) == [EventKind.FIRING]


async def test_a_kill_costs_no_more_of_for_than_what_was_not_written() -> None:
    """The rows are saved when something changes; the store has a sample of each evaluation."""
    deps, journal = surroundings({"m > 0": Condition()}), MemoryJournal()
    groups = loaded(deps, group(alerting(for_ms=20_000)))
    for second in range(9):  # the row is of second 0
        await run(groups, second / 60)
        await groups.persist(groups.all[0], journal)
    assert isinstance(deps.write, Written)
    written = {source: at_ms for source, at_ms, _ in deps.write.calls}
    again = Groups(deps, 1_000)
    again.remember(await journal.load(), None, written.get)
    again.load(files(*(one.group for one in groups.all)), 0)
    await run(again, 1)
    (alert,) = again.all[0].rules[0].alerts.values()
    assert MINUTE - alert.active_at_ms == 9_000  # the evaluation after that of second 8 was not yet
    assert kinds(await run(again, 71 / 60)) == [EventKind.FIRING]


async def test_what_cleared_during_the_outage_is_cleared_at_the_first_evaluation() -> None:
    condition = Condition()
    deps = surroundings({"m > 0": condition}, sources=SetSources({ENGINE: SourceStatus.ALIVE}))
    groups = loaded(deps, group(alerting()))
    await run(groups, 0)
    condition.rows = []
    _, events = await restarted(deps, MemoryJournal(), groups, 30)
    assert kinds(events) == [EventKind.CLEAR]


async def test_a_source_that_died_during_the_outage_leaves_it_unknown() -> None:
    sources, condition = SetSources({ENGINE: SourceStatus.ALIVE}), Condition()
    deps = surroundings({"m > 0": condition}, sources=sources)
    groups, journal = loaded(deps, group(alerting())), MemoryJournal()
    await run(groups, 0)
    condition.rows, sources.healths[ENGINE] = [], SourceStatus.DEAD
    again, events = await restarted(deps, journal, groups, 30)
    assert kinds(events) == [EventKind.UNKNOWN]
    third, events = await restarted(deps, journal, again, 31)
    assert events == []
    sources.healths[ENGINE] = SourceStatus.ALIVE
    assert kinds(await run(third, 32)) == [EventKind.CLEAR]


async def test_after_a_restart_a_window_must_fill_before_it_can_clear_anything() -> None:
    """The store begins empty: `rate(m[5m])` says nothing because there is nothing to say yet."""
    condition = Condition()
    deps = surroundings(
        {"rate(m[5m]) > 0": condition}, sources=SetSources({ENGINE: SourceStatus.ALIVE})
    )
    groups = loaded(deps, group(alerting("rate(m[5m]) > 0")))
    await run(groups, 0)
    condition.rows = []
    again, events = await restarted(deps, MemoryJournal(), groups, 30)
    assert kinds(events) == [EventKind.UNKNOWN]
    assert kinds(await run(again, 34)) == []
    assert kinds(await run(again, 35)) == [EventKind.CLEAR]


async def test_after_a_restart_what_a_window_finds_again_is_known_again() -> None:
    condition = Condition()
    deps = surroundings({"rate(m[5m]) > 0": condition})
    groups = loaded(deps, group(alerting("rate(m[5m]) > 0")))
    await run(groups, 0)
    rows, condition.rows = condition.rows, []
    again, events = await restarted(deps, MemoryJournal(), groups, 30)
    assert kinds(events) == [EventKind.UNKNOWN]
    condition.rows = rows
    assert EventKind.FIRING in kinds(await run(again, 31))


async def test_a_rule_that_is_gone_after_a_restart_is_told() -> None:
    deps, journal = surroundings({"m > 0": Condition()}), MemoryJournal()
    groups = loaded(deps, group(alerting()))
    await run(groups, 0)
    other = group(alerting(name="B"), name="other")
    again, events = await restarted(deps, journal, groups, 1, other)
    assert kinds(events) == [EventKind.REMOVED, EventKind.FIRING]
    await again.persist(again.all[0], journal)
    assert [row.group for row in await journal.load()] == ["other"]


async def test_the_journal_is_written_when_something_changed_and_while_something_waits() -> None:
    condition = Condition()
    deps = surroundings({"m > 0": condition})
    groups, journal = loaded(deps, group(alerting(for_ms=MINUTE))), MemoryJournal()
    (progress,) = groups.all
    saves = []
    for second in (0, 1, 5, 10, 12, 60, 61, 90):
        condition.rows = [row(float(second), __name__="m", instance="e:1")]
        await run(groups, second / 60)
        saves.append(await groups.persist(progress, journal))
    assert HEARTBEAT_MS == 10_000
    assert saves == [True, False, False, True, False, True, False, False]
    condition.rows = []
    await run(groups, 2)
    assert await groups.persist(progress, journal)
    await run(groups, 18)
    assert await groups.persist(progress, journal)
    assert await journal.load() == []


async def test_a_quiet_group_never_writes() -> None:
    groups, journal = (
        loaded(surroundings({"m > 0": lambda t_ms: []}), group(alerting())),
        (MemoryJournal()),
    )
    await run(groups, 1, 2)
    assert not await groups.persist(groups.all[0], journal)
    assert journal.saves == 0


async def test_a_recorded_series_stands_for_the_sources_that_it_was_made_from() -> None:
    sources, condition = SetSources({ENGINE: SourceStatus.ALIVE}), Condition()
    sources.touching = {selector: {ENGINE} for selector in selectors(parse("sum(m)"))}
    deps = surroundings({"sum(m)": condition, "r > 0": condition}, sources=sources)
    groups = loaded(deps, group(recording("r", "sum(m)"), alerting("r > 0")))
    assert kinds(await run(groups, 0)) == [EventKind.FIRING]
    condition.rows, sources.healths[ENGINE] = [], SourceStatus.DEAD
    assert kinds(await run(groups, 1)) == [EventKind.UNKNOWN]


@pytest.mark.parametrize("first", [False, True], ids=["behind it", "before it"])
@pytest.mark.parametrize(
    ("expr", "wanted"),
    [
        ('ALERTS{alertname="A"} == 1', EventKind.UNKNOWN),
        ('count(ALERTS{alertstate="firing"}) > 0', EventKind.UNKNOWN),
        ('max_over_time(ALERTS{instance="e:1"}[5m]) > 0', EventKind.UNKNOWN),
        ("n:alerts > 0", EventKind.UNKNOWN),
        ('ALERTS{alertname="B"} == 1', EventKind.CLEAR),
        ('ALERTS{alertstate="pending"} == 1', EventKind.CLEAR),
    ],
)
async def test_a_rule_on_alerts_that_are_unknown_is_unknown_with_them(
    expr: str, wanted: EventKind, first: bool
) -> None:
    sources, condition, alerts = SetSources({ENGINE: SourceStatus.ALIVE}), Condition(), Condition()
    sources.touching = {one: {ENGINE} for one in selectors(parse("m > 0"))}
    script = {"m > 0": condition, expr: alerts, "count(ALERTS)": alerts}
    both = [alerting("m > 0"), alerting(expr, "OnAlerts")]
    rules = [*(reversed(both) if first else both), recording("n:alerts", "count(ALERTS)")]
    groups = loaded(surroundings(script, sources=sources), group(*rules))
    await run(groups, 0)
    condition.rows, sources.healths[ENGINE] = [], SourceStatus.DEAD
    await run(groups, 1)
    alerts.rows = []
    (event,) = await run(groups, 2)
    assert (event.alert.name, event.kind) == ("OnAlerts", wanted)
    sources.healths[ENGINE] = SourceStatus.ALIVE
    changes = {(one.alert.name, one.kind) for one in await run(groups, *range(3, 9))}
    known = {("OnAlerts", EventKind.CLEAR)} if wanted is EventKind.UNKNOWN else set()
    assert changes == {("A", EventKind.CLEAR), *known}


NOW = 1_700_000_000_000


@given(now=st.integers(0, 4 * NOW), interval=st.integers(1, 10**8))
def test_a_slot_is_the_last_multiple_of_the_interval(now: int, interval: int) -> None:
    slot = slot_ms(interval, now)
    assert now - interval < slot <= now
    assert slot % interval == 0
    assert slot_ms(interval, now + interval) == slot + interval
    assert slot_ms(interval, slot) == slot


def test_what_was_skipped_is_counted() -> None:
    assert missed(None, NOW, 1000) == 0
    assert missed(NOW - 1000, NOW, 1000) == 0
    assert missed(NOW - 5000, NOW, 1000) == 4
    assert missed(NOW + 3_600_000, NOW, 1000) == 0


def test_new_rules_are_read_in_slices_before_anything_changes() -> None:
    """Ten thousand of them take seconds: meanwhile the old ones stand, and others have a turn."""
    groups = Groups(surroundings({}), 5_000)
    groups.load([RuleFile("f.yml", (group(alerting("vector(1)", name="Old")),))], 0)
    rules = [alerting("vector(1)", name=f"New{n}") for n in range(10 * SLICE_RULES)]
    work = groups.loading([RuleFile("f.yml", (group(*rules),))], 0)
    for _ in range(10):
        next(work)
        assert [rule.rule.name for one in groups.all for rule in one.rules] == ["Old"]
    at_once(work)
    assert len(groups.all[0].rules) == len(rules)
