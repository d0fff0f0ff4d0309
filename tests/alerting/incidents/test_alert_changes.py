"""What alerts do to their incident: it resolves, reopens, gets worse or milder, is unknown."""

from dataclasses import replace

import pytest

from support.alert_events import alert, clears, fires, removed, unknown
from support.policies import HOUR, MINUTE, P0, SECOND
from support.state_machine import bench
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.incident import Condition, IncidentState, Reason, Record, TimerKind
from tocsin_alerting.rules.alert import Alert
from tocsin_alerting.rules.severity import Severity


def test_resolved_goes_to_those_who_were_paged() -> None:
    one = bench("P1")
    one.advance(59 * MINUTE)
    one.do(clears(one.first))
    assert one.at(Reason.RESOLVED) == [(59, "chat"), (59, "mail")]
    one.advance(3 * HOUR)
    assert not one.at(Reason.ESCALATED) and one.incident.state is IncidentState.CLOSED


def test_resolved_before_anybody_was_paged_tells_nobody() -> None:
    one = bench("P1")
    one.do(clears(one.first))
    assert not one.told and one.incident.state is IncidentState.RESOLVED


def test_fires_again_within_the_window() -> None:
    one = bench()
    one.advance(16 * MINUTE)
    one.do(clears(one.first))
    one.advance(20 * MINUTE)
    one.do(fires(one.first))
    assert one.at(Reason.REOPENED) == [(20, "li"), (20, "chat")]
    assert one.incident.flaps == 1
    one.do(clears(one.first))
    # wang was told of the first time alone, and heard then that it was over
    assert one.at(Reason.RESOLVED)[3:] == [(20, "chat"), (20, "li")]


def test_worse_brings_the_worse_policy_at_once() -> None:
    one = bench("P1")
    one.advance(MINUTE)
    one.do(fires(alert("Slow", "P0", target="a")))
    assert one.incident.severity is Severity.P0
    assert one.at(Reason.WORSE) == [(1, "li"), (1, "chat")]
    one.advance(5 * MINUTE)
    assert one.at(Reason.SLO_BREACH) == [(5, "li"), (5, "chat")]  # counted from the opening


def test_worse_before_anybody_was_paged_is_an_opening() -> None:
    one = bench("P1")
    one.do(fires(alert("Slow", "P0", target="a")))
    one.advance(SECOND)
    assert {why for _, why, _ in one.told} == {Reason.OPENED}
    assert [who for _, _, who in one.told] == ["li", "chat"]


def test_worse_while_acked_tells_the_owner_and_shortens_the_ack() -> None:
    one = bench("P1")
    one.advance(MINUTE)
    one.act(Verb.ACK, "wang")
    one.do(fires(alert("Slow", "P0", target="a")))
    assert one.incident.state is IncidentState.ACKED
    assert one.at(Reason.WORSE) == [(1, "wang")]
    assert one.timers[TimerKind.ACK_TIMEOUT].due_at_ms == 31 * MINUTE


def test_less_bad_changes_nothing_but_the_history() -> None:
    one = bench("P0")
    milder = alert("Slow", "P2", target="a")
    one.do(fires(milder))
    one.do(clears(one.first))
    assert one.incident.is_open and one.incident.policy == P0
    assert one.history[-1] == Record("severity_lowered", data={"from": "P0", "to": "P2"})
    one.do(clears(milder))
    assert one.incident.state is IncidentState.RESOLVED


def test_unknown_is_not_resolved() -> None:
    one = bench("P1")
    one.do(unknown(one.first))
    assert (one.incident.is_open, one.incident.source) == (True, Condition.UNKNOWN)
    one.advance(6 * MINUTE)
    assert one.at(Reason.UNKNOWN) == [(5, "chat"), (5, "mail")]
    one.advance(90 * MINUTE)
    assert one.at(Reason.ESCALATED) == [(60, "wang")]
    one.do(fires(one.first))
    assert one.incident.source == Condition.FIRING
    one.advance(25 * HOUR)
    assert one.incident.is_open


def test_unknown_for_too_long_is_given_up_with_a_notice() -> None:
    one = bench("P1")
    one.do(unknown(one.first))
    one.advance(25 * HOUR)
    whys = [record.data["why"] for record in one.history if record.event == "given_up"]
    assert whys == ["state unknown for 1d, given up"]
    assert {who for _, who in one.at(Reason.GIVEN_UP)} == {"chat", "mail", "wang"}
    assert not one.at(Reason.RESOLVED)


def test_what_loses_its_rule_is_no_longer_watched_and_not_over() -> None:
    one = bench()
    one.do(removed(one.first))
    assert (
        one.incident.state is IncidentState.RESOLVED and one.incident.resolution == "rule removed"
    )
    assert one.incident.source is Condition.UNKNOWN and not one.incident.active
    assert one.at(Reason.UNWATCHED) == [(0, "chat"), (0, "li")]
    assert not one.at(Reason.RESOLVED) and one.history[-1].event == "unwatched"


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (alert("Slow", "P0", target="a", team="ml"), Reason.RESOLVED),
        (alert("Slow", "P1", target="a"), Reason.RESOLVED),
        (alert("Slow", "P1"), Reason.RESOLVED),
        (alert("Slow", "P0", target="b"), Reason.UNWATCHED),
        (alert("Slow", "P0", target="b", team="ml"), Reason.UNWATCHED),
        (alert("Slow", "P0", gpu="0"), Reason.UNWATCHED),
        (alert("Other", "P0", target="a", team="ml"), Reason.UNWATCHED),
    ],
    ids=lambda value: str(dict(value.labels)) if isinstance(value, Alert) else value.value,
)
def test_it_is_over_when_the_alert_outlives_it_under_other_labels_and_clears(
    other: Alert, told: Reason
) -> None:
    """A rule whose labels were changed goes on under the new ones; another rule, and an alert
    about something else, know nothing."""
    one = bench()
    one.do(fires(other))
    one.do(removed(one.first))
    assert one.incident.is_open and one.incident.source is Condition.FIRING
    one.advance(MINUTE)
    one.do(clears(other))
    assert [one.at(reason) != [] for reason in (Reason.RESOLVED, Reason.UNWATCHED)] == [
        told is Reason.RESOLVED,
        told is Reason.UNWATCHED,
    ]


def test_what_comes_back_milder_follows_the_policy_of_its_severity_now() -> None:
    one = bench("P0")
    one.do(clears(one.first))
    one.do(fires(alert("Slow", "P1", target="a")))
    assert (one.incident.severity, one.incident.policy.name) == (Severity.P1, "P1")
    assert one.at(Reason.REOPENED) == [(0, "chat"), (0, "mail")]


def test_what_one_sender_does_not_know_and_another_says_fires() -> None:
    one = bench()
    lost = unknown(one.first)
    posted, lost_too, over = (
        replace(event, origin="api") for event in (fires(one.first), lost, clears(one.first))
    )
    sources = []
    for event in (posted, lost, lost_too, posted, over):
        one.do(event)
        sources.append(one.incident.source)
    fire, doubt = Condition.FIRING, Condition.UNKNOWN
    assert sources == [fire, fire, doubt, fire, doubt] and one.incident.is_open
