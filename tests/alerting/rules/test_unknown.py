"""Unknown is not resolved: who is told what when a source dies, answers, goes or stays dead."""

from collections.abc import Mapping

import pytest

from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind
from tocsin_alerting.rules.unknown import (
    UNKNOWN_MAX_MS,
    Doubt,
    Health,
    Verdict,
    alerts_of,
    concerns,
    doubt_all,
    settle,
)
from tocsin_exporter.snapshot import Source

LABELS = (("alertname", "A"), ("instance", "e:1"))
ENGINE, OTHER = Source("llm", "e:1"), Source("llm", "e:2")
RULE = alerts_of(Source("tocsin_rules", "f.yml;g/B/1"))
FIRING = Alert("g/A/1", LABELS, (), AlertState.FIRING, 1.0, 0, 0)
GONE = Alert("g/A/1", LABELS, (), AlertState.INACTIVE, 1.0, 0, 0, resolved_at_ms=1000)
KEY = FIRING.fingerprint
CLEAR = AlertEvent(EventKind.CLEAR, GONE, 1000)


def healths(**named: Health) -> Mapping[Source, Health]:
    return {ENGINE: named.get("engine", Health.ALIVE), OTHER: named.get("other", Health.ALIVE)}


def after(
    events: tuple[AlertEvent, ...],
    alert: Alert | None,
    doubts: Mapping[str, Doubt],
    dead: frozenset[Source] = frozenset(),
    health: Mapping[Source, Health] | None = None,
    now_ms: int = 1000,
) -> Verdict:
    alerts = {} if alert is None else {KEY: alert}
    known = health or healths(engine=Health.DEAD if ENGINE in dead else Health.ALIVE)
    return settle(events, alerts, doubts, lambda _: dead, known.__getitem__, now_ms)


def kinds(verdict: Verdict) -> list[EventKind]:
    return [event.kind for event in verdict.events]


def test_a_clear_stays_a_clear_while_everything_answers() -> None:
    assert after((CLEAR,), GONE, {}) == Verdict((CLEAR,), {})


def test_a_clear_is_unknown_while_a_source_is_dead_and_said_once() -> None:
    verdict = after((CLEAR,), GONE, {}, frozenset((ENGINE,)))
    assert kinds(verdict) == [EventKind.UNKNOWN]
    assert verdict.events[0].reason == "no longer in the result while llm e:1 is dead"
    again = after((), GONE, verdict.doubts, frozenset((ENGINE,)), now_ms=2000)
    assert again.events == () and again.doubts == verdict.doubts


@pytest.mark.parametrize(
    ("health", "kind", "reason"),
    [
        (Health.ALIVE, EventKind.CLEAR, "llm e:1 answers again"),
        (Health.GONE, EventKind.REMOVED, "llm e:1 was removed"),
    ],
)
def test_it_ends_when_the_source_answers_or_is_removed(
    health: Health, kind: EventKind, reason: str
) -> None:
    doubts = after((CLEAR,), GONE, {}, frozenset((ENGINE,))).doubts
    verdict = after((), None, doubts, health=healths(engine=health), now_ms=5000)
    assert [(e.kind, e.at_ms, e.reason) for e in verdict.events] == [(kind, 5000, reason)]
    assert verdict.doubts == {}


def test_it_ends_after_unknown_max_with_a_notice_and_is_not_said_twice() -> None:
    dead = frozenset((ENGINE,))
    doubts = after((CLEAR,), GONE, {}, dead).doubts
    at = 1000 + UNKNOWN_MAX_MS
    assert after((), None, doubts, dead, now_ms=at - 1).events == ()
    verdict = after((), None, doubts, dead, now_ms=at)
    assert kinds(verdict) == [EventKind.GIVEN_UP]
    assert verdict.events[0].reason.startswith("unknown for 24 h, given up: no longer in the")
    assert after((), None, verdict.doubts, dead, now_ms=at + 1).events == ()
    assert after((), None, verdict.doubts, now_ms=at + 2) == Verdict((), {})


def test_an_alert_that_fires_again_is_known_again() -> None:
    doubts = doubt_all([FIRING], {}, "broken", 500).doubts
    verdict = after((), FIRING, doubts)
    assert [(e.kind, e.reason) for e in verdict.events] == [(EventKind.FIRING, "known again")]
    assert verdict.doubts == {}


def test_an_alert_that_fires_anew_is_told_once() -> None:
    doubts = after((CLEAR,), GONE, {}, frozenset((ENGINE,))).doubts
    fires = AlertEvent(EventKind.FIRING, FIRING, 3000)
    assert after((fires,), FIRING, doubts, frozenset((ENGINE,))) == Verdict((fires,), {})


def test_a_broken_rule_leaves_what_fires_unknown_once_and_pending_alone() -> None:
    pending = Alert("g/A/1", (("alertname", "B"),), (), AlertState.PENDING, 1.0, 0)
    verdict = doubt_all([FIRING, pending], {}, "it broke", 500)
    assert [(e.kind, e.alert, e.reason) for e in verdict.events] == [
        (EventKind.UNKNOWN, FIRING, "it broke")
    ]
    assert doubt_all([FIRING, pending], verdict.doubts, "it broke", 600).events == ()


def test_a_rule_broken_for_a_day_is_given_up_and_not_cleared() -> None:
    doubts = doubt_all([FIRING], {}, "it broke", 0).doubts
    verdict = doubt_all([FIRING], doubts, "it broke", UNKNOWN_MAX_MS)
    assert kinds(verdict) == [EventKind.GIVEN_UP] and verdict.events[0].alert == FIRING
    assert doubt_all([FIRING], verdict.doubts, "it broke", UNKNOWN_MAX_MS + 1).events == ()
    assert kinds(after((), FIRING, verdict.doubts)) == [EventKind.FIRING]
    assert after((CLEAR,), GONE, verdict.doubts) == Verdict((), {})


def test_what_cleared_while_the_rule_was_broken_is_cleared_afterwards() -> None:
    doubts = doubt_all([FIRING], {}, "it broke", 0).doubts
    assert after((CLEAR,), GONE, doubts) == Verdict((CLEAR,), {})
    dropped = after((), None, doubts)  # a limit dropped the instance
    assert kinds(dropped) == [EventKind.CLEAR] and dropped.doubts == {}


def test_a_doubt_of_a_broken_rule_waits_for_the_dead_source_as_well() -> None:
    doubts = doubt_all([FIRING], {}, "it broke", 0).doubts
    verdict = after((CLEAR,), GONE, doubts, frozenset((ENGINE,)))
    assert verdict.events == ()
    assert verdict.doubts[KEY].since_ms == 0
    assert verdict.doubts[KEY].sources == {ENGINE}


def test_only_the_alerts_own_instance_concerns_it_where_that_is_known() -> None:
    other = Alert("g/A/1", (("alertname", "A"), ("instance", "e:3")), (), AlertState.FIRING, 1.0, 0)
    nameless = Alert("g/A/1", (("alertname", "A"),), (), AlertState.FIRING, 1.0, 0)
    own, mixed = (concerns((ENGINE, OTHER), keeps, frozenset((RULE,))) for keeps in (True, False))
    assert own(FIRING) == {ENGINE, RULE} and own(other) == {RULE}
    assert own(nameless) == mixed(nameless) == mixed(FIRING) == {ENGINE, OTHER, RULE}
    assert mixed(nameless) is mixed(FIRING)
