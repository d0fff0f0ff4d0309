"""Unknown is not resolved: who is told what when a source dies, answers, goes or stays dead."""

from collections.abc import Mapping

import pytest

from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind
from tocsin_alerting.rules.unknown_alerts import (
    UNKNOWN_MAX_MS,
    SourceStatus,
    UnknownAlert,
    UnknownResult,
    alerts_of,
    all_unknown,
    concerning,
    resolve_unknown,
)
from tocsin_exporter.snapshot import Source

LABELS = (("alertname", "A"), ("instance", "e:1"))
ENGINE, OTHER = Source("llm", "e:1"), Source("llm", "e:2")
RULE = alerts_of(Source("tocsin_rules", "f.yml;g/B/1"))
FIRING = Alert("g/A/1", LABELS, (), AlertState.FIRING, 1.0, 0, 0)
GONE = Alert("g/A/1", LABELS, (), AlertState.INACTIVE, 1.0, 0, 0, resolved_at_ms=1000)
KEY = FIRING.fingerprint
CLEAR = AlertEvent(EventKind.CLEAR, GONE, 1000)


def healths(**named: SourceStatus) -> Mapping[Source, SourceStatus]:
    return {
        ENGINE: named.get("engine", SourceStatus.ALIVE),
        OTHER: named.get("other", SourceStatus.ALIVE),
    }


def after(
    events: tuple[AlertEvent, ...],
    alert: Alert | None,
    unknown_alerts: Mapping[str, UnknownAlert],
    dead: frozenset[Source] = frozenset(),
    health: Mapping[Source, SourceStatus] | None = None,
    now_ms: int = 1000,
) -> UnknownResult:
    alerts = {} if alert is None else {KEY: alert}
    known = health or healths(engine=SourceStatus.DEAD if ENGINE in dead else SourceStatus.ALIVE)
    return resolve_unknown(
        events, alerts, unknown_alerts, lambda _: dead, known.__getitem__, now_ms
    )


def kinds(verdict: UnknownResult) -> list[EventKind]:
    return [event.kind for event in verdict.events]


def test_a_clear_stays_a_clear_while_everything_answers() -> None:
    assert after((CLEAR,), GONE, {}) == UnknownResult((CLEAR,), {})


def test_a_clear_is_unknown_while_a_source_is_dead_and_said_once() -> None:
    verdict = after((CLEAR,), GONE, {}, frozenset((ENGINE,)))
    assert kinds(verdict) == [EventKind.UNKNOWN]
    assert verdict.events[0].reason == "no longer in the result while llm e:1 is dead"
    again = after((), GONE, verdict.unknown_alerts, frozenset((ENGINE,)), now_ms=2000)
    assert again.events == () and again.unknown_alerts == verdict.unknown_alerts


@pytest.mark.parametrize(
    ("health", "kind", "reason"),
    [
        (SourceStatus.ALIVE, EventKind.CLEAR, "llm e:1 answers again"),
        (SourceStatus.GONE, EventKind.REMOVED, "llm e:1 was removed"),
    ],
)
def test_it_ends_when_the_source_answers_or_is_removed(
    health: SourceStatus, kind: EventKind, reason: str
) -> None:
    unknown_alerts = after((CLEAR,), GONE, {}, frozenset((ENGINE,))).unknown_alerts
    verdict = after((), None, unknown_alerts, health=healths(engine=health), now_ms=5000)
    assert [(e.kind, e.at_ms, e.reason) for e in verdict.events] == [(kind, 5000, reason)]
    assert verdict.unknown_alerts == {}


def test_it_ends_after_unknown_max_with_a_notice_and_is_not_said_twice() -> None:
    dead = frozenset((ENGINE,))
    unknown_alerts = after((CLEAR,), GONE, {}, dead).unknown_alerts
    at = 1000 + UNKNOWN_MAX_MS
    assert after((), None, unknown_alerts, dead, now_ms=at - 1).events == ()
    verdict = after((), None, unknown_alerts, dead, now_ms=at)
    assert kinds(verdict) == [EventKind.GIVEN_UP]
    assert verdict.events[0].reason.startswith("unknown for 1d, given up: no longer in the")
    assert after((), None, verdict.unknown_alerts, dead, now_ms=at + 1).events == ()
    assert after((), None, verdict.unknown_alerts, now_ms=at + 2) == UnknownResult((), {})


def test_an_alert_that_fires_again_is_known_again() -> None:
    unknown_alerts = all_unknown([FIRING], {}, "broken", 500).unknown_alerts
    verdict = after((), FIRING, unknown_alerts)
    assert [(e.kind, e.reason) for e in verdict.events] == [(EventKind.FIRING, "known again")]
    assert verdict.unknown_alerts == {}


def test_an_alert_that_fires_anew_is_told_once() -> None:
    unknown_alerts = after((CLEAR,), GONE, {}, frozenset((ENGINE,))).unknown_alerts
    fires = AlertEvent(EventKind.FIRING, FIRING, 3000)
    assert after((fires,), FIRING, unknown_alerts, frozenset((ENGINE,))) == UnknownResult(
        (fires,), {}
    )


def test_a_broken_rule_leaves_what_fires_unknown_once_and_pending_alone() -> None:
    pending = Alert("g/A/1", (("alertname", "B"),), (), AlertState.PENDING, 1.0, 0)
    verdict = all_unknown([FIRING, pending], {}, "it broke", 500)
    assert [(e.kind, e.alert, e.reason) for e in verdict.events] == [
        (EventKind.UNKNOWN, FIRING, "it broke")
    ]
    assert all_unknown([FIRING, pending], verdict.unknown_alerts, "it broke", 600).events == ()


def test_a_rule_broken_for_a_day_is_given_up_and_not_cleared() -> None:
    unknown_alerts = all_unknown([FIRING], {}, "it broke", 0).unknown_alerts
    verdict = all_unknown([FIRING], unknown_alerts, "it broke", UNKNOWN_MAX_MS)
    assert kinds(verdict) == [EventKind.GIVEN_UP] and verdict.events[0].alert == FIRING
    assert (
        all_unknown([FIRING], verdict.unknown_alerts, "it broke", UNKNOWN_MAX_MS + 1).events == ()
    )
    assert kinds(after((), FIRING, verdict.unknown_alerts)) == [EventKind.FIRING]
    assert after((CLEAR,), GONE, verdict.unknown_alerts) == UnknownResult((), {})


def test_what_cleared_while_the_rule_was_broken_is_cleared_afterwards() -> None:
    unknown_alerts = all_unknown([FIRING], {}, "it broke", 0).unknown_alerts
    assert after((CLEAR,), GONE, unknown_alerts) == UnknownResult((CLEAR,), {})
    dropped = after((), None, unknown_alerts)  # a limit dropped the instance
    assert kinds(dropped) == [EventKind.CLEAR] and dropped.unknown_alerts == {}


def test_an_alert_of_a_broken_rule_waits_for_the_dead_source_as_well() -> None:
    unknown_alerts = all_unknown([FIRING], {}, "it broke", 0).unknown_alerts
    verdict = after((CLEAR,), GONE, unknown_alerts, frozenset((ENGINE,)))
    assert verdict.events == ()
    assert verdict.unknown_alerts[KEY].since_ms == 0
    assert verdict.unknown_alerts[KEY].sources == {ENGINE}


def test_what_was_given_up_is_not_given_up_again_while_its_source_is_dead() -> None:
    unknown_alerts = all_unknown([FIRING], {}, "it broke", 0).unknown_alerts
    at_ms = UNKNOWN_MAX_MS
    unknown_alerts = all_unknown([FIRING], unknown_alerts, "it broke", at_ms).unknown_alerts
    verdict = after((CLEAR,), GONE, unknown_alerts, frozenset((ENGINE,)), now_ms=at_ms + 1)
    assert verdict.events == () and verdict.unknown_alerts[KEY].over
    assert after((), None, verdict.unknown_alerts, now_ms=at_ms + 2) == UnknownResult((), {})


def test_only_the_alerts_own_instance_concerns_it_where_that_is_known() -> None:
    other = Alert("g/A/1", (("alertname", "A"), ("instance", "e:3")), (), AlertState.FIRING, 1.0, 0)
    nameless = Alert("g/A/1", (("alertname", "A"),), (), AlertState.FIRING, 1.0, 0)
    own, mixed = (concerning((ENGINE, OTHER), keeps, frozenset((RULE,))) for keeps in (True, False))
    assert own(FIRING) == {ENGINE, RULE} and own(other) == {RULE}
    assert own(nameless) == mixed(nameless) == mixed(FIRING) == {ENGINE, OTHER, RULE}
    assert mixed(nameless) is mixed(FIRING)
