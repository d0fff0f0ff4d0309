"""The state between two evaluations."""

from dataclasses import replace
from functools import partial

import pytest

from support.rule_deps import SetSources, surroundings
from support.rule_texts import MINUTE, alerting, group, recording
from support.scripted_engine import Rows, row
from tocsin_alerting.promql.parser.ast import selectors
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.rules.alert import Alert, AlertState, EventKind
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.rules.state import MOST_RUNS, MOST_SETTLED, GroupState, RuleState, Run, Settled
from tocsin_alerting.rules.unknown_alerts import (
    RULES_JOB,
    LastFiring,
    Reported,
    SourceStatus,
    UnknownAlert,
    alerts_of,
)
from tocsin_exporter.snapshot import Source

ALERT = Alert("g/A/1", (("alertname", "A"),), (), AlertState.FIRING, 1.0, 10, 20, None, 30)
PENDING = replace(ALERT, labels=(("alertname", "B"),), state=AlertState.PENDING)
INACTIVE = replace(ALERT, labels=(("alertname", "C"),), state=AlertState.INACTIVE)


def progress_of(*alerts: Alert) -> RuleState:
    by_fingerprint = {alert.fingerprint: alert for alert in alerts}
    return RuleState("f", "g", alerting(), by_fingerprint, evaluated_ms=40)


def test_a_rules_state_is_the_worst_of_its_alerts() -> None:
    assert progress_of(INACTIVE, PENDING, ALERT).state is AlertState.FIRING
    assert progress_of(INACTIVE, PENDING).state is AlertState.PENDING
    assert progress_of(INACTIVE).state is AlertState.INACTIVE
    assert progress_of().state is AlertState.INACTIVE
    assert RuleState("f", "g", alerting()).state is None
    assert RuleState("f", "g", recording("r", "m"), evaluated_ms=40).state is None


def test_each_rule_writes_under_a_name_of_its_own() -> None:
    assert progress_of().source == Source(RULES_JOB, "f;g/A/1")


def test_the_rows_hold_alerts_and_unknown_ones_and_what_still_waits() -> None:
    progress = progress_of(ALERT)
    progress.last_success_ms, progress.measured_seen = 40, {Source("llm", "e"): 40}
    unknown_alert = UnknownAlert(INACTIVE, 35)
    progress.unknown_alerts = {INACTIVE.fingerprint: unknown_alert}
    first, second = progress.instance_rows()
    assert (first.alert, first.unknown_alert, first.seen_ms) == (ALERT, None, 40)
    assert (second.alert, second.unknown_alert) == (None, unknown_alert)
    assert first.sources == {Source("llm", "e")}
    again = RuleState("f", "g", alerting(), rows=(first, second))
    assert again.instance_rows() == [first, second]


@pytest.mark.parametrize(
    ("history_ms", "young_until"),
    [
        (None, 5),  # nothing is left of the time before
        (-2 * MINUTE, 0),  # the windows still hold more than half of their samples
        (-3 * MINUTE, 2.5),
        (-60 * MINUTE, 2.5),
    ],
)
def test_a_rule_is_young_while_a_restart_has_cost_half_its_window(
    history_ms: int | None, young_until: float
) -> None:
    rule = alerting("rate(m[5m]) > 0")
    progress = RuleState("f", "g", rule, restored_ms=0, history_ms=history_ms)
    halves = [half / 2 for half in range(12)]
    young = [minute for minute in halves if progress.young(round(minute * MINUTE))]
    assert young == [minute for minute in halves if minute < young_until]
    assert not replace(progress, restored_ms=None).young(MINUTE)


def test_every_time_moves_with_the_clock() -> None:
    progress = progress_of(ALERT)
    progress.unknown_alerts = {ALERT.fingerprint: UnknownAlert(ALERT, 35)}
    progress.measured_seen = {Source("llm", "e"): 40}
    whole = GroupState(group(progress.rule), MINUTE, [progress], loaded_ms=1, evaluated_ms=40)
    whole.shift(100)
    (alert,) = progress.alerts.values()
    (unknown_alert,) = progress.unknown_alerts.values()
    assert (alert.active_at_ms, alert.fired_at_ms, alert.resolved_at_ms) == (110, 120, None)
    assert (alert.keep_firing_since_ms, unknown_alert.since_ms) == (130, 135)
    assert unknown_alert.alert == alert
    assert (progress.measured_seen, progress.evaluated_ms) == ({Source("llm", "e"): 140}, 140)
    assert (whole.loaded_ms, whole.evaluated_ms, whole.saved_ms) == (101, 140, None)


def test_each_time_of_a_rule_moves_with_the_clock() -> None:
    progress, source = progress_of(), Source("llm", "e")
    times = ("evaluated_ms", "last_success_ms", "restored_ms", "history_ms", "complete_ms")
    for at_ms, name in enumerate(times):
        setattr(progress, name, at_ms)
    progress.measured_seen, progress.presence_seen = {source: 10}, {source: 11}
    progress.last_firing = {"key": LastFiring(ALERT, 12)}
    progress.runs.append(Run(13, 1, 2))
    progress.settled.append(Settled(ALERT, 14, 3))
    progress.shift(100)
    assert [getattr(progress, name) for name in times] == [100, 101, 102, 103, 104]
    assert (progress.measured_seen, progress.presence_seen) == ({source: 110}, {source: 111})
    assert progress.last_firing["key"].at_ms == 112
    assert [*progress.runs] == [Run(113, 1, 2)]
    assert [*progress.settled] == [Settled(ALERT, 114, 3)]
    assert (progress.runs.maxlen, progress.settled.maxlen) == (MOST_RUNS, MOST_SETTLED)


def test_what_lies_behind_a_rule_decides_for_it() -> None:
    progress = progress_of()
    assert (progress.keeps_instance, progress.reach_ms) == (True, 5 * MINUTE)
    progress.reads((parse("r > 0"), parse("sum(up)"), parse("rate(m[1h])")))
    assert (progress.keeps_instance, progress.reach_ms) == (False, 70 * MINUTE)
    assert [selector.name for selector in progress.measured] == ["r", "m"]
    assert [selector.name for selector in progress.presence] == ["up"]


def test_the_samples_of_alerts_are_made_anew_only_when_an_alert_changes() -> None:
    progress, rule = progress_of(ALERT, PENDING, INACTIVE), alerting()
    samples = progress.alert_samples(rule)
    assert sorted(dict(labels)["__name__"] for labels, _ in samples) == [
        "ALERTS",
        "ALERTS",
        "ALERTS_FOR_STATE",
        "ALERTS_FOR_STATE",
    ]
    progress.alerts = {key: replace(alert, value=9.0) for key, alert in progress.alerts.items()}
    assert progress.alert_samples(rule) is samples
    progress.alerts = {ALERT.fingerprint: replace(ALERT, active_at_ms=5_000)}
    assert sorted(value for _, value in progress.alert_samples(rule)) == [1.0, 5.0]
    progress.alerts = {}
    assert not progress.alert_samples(rule)


ENGINE, OTHER = Source("llm", "e:1"), Source("llm", "e:2")
FIRES = [row(1.0, __name__="m", instance="e:1")]
FIRING = 'count(ALERTS{alertstate="firing"}) > 1'
P0 = 'count(ALERTS{severity="P0"}) > 0'


class OnAlerts:
    """X measures; A and B read what it and they themselves are as alerts. All fire at minute 0."""

    def __init__(self, a: str, b: str, measured: str = "m > 0") -> None:
        self.rows: dict[str, Rows] = dict.fromkeys((measured, a, b), FIRES)
        self.x, self.a, self.b = measured, a, b
        self.sources = SetSources({ENGINE: SourceStatus.ALIVE, OTHER: SourceStatus.ALIVE})
        self.sources.touching = {
            **dict.fromkeys(selectors(parse(measured)), {ENGINE}),
            **dict.fromkeys(selectors(parse("other")), {OTHER}),
        }
        script = {text: partial(self.answer, text) for text in self.rows}
        rules = (alerting(measured, "X", severity="P0"), alerting(a, "A", severity="P0"))
        self.broken = ""
        self.groups = Groups(surroundings(script, sources=self.sources), MINUTE)
        self.groups.load([RuleFile("f.yml", (group(*rules, alerting(b, "B")),))], 0)

    def answer(self, text: str, t_ms: int) -> Rows:
        if text == self.broken:
            raise ValueError("broken")
        return self.rows[text]

    def leave(self, *texts: str) -> None:
        self.rows |= dict.fromkeys(texts, ())

    async def run(self, *minutes: int) -> set[tuple[str, EventKind]]:
        (whole,) = self.groups.all
        events_by_minute = [
            await self.groups.evaluate(whole, minute * MINUTE) for minute in minutes
        ]
        return {(event.alert.name, event.kind) for events in events_by_minute for event in events}

    async def wait_for_each_other(self) -> None:
        """X is in doubt, A waits for B and X, B for A and X."""
        await self.run(0)
        self.sources.healths[ENGINE] = SourceStatus.DEAD
        self.leave(self.x, self.a, self.b)
        unknown = {(name, EventKind.UNKNOWN) for name in "XAB"}
        assert await self.run(1) == unknown
        self.rows[self.a] = FIRES
        await self.run(2)
        self.leave(self.a)
        assert await self.run(3) == {("A", EventKind.UNKNOWN)}


async def test_rules_that_wait_for_each_other_alone_hold_each_other_no_longer() -> None:
    story = OnAlerts(FIRING, P0)
    await story.wait_for_each_other()
    assert await story.run(4, 5) == set()
    story.sources.healths[ENGINE] = SourceStatus.ALIVE
    assert await story.run(6, 7) == {(name, EventKind.CLEAR) for name in "XAB"}


async def test_rules_that_wait_for_each_other_wait_for_what_one_of_them_measures() -> None:
    story = OnAlerts(FIRING, f"{P0} or other")
    story.sources.healths[OTHER] = SourceStatus.ALIVE
    await story.wait_for_each_other()
    story.rows[story.b] = FIRES
    await story.run(4)
    story.leave(story.b)
    story.sources.healths[OTHER] = SourceStatus.DEAD
    assert await story.run(5) == {("B", EventKind.UNKNOWN)}
    story.sources.healths[ENGINE] = SourceStatus.ALIVE
    assert await story.run(6, 7) == {("X", EventKind.CLEAR)}
    story.sources.healths[OTHER] = SourceStatus.ALIVE
    assert await story.run(8, 9) == {("A", EventKind.CLEAR), ("B", EventKind.CLEAR)}


async def test_a_rule_waits_for_what_lies_behind_the_alerts_that_it_reads() -> None:
    """B reads A, and A reads X, which alone measures something."""
    story = OnAlerts('ALERTS{alertname="X"} == 1', 'ALERTS{alertname="A"} == 1')
    await story.run(0)
    story.sources.healths[ENGINE] = SourceStatus.DEAD
    story.leave(story.x, story.a, story.b)
    assert await story.run(1) == {(name, EventKind.UNKNOWN) for name in "XAB"}
    assert await story.run(2, 3) == set()
    story.sources.healths[ENGINE] = SourceStatus.ALIVE
    assert await story.run(4) == {(name, EventKind.CLEAR) for name in "XAB"}


async def test_a_rule_that_fails_keeps_those_in_doubt_that_read_its_alerts() -> None:
    story = OnAlerts(FIRING, P0)
    await story.wait_for_each_other()
    story.broken = P0
    await story.run(4)
    story.sources.healths[ENGINE] = SourceStatus.ALIVE
    assert await story.run(5, 6) == {("X", EventKind.CLEAR)}


@pytest.mark.parametrize("ready", [True, False], ids=["its samples are lost", "it has not run"])
async def test_what_a_restart_left_in_doubt_keeps_those_in_doubt_that_read_it(ready: bool) -> None:
    story = OnAlerts('ALERTS{alertname="X"} == 1', 'ALERTS{alertname="A"} == 1')
    await story.run(0)
    story.sources.healths[ENGINE] = SourceStatus.DEAD
    story.leave(story.x)
    assert await story.run(1) == {("X", EventKind.UNKNOWN)}
    x = story.groups.all[0].rules[0]
    x.rows, x.alerts, x.unknown_alerts, x.ready = tuple(x.instance_rows()), {}, {}, False
    story.sources.healths[ENGINE] = SourceStatus.ALIVE
    story.sources.words[ENGINE] = Reported.NOTHING
    if not ready:
        story.sources.unready.add(parse(story.x))
    story.leave(story.a, story.b)
    assert await story.run(2, 3) == {("A", EventKind.UNKNOWN), ("B", EventKind.UNKNOWN)}
    story.sources.words.clear()
    story.sources.unready.clear()
    assert await story.run(4) == {(name, EventKind.CLEAR) for name in "XAB"}


def test_an_alert_waits_for_no_other_that_came_to_be_in_doubt_later() -> None:
    texts = {"X": "m > 0", "A": 'ALERTS{alertname="B"} == 1', "B": 'ALERTS{alertname=~"A|X"} == 1'}
    rules = [RuleState("f", "g", alerting(text, name)) for name, text in texts.items()]
    for one in rules:
        one.alerting_rules = {alerts_of(rule.source): rule for rule in rules}
    x, a, b = rules
    for one, waits in ((x, ENGINE), (a, alerts_of(b.source)), (b, alerts_of(a.source))):
        unknown_alert = UnknownAlert(
            replace(ALERT, labels=(("alertname", one.rule.name),)), 0, frozenset((waits,))
        )
        one.unknown_alerts = {unknown_alert.alert.fingerprint: unknown_alert}

    def holds(rule: RuleState, unknown_alert: UnknownAlert) -> bool:
        return rule is x

    assert a.unknown_inputs(holds) == frozenset()
    assert b.unknown_inputs(holds) == {alerts_of(x.source)}
    b.unknown_alerts = {
        key: replace(one, sources=frozenset((alerts_of(x.source),)))
        for key, one in b.unknown_alerts.items()
    }
    assert a.unknown_inputs(holds) == {alerts_of(b.source)}
