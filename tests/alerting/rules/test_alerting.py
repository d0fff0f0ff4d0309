"""One alerting rule, step by step: tables of Prometheus's cases, and a model written apart."""

import time
from collections.abc import Iterable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.rule_texts import MINUTE, alerting
from support.scripted_engine import row
from tocsin_alerting.rules.alert import Alert, AlertState, EventKind, fingerprint
from tocsin_alerting.rules.alerting import (
    FOR_RAISED,
    AlertLabelsMemo,
    AlertsUpdate,
    Candidate,
    DuplicateLabelSet,
    alert_samples,
    candidates,
    count_active,
    update_alerts,
)
from tocsin_alerting.rules.fair_share import FairShare
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.template_data import QueryRows, TemplateData
from tocsin_exporter.slices import at_once
from tocsin_exporter.snapshot import Labels

PENDING, FIRING, INACTIVE = AlertState.PENDING, AlertState.FIRING, AlertState.INACTIVE
LABELS = (("alertname", "A"), ("i", "1"))
Path = list[tuple[AlertState | None, list[EventKind]]]


def here(value: float = 1.0) -> list[Candidate]:
    return [Candidate(LABELS, (("s", str(value)),), value, fingerprint(LABELS))]


def updated(
    rule: AlertingRule, vector: Sequence[Candidate], now_ms: int, before: Mapping[str, Alert]
) -> AlertsUpdate:
    return at_once(update_alerts(rule, vector, now_ms, before))


def samples_of(rule: AlertingRule, alerts: Iterable[Alert]) -> Sequence[tuple[Labels, float]]:
    return at_once(alert_samples(rule, alerts))


def walk(rule: AlertingRule, presence: str, step_ms: int = MINUTE) -> Path:
    """State and events after each step; `o` in `presence` is a sample, `.` is none."""
    alerts: Mapping[str, Alert] = {}
    path: Path = []
    for number, mark in enumerate(presence):
        done = updated(rule, here() if mark == "o" else [], number * step_ms, alerts)
        alerts = done.alerts
        alert = next(iter(alerts.values()), None)
        path.append((alert.state if alert else None, [event.kind for event in done.events]))
    return path


def states(rule: AlertingRule, presence: str, step_ms: int = MINUTE) -> str:
    short = {None: "-", PENDING: "p", FIRING: "f", INACTIVE: "i"}
    return "".join(short[state] for state, _ in walk(rule, presence, step_ms))


@pytest.mark.parametrize(
    ("for_min", "keep_min", "presence", "wanted"),
    [
        (0, 0, "oo..o", "ffiif"),
        (2, 0, "oooo.", "ppffi"),
        (2, 0, "oo.ooo", "pp-ppf"),  # a gap starts it anew
        (2, 0, "ooo.ooo", "ppfippf"),  # resolved within 15 minutes: pending again, not firing
        (0, 3, "ooooo......", "ffffffffiii"),  # measured with promtool 2.42: 5 m gone, 8 m resolved
        (0, 2, "o.o.o...", "ffffffff"[:7] + "i"),  # each return starts keep_firing_for anew
        (3, 2, "oo.oooo.o", "pp-pppfff"),
        (0, 0, "o" + "." * 17, "f" + "i" * 16 + "-"),  # 15 minutes are remembered, 16 not
    ],
)
def test_it_goes_through_the_states_of_prometheus(
    for_min: int, keep_min: int, presence: str, wanted: str
) -> None:
    rule = alerting(for_ms=for_min * MINUTE, keep_ms=keep_min * MINUTE)
    assert states(rule, presence) == wanted


def test_a_for_below_the_interval_fires_at_the_next_evaluation() -> None:
    assert states(alerting(for_ms=1), "oo") == "pf"


def test_each_change_is_told_once() -> None:
    events_by_step = [events for _, events in walk(alerting(for_ms=MINUTE), "ooo..")]
    assert events_by_step == [[], [EventKind.FIRING], [], [EventKind.CLEAR], []]


def test_a_resolved_alert_that_comes_back_is_a_new_one() -> None:
    rule = alerting()
    alerts: Mapping[str, Alert] = {}
    for at, vector in ((0, here()), (1, []), (2, here(5.0))):
        alerts = updated(rule, vector, at * MINUTE, alerts).alerts
    (alert,) = alerts.values()
    assert (alert.active_at_ms, alert.fired_at_ms) == (2 * MINUTE, 2 * MINUTE)
    assert (alert.resolved_at_ms, alert.value) == (None, 5.0)


def test_value_and_annotations_follow_and_times_stay() -> None:
    rule = alerting()
    first = updated(rule, here(1.0), 0, {})
    second = updated(rule, here(2.0), MINUTE, first.alerts)
    (alert,) = second.alerts.values()
    assert (alert.value, alert.annotations, alert.fired_at_ms) == (2.0, (("s", "2.0"),), 0)
    assert second.events == ()


def test_a_raised_for_takes_a_firing_alert_back_to_pending() -> None:
    before = updated(alerting(), here(), 0, {}).alerts
    done = updated(alerting(for_ms=10 * MINUTE), here(), MINUTE, before)
    (alert,) = done.alerts.values()
    assert (alert.state, alert.fired_at_ms, alert.active_at_ms) == (PENDING, None, 0)
    assert [(event.kind, event.reason) for event in done.events] == [
        (EventKind.REMOVED, FOR_RAISED)
    ]


def test_two_samples_with_one_label_set_fail_the_rule() -> None:
    with pytest.raises(DuplicateLabelSet, match="same labelset after applying alert labels"):
        updated(alerting(), here() + here(), 0, {})


def scope(labels: Mapping[str, str], value: float) -> TemplateData:
    return TemplateData(labels, value)


async def test_the_alerts_labels_are_the_samples_the_rules_and_the_name() -> None:
    rule = alerting(
        name="Down",
        job="{{ $labels.__name__ }}",
        gone="{{ $labels.nope }}",
        drop="",
        alertname="not this",
        annotations={"summary": "{{ $labels.i }} is {{ $value }}", "empty": ""},
    )
    rows = [row(2.0, __name__="m", i="1", job="x", drop="me")]
    labels = (("alertname", "Down"), ("i", "1"), ("job", "m"))
    annotations = (("empty", ""), ("summary", "1 is 2"))
    assert await candidates(rule, rows, scope, AlertLabelsMemo(), FairShare(time.monotonic)) == [
        Candidate(labels, annotations, 2.0, fingerprint(labels))
    ]


async def test_plain_labels_follow_the_rule_and_the_series() -> None:
    naming, text = AlertLabelsMemo(), {"summary": "s"}
    rows = [row(1.0, __name__="m", i="1"), row(2.0, __name__="m", i="2")]

    async def found(rule: AlertingRule, rows: QueryRows) -> list[tuple[dict[str, str], float]]:
        vector = await candidates(rule, rows, scope, naming, FairShare(time.monotonic))
        assert all(candidate.key == fingerprint(candidate.labels) for candidate in vector)
        assert all(candidate.annotations == rule.annotations for candidate in vector)
        return [(dict(candidate.labels), candidate.value) for candidate in vector]

    rule = alerting(name="A", job="x", annotations=text)
    first, second = (
        {"alertname": "A", "job": "x", "i": "1"},
        {"alertname": "A", "job": "x", "i": "2"},
    )
    assert await found(rule, rows) == [(first, 1.0), (second, 2.0)]
    assert await found(rule, rows[1:]) == [(second, 2.0)]
    assert await found(rule, [*rows[1:], *rows[:1]]) == [(second, 2.0), (first, 1.0)]
    changed = alerting(name="A", job="y", annotations=text)
    assert await found(changed, rows[:1]) == [(first | {"job": "y"}, 1.0)]


def test_what_is_pending_or_firing_is_written_as_series() -> None:
    alerts = updated(alerting(), here(), 12_345_678, {}).alerts.values()
    assert samples_of(alerting(), alerts) == [
        ((("__name__", "ALERTS"), ("alertname", "A"), ("alertstate", "firing"), ("i", "1")), 1.0),
        ((("__name__", "ALERTS_FOR_STATE"), ("alertname", "A"), ("i", "1")), 12345.0),
    ]
    resolved = updated(
        alerting(), [], MINUTE, {alert.fingerprint: alert for alert in alerts}
    ).alerts
    assert samples_of(alerting(), resolved.values()) == []
    assert (count_active(alerts), count_active(resolved.values())) == (1, 0)


def model(presence: list[bool], times: list[int], for_ms: int, keep_ms: int) -> list[str]:
    """Prometheus's semantics told by history, not by transitions: one letter a step."""
    letters: list[str] = []
    begun: int | None = None  # since when the condition has held, as far as `for` is concerned
    fired = False
    last_seen = resolved = None
    for now, present in zip(times, presence, strict=True):
        if present:
            begun = now if begun is None else begun
            fired = fired or now - begun >= for_ms
            last_seen, resolved = None, None
        elif fired:
            last_seen = now if last_seen is None else last_seen
            if now - last_seen >= keep_ms:
                begun, fired, resolved = None, False, now
        else:
            begun = None
        remembered = resolved is not None and now - resolved <= 15 * MINUTE
        letters.append("f" if fired else "p" if begun is not None else "i" if remembered else "-")
    return letters


@given(
    marks=st.lists(st.tuples(st.booleans(), st.integers(1, 400)), min_size=1, max_size=60),
    for_s=st.sampled_from((0, 1, 30, 90, 300)),
    keep_s=st.sampled_from((0, 1, 60, 240)),
)
def test_it_agrees_with_a_model_written_apart(
    marks: list[tuple[bool, int]], for_s: int, keep_s: int
) -> None:
    times, now = [], 0
    for _, gap_s in marks:
        now += gap_s * 1000
        times.append(now)
    presence = [present for present, _ in marks]
    rule = alerting(for_ms=for_s * 1000, keep_ms=keep_s * 1000)
    alerts: Mapping[str, Alert] = {}
    letters, fires = [], 0
    for present, at_ms in zip(presence, times, strict=True):
        done = updated(rule, here() if present else [], at_ms, alerts)
        alerts = done.alerts
        state = next((alert.state for alert in alerts.values()), None)
        letters.append({None: "-", PENDING: "p", FIRING: "f", INACTIVE: "i"}[state])
        for event in done.events:  # firing and clear alternate, firing first
            fires += {EventKind.FIRING: 1, EventKind.CLEAR: -1}[event.kind]
            assert fires in (0, 1)
        assert (fires == 1) == (state is FIRING)
    assert letters == model(presence, times, for_s * 1000, keep_s * 1000)
