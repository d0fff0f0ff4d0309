"""What people answer: acknowledged, escalated by hand, snoozed, closed; and what follows."""

from dataclasses import replace
from typing import Any

import pytest

from support.alert_events import alert, clears, fires, unknown
from support.policies import HOUR, MINUTE, P0, P1, SECOND, to
from support.state_machine import bench
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.errors import Conflict
from tocsin_alerting.incidents.escalation_policy import AckTimes
from tocsin_alerting.incidents.incident import (
    Condition,
    IncidentState,
    Reason,
    Record,
    WithdrawPages,
)
from tocsin_alerting.incidents.transitions import transition


def test_an_answer_stops_it_and_its_end_starts_it_again() -> None:
    one = bench()
    one.advance(15 * MINUTE - 1)
    one.act(Verb.ACK)
    one.advance(44 * MINUTE)
    assert not one.at(Reason.ESCALATED)
    assert one.at(Reason.ACK_REMIND) == [(24, "li"), (34, "li")]  # the owner alone
    one.advance(45 * MINUTE)
    assert one.at(Reason.ACK_EXPIRED) == [(44, "li"), (44, "chat")]
    assert one.incident.owner == "" and one.incident.state is IncidentState.TRIGGERED


@pytest.mark.parametrize(
    ("on_timeout", "expected"), [("restart", "li"), ("resume", "wang"), ("next", "mail")]
)
def test_where_an_expired_ack_goes_on(on_timeout: Any, expected: str) -> None:
    policy = replace(P0, ack=AckTimes(10 * MINUTE, None, on_timeout))
    one = bench(policies={"P0": policy})
    one.advance(16 * MINUTE)
    one.act(Verb.ACK, "somebody else")
    one.advance(27 * MINUTE)
    assert one.at(Reason.ACK_EXPIRED)[0] == (26, expected)


def test_an_owner_hears_first_that_the_ack_has_expired() -> None:
    one = bench()
    one.act(Verb.ACK, "wang")
    one.advance(31 * MINUTE)
    assert [who for _, who in one.at(Reason.ACK_EXPIRED)] == ["wang", "li", "chat"]


def test_the_others_hear_that_somebody_is_on_it() -> None:
    one = bench()
    one.act(Verb.ACK, "li")
    assert one.at(Reason.ACKED) == [(0, "chat")]
    one.act(Verb.ACK, "li")
    assert one.at(Reason.ACKED) == [(0, "chat")]  # again by the same: nothing
    generation = one.incident.generation
    one.act(Verb.ACK, "wang")
    assert one.incident.owner == "wang" and one.incident.generation == generation + 1


def test_an_ack_withdraws_what_nobody_got() -> None:
    one = bench()
    _, effects = transition(one.incident, Action(Verb.ACK, 1, "li"), 0, one.config)
    assert WithdrawPages() in effects


def test_manual_escalation_from_acked() -> None:
    one = bench()
    one.advance(MINUTE)
    one.act(Verb.ACK)
    one.act(Verb.ESCALATE)
    assert one.incident.state is IncidentState.TRIGGERED
    assert one.at(Reason.MANUAL) == [(1, "wang")]
    with pytest.raises(Conflict, match="no step 9"):
        one.act(Verb.ESCALATE, step=9)


def test_unack_starts_again() -> None:
    one = bench()
    with pytest.raises(Conflict):
        one.act(Verb.UNACK)
    one.act(Verb.ACK)
    one.act(Verb.UNACK)
    assert one.at(Reason.UNACKED) == [(0, "li"), (0, "chat")]


def test_an_assignee_is_paged_and_the_escalation_goes_on_unless_he_acknowledges() -> None:
    one = bench()
    one.act(Verb.ASSIGN, "li", to="wang", note="yours")
    assert (one.incident.state, one.incident.owner) == (IncidentState.ACKED, "wang")
    assert one.at(Reason.ASSIGNED) == [(0, "wang")]
    one.advance(15 * MINUTE)  # as long as the step waits, though an acknowledgement lasts 30
    assert one.incident.state is IncidentState.TRIGGERED
    assert one.at(Reason.ACK_EXPIRED) == [(15, "wang"), (15, "li"), (15, "chat")]


def test_an_assignee_who_acknowledges_has_it_as_anybody_else() -> None:
    one = bench()
    one.act(Verb.ASSIGN, "li", to="wang")
    one.advance(14 * MINUTE)
    one.act(Verb.ACK, "wang")
    assert one.incident.assigned_by == ""
    assert one.at(Reason.ACKED) == [(14, "chat"), (14, "li")]
    one.advance(43 * MINUTE)
    assert not one.at(Reason.ACK_EXPIRED)
    assert one.at(Reason.ACK_REMIND) == [(24, "wang"), (34, "wang")]


def test_it_can_be_handed_over_from_every_open_state_and_to_oneself() -> None:
    one = bench()
    one.act(Verb.ACK, "li")
    one.act(Verb.ASSIGN, "li", to="wang")
    assert one.incident.owner == "wang"
    one.act(Verb.SNOOZE, "wang", until_ms=20 * MINUTE)
    assert one.incident.assigned_by == "", "who snoozes has answered"
    one.act(Verb.ASSIGN, "wang", to="li")
    assert (one.incident.owner, one.incident.assigned_by) == ("li", "wang")
    one.act(Verb.ASSIGN, "li", to="li")
    assert (one.incident.owner, one.incident.assigned_by) == ("li", "")


def test_nobody_gets_it_who_cannot_be_told() -> None:
    one = bench(addressees=frozenset(to("mail:chen", "chat")))
    with pytest.raises(Conflict, match='no receiver writes to "cheng".* chen, li, wang'):
        one.act(Verb.ASSIGN, "li", to="cheng")
    assert one.incident.state is IncidentState.TRIGGERED
    one.act(Verb.ASSIGN, "li", to="chen")  # in no step of the policy, and reached all the same
    assert one.at(Reason.ASSIGNED) == [(0, "chen")]


def test_an_assignment_lasts_no_longer_when_it_gets_worse() -> None:
    none = replace(P1, ack=AckTimes(None, None))
    one = bench("P1", policies={"P1": none, "P0": replace(P0, ack=AckTimes(None, None))})
    one.advance(MINUTE)
    one.act(Verb.ASSIGN, "li", to="wang")
    one.advance(10 * MINUTE)
    one.do(fires(alert("Slow", "P0", target="a")))
    assert one.incident.severity == "P0"
    one.advance(16 * MINUTE)
    assert one.incident.state is IncidentState.TRIGGERED


@pytest.mark.parametrize("state", IncidentState)
def test_a_comment_is_a_line_in_the_history_of_every_state(state: IncidentState) -> None:
    one = bench()
    before = replace(one.incident, state=state)
    said = Action(Verb.COMMENT, 1, "li", "seen", fields={"lessons": "more fans"})
    after, effects = transition(before, said, 0, one.config)
    assert after is before
    (record,) = effects
    assert record == Record("commented", "li", {"note": "seen", "fields": {"lessons": "more fans"}})


def test_a_snooze_gets_another_end() -> None:
    one = bench()
    one.act(Verb.SNOOZE, until_ms=10 * MINUTE)
    one.advance(9 * MINUTE)
    one.act(Verb.SNOOZE, until_ms=30 * MINUTE)
    one.advance(29 * MINUTE)
    assert not one.at(Reason.SNOOZE_END)
    one.advance(30 * MINUTE)
    assert one.at(Reason.SNOOZE_END) == [(30, "li"), (30, "chat")]


def test_snooze_is_quiet_until_its_end() -> None:
    one = bench()
    one.act(Verb.SNOOZE, until_ms=20 * MINUTE)
    one.advance(19 * MINUTE)
    assert [why for _, why, _ in one.told] == [Reason.OPENED] * 2  # no slo page either
    one.advance(20 * MINUTE)
    assert one.at(Reason.SNOOZE_END) == [(20, "li"), (20, "chat")]


@pytest.mark.parametrize("until_ms", [None, 0, 31 * MINUTE])
def test_a_snooze_that_is_not_allowed(until_ms: int | None) -> None:
    one = bench()
    with pytest.raises(Conflict):
        one.act(Verb.SNOOZE, until_ms=until_ms)


def test_closed_by_hand_while_it_fires_says_so_and_comes_back() -> None:
    one = bench()
    one.act(Verb.RESOLVE, note="false alarm")
    assert (one.incident.state, one.incident.source) == (IncidentState.RESOLVED, Condition.FIRING)
    assert one.at(Reason.CLOSED_BY_HAND) == [(0, "chat"), (0, "li")]
    one.advance(15 * MINUTE - SECOND)
    assert not one.incident.is_open
    one.advance(15 * MINUTE)
    assert one.incident.is_open and not one.incident.closed_by_hand
    assert one.at(Reason.STILL_FIRING) == [(15, "li"), (15, "chat")]
    assert one.incident.flaps == 0
    one.do(clears(one.first))
    assert one.at(Reason.RESOLVED) == [(15, "chat"), (15, "li")]


@pytest.mark.parametrize(
    ("severity", "own_ms", "minutes"), [("P0", None, 15), ("P1", None, 60), ("P1", 5 * MINUTE, 5)]
)
def test_how_long_it_stays_closed(severity: str, own_ms: int | None, minutes: int) -> None:
    own = replace(P1 if severity == "P1" else P0, re_raise_after_ms=own_ms)
    one = bench(severity, policies={severity: own})
    one.advance(MINUTE)
    one.act(Verb.RESOLVE)
    one.advance((minutes + 1) * MINUTE - SECOND)
    assert not one.incident.is_open
    one.advance((minutes + 1) * MINUTE)
    assert one.incident.is_open


def test_the_end_of_what_was_closed_by_hand_is_told() -> None:
    one = bench()
    one.act(Verb.RESOLVE)
    one.advance(5 * MINUTE)
    one.do(clears(one.first))
    assert one.at(Reason.RESOLVED) == [(5, "chat"), (5, "li")]
    one.advance(34 * MINUTE)
    one.do(fires(one.first))  # within reopen_within of its end
    assert one.at(Reason.REOPENED) == [(34, "li"), (34, "chat")]


def test_closed_by_hand_it_opens_for_another_alert_and_not_for_the_same_one() -> None:
    one = bench()
    one.act(Verb.RESOLVE)
    one.do(unknown(one.first))
    one.do(fires(one.first))
    assert (one.incident.state, one.incident.source) == (IncidentState.RESOLVED, Condition.FIRING)
    one.do(fires(alert(gpu="1", target="a:8000")))
    assert one.incident.state == IncidentState.TRIGGERED


def test_closed_by_hand_while_nobody_can_tell() -> None:
    one = bench()
    one.do(unknown(one.first))
    one.act(Verb.RESOLVE)
    assert one.at(Reason.CLOSED_UNKNOWN) == [(0, "chat"), (0, "li")]
    one.advance(HOUR)
    assert not one.incident.is_open, "it waits for the source"
    one.do(fires(one.first))
    one.advance(HOUR + 15 * MINUTE)
    assert one.incident.is_open
