"""The state machine, rule by rule, and step for step beside the reference's oracle."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires
from support.policies import HOUR, MINUTE, SECOND, config, to
from support.state_machine import Bench, bench
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.effects import Record
from tocsin_alerting.incidents.errors import Conflict
from tocsin_alerting.incidents.escalation_policy import (
    AckTimes,
    EscalationPolicy,
    EscalationStep,
    FinalStep,
)
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.timer_rules import TimerDue
from tocsin_alerting.incidents.timers import TimerKind
from tocsin_alerting.incidents.transitions import transition

ORACLE = Path(__file__).parents[4] / "shared" / "reference" / "incident_model.py"


def test_muted_for_two_hours_then_paged_and_escalated_from_there() -> None:
    one = bench("P1")
    one.mute("maintenance:drivers")
    one.advance(120 * MINUTE)
    assert not one.told
    one.mute()
    assert one.at(Reason.UNMUTED) == [(120, "chat"), (120, "mail")]
    one.advance(181 * MINUTE)
    assert one.at(Reason.ESCALATED) == [(180, "wang")]


def test_unmuted_within_the_group_wait_is_paged_once() -> None:
    one = bench("P1")
    one.mute("silence:1")
    one.mute()
    one.advance(MINUTE)
    assert [why for _, why, _ in one.told] == [Reason.OPENED] * 2


def test_after_an_inhibition_the_group_wait_runs_first() -> None:
    one = bench("P1")
    one.mute("inhibited:7")
    one.advance(10 * MINUTE)
    one.mute()
    assert not one.told
    one.advance(10 * MINUTE + 15 * SECOND)
    assert one.at(Reason.UNMUTED) == [(10, "chat"), (10, "mail")]


def test_what_recovers_with_its_cause_pages_nobody() -> None:
    one = bench("P1")
    one.mute("inhibited:7")
    one.advance(10 * MINUTE)
    one.mute()
    one.advance(10 * MINUTE + SECOND)
    one.do(clears(one.first))
    one.advance(HOUR)
    assert not one.told


def test_a_second_mute_keeps_it_quiet_when_the_first_ends() -> None:
    one = bench()
    one.mute("silence:1", "maintenance:x")
    one.mute("silence:1")
    one.advance(20 * MINUTE)
    assert [why for _, why, _ in one.told] == [Reason.OPENED] * 2


def test_closed_hears_nothing() -> None:
    one = bench()
    one.do(clears(one.first))
    one.advance(HOUR)
    assert one.incident.state is IncidentState.CLOSED
    before = one.incident
    one.do(fires(one.first))
    assert one.incident == before and one.history[-1] == Record("ignored_late")
    with pytest.raises(Conflict, match="CLOSED"):
        one.act(Verb.ACK)


def test_a_stale_timer_changes_nothing() -> None:
    one = bench()
    stale = one.timers[TimerKind.STEP]
    one.act(Verb.ACK)
    assert transition(one.incident, TimerDue(stale), HOUR, one.config) == (one.incident, ())


# beside the oracle


def _oracle() -> dict[str, Any]:
    if not ORACLE.exists():
        pytest.skip("the reference's oracle is not beside this checkout")
    return runpy.run_path(str(ORACLE))


ORACLE_P0 = EscalationPolicy(
    name="P0",
    steps=(
        EscalationStep(to("oncall:oncall", "wecom:wecom"), 15 * MINUTE),
        EscalationStep(to("a:a"), 15 * MINUTE),
        EscalationStep(to("b:b"), 15 * MINUTE),
    ),
    repeat=1,
    final=FinalStep(to("everyone:everyone"), 15 * MINUTE, HOUR),
    ack=AckTimes(30 * MINUTE),
    recover_within_ms=5 * MINUTE,
)
ORACLE_P1 = EscalationPolicy(
    name="P1",
    steps=(EscalationStep(to("a:a", "b:b"), HOUR), EscalationStep(to("c:c"))),
    group_wait_ms=15 * SECOND,
    ack=AckTimes(2 * HOUR),
    recover_within_ms=15 * MINUTE,
)
MOVES = st.sampled_from(
    ["ack a", "ack b", "unack", "next", "first", "snooze 60", "snooze 3600", "mute s", "unmute s",
     "mute m", "unmute m", "clear", "fire"]
)  # fmt: skip
WAITS = st.sampled_from([0, 1, 30, 300, 900, 1860, 3600, 10800])
Standing = tuple[str, int, list[tuple[int, str, str]]]
"""State, step, and the pages: when, why, to whom."""
REASONS = {"unack": Reason.UNACKED.value}


class Pair:
    """The oracle and ours, moved together."""

    def __init__(self, oracle: dict[str, Any], policy: EscalationPolicy) -> None:
        self.world = oracle["new"](
            steps=[
                ([t.contact for t in one.notify], one.escalate_after_ms and
                 one.escalate_after_ms // SECOND)
                for one in policy.steps
            ],
            repeat=policy.repeat,
            group_wait=policy.group_wait_ms // SECOND,
            ack_timeout=(policy.ack.timeout_ms or 0) // SECOND,
            recover=(policy.recover_within_ms or 0) // SECOND,
            final_every=policy.final and policy.final.every_ms // SECOND,
            final_for=policy.final.for_ms // SECOND if policy.final else 0,
        )  # fmt: skip
        self.world.advance(0)
        settings = config(policies={policy.name: policy})
        self.ours = Bench(settings, alert("Slow", policy.name, target="a"))

    def move(self, move: str) -> tuple[bool, bool]:
        """Whether theirs and ours refuse it."""
        verb, _, word = move.partition(" ")
        model, ours = self.world.inc, self.ours
        theirs: dict[str, Callable[[], Any]] = {
            "ack": lambda: model.ack(word),
            "unack": model.unack,
            "next": model.escalate,
            "first": lambda: model.escalate(0),
            "snooze": lambda: model.snooze(int(word)),
            "mute": lambda: model.mute(word),
            "unmute": lambda: model.unmute(word),
            "clear": model.clear,
            "fire": model.refire,
        }
        mine: dict[str, Callable[[], Any]] = {
            "ack": lambda: ours.act(Verb.ACK, word),
            "unack": lambda: ours.act(Verb.UNACK),
            "next": lambda: ours.act(Verb.ESCALATE),
            "first": lambda: ours.act(Verb.ESCALATE, step=0),
            "snooze": lambda: ours.act(Verb.SNOOZE, until_ms=ours.now + int(word) * SECOND),
            "mute": lambda: ours.mute(*ours.incident.muted_by, word),
            "unmute": lambda: ours.mute(*(ours.incident.muted_by - {word})),
            "clear": lambda: ours.do(clears(ours.first)),
            "fire": lambda: ours.do(fires(ours.first)),
        }
        refused = theirs[verb]() == "conflict"
        try:
            mine[verb]()
        except Conflict:
            return refused, True
        return refused, False

    def owner_told(self, why: Reason, who: str) -> bool:
        """The reference tells the owner of an expired ack first; its oracle leaves that out."""
        first = {target.contact for target in self.ours.incident.policy.steps[0].notify}
        return why is Reason.ACK_EXPIRED and who not in first

    def theirs(self) -> Standing:
        model = self.world.inc
        pages = ((at * SECOND, REASONS.get(why, why), who) for at, who, why, _ in self.world.pages)
        return model.state, model.step, sorted(pages)

    def mine(self) -> Standing:
        incident = self.ours.incident
        pages = (
            (at, why.value, who)
            for at, why, who in self.ours.told
            if why not in (Reason.RESOLVED, Reason.ACKED) and not self.owner_told(why, who)
        )
        return incident.state.value, max(incident.step, -1), sorted(pages)


@pytest.fixture(scope="module")
def oracle() -> dict[str, Any]:
    return _oracle()


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.lists(st.tuples(WAITS, MOVES), max_size=25))
def test_ours_pages_whom_the_oracle_pages(
    oracle: dict[str, Any], worst: bool, moves: list[tuple[int, str]]
) -> None:
    pair = Pair(oracle, ORACLE_P0 if worst else ORACLE_P1)
    for wait_s, move in moves:
        pair.world.advance(pair.world.t + wait_s)
        pair.ours.advance(pair.ours.now + wait_s * SECOND)
        assert pair.mine() == pair.theirs()
        theirs, mine = pair.move(move)
        assert mine == theirs, move
        assert pair.mine() == pair.theirs()
