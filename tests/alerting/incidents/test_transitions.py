"""The state machine, rule by rule, and step for step beside a model of it."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires
from support.incident_model import IncidentModel, ModelConflict, ModelFlap, ModelPolicy
from support.policies import HOUR, MINUTE, SECOND, config, to
from support.state_machine import Bench, bench
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.errors import Conflict
from tocsin_alerting.incidents.escalation_policy import (
    AckTimes,
    EscalationPolicy,
    EscalationStep,
    FinalStep,
)
from tocsin_alerting.incidents.incident import IncidentState, Reason, Record, TimerKind
from tocsin_alerting.incidents.routing import FlapDamping, IncidentConfig
from tocsin_alerting.incidents.timers import TimerDue
from tocsin_alerting.incidents.transitions import transition


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


# beside the model


MODEL_P0 = EscalationPolicy(
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
MODEL_P1 = EscalationPolicy(
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


def model_of(policy: EscalationPolicy, settings: IncidentConfig) -> IncidentModel:
    flap = settings.flap
    return IncidentModel(
        ModelPolicy(
            [
                ([target.contact for target in step.notify], _seconds(step.escalate_after_ms))
                for step in policy.steps
            ],
            repeat=policy.repeat,
            group_wait=policy.group_wait_ms // SECOND,
            ack_timeout=_seconds(policy.ack.timeout_ms) or 0,
            recover=_seconds(policy.recover_within_ms) or 0,
            final_every=_seconds(policy.final.every_ms) if policy.final else None,
            final_for=policy.final.for_ms // SECOND if policy.final else 0,
            hold=policy.resolve_hold_ms // SECOND,
            keep_ack=settings.reopen_keeps_ack,
            flap=_model_flap(flap) if flap else None,
        )
    )


def _model_flap(flap: FlapDamping) -> ModelFlap:
    window, hold, longest = (ms // SECOND for ms in (flap.window_ms, flap.hold_ms, flap.max_ms))
    return ModelFlap(flap.count, window, hold, int(flap.multiplier), longest)


def _seconds(ms: int | None) -> int | None:
    return ms and ms // SECOND


class Pair:
    """The model and ours, moved together."""

    def __init__(self, policy: EscalationPolicy, **changes: Any) -> None:
        settings = config(policies={policy.name: policy}, **changes)
        self.model = model_of(policy, settings)
        self.ours = Bench(settings, alert("Slow", policy.name, target="a"))

    def move(self, move: str) -> tuple[bool, bool]:
        """Whether the model and ours refuse it."""
        verb, _, word = move.partition(" ")
        model, ours = self.model, self.ours
        theirs: dict[str, Callable[[], Any]] = {
            "ack": lambda: model.ack(word),
            "unack": model.unack,
            "next": model.escalate,
            "first": lambda: model.escalate(0),
            "snooze": lambda: model.snooze(int(word)),
            "mute": lambda: model.mute(word),
            "unmute": lambda: model.unmute(word),
            "clear": model.clear,
            "fire": model.fire,
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
        return _refuses(theirs[verb], ModelConflict), _refuses(mine[verb], Conflict)

    def owner_told(self, why: Reason, who: str) -> bool:
        """Who let an ack expire is told first; the model leaves that out."""
        first = {target.contact for target in self.ours.incident.policy.steps[0].notify}
        return why is Reason.ACK_EXPIRED and who not in first

    def theirs(self) -> Standing:
        pages = ((at * SECOND, reason, who) for at, reason, who in self.model.pages)
        return self.model.state, self.model.step, sorted(pages)

    def mine(self) -> Standing:
        incident = self.ours.incident
        pages = (
            (at, why.value, who)
            for at, why, who in self.ours.told
            if why not in (Reason.RESOLVED, Reason.ACKED) and not self.owner_told(why, who)
        )
        return incident.state.value, max(incident.step, -1), sorted(pages)


def _refuses(move: Callable[[], Any], conflict: type[Exception]) -> bool:
    try:
        move()
    except conflict:
        return True
    return False


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.lists(st.tuples(WAITS, MOVES), max_size=25))
def test_ours_pages_whom_the_model_pages(worst: bool, moves: list[tuple[int, str]]) -> None:
    pair = Pair(MODEL_P0 if worst else MODEL_P1)
    agree(pair, moves)
    assert pair.mine() == pair.theirs()


def agree(pair: Pair, moves: Iterable[tuple[int, str]]) -> None:
    """After each move, and not only in the end."""
    for wait_s, move in moves:
        pair.model.advance(pair.model.now + wait_s)
        pair.ours.advance(pair.ours.now + wait_s * SECOND)
        assert pair.mine() == pair.theirs()
        theirs, mine = pair.move(move)
        assert mine == theirs, move
        assert pair.mine() == pair.theirs()


FLAPS = st.sampled_from(["clear", "fire"])
FLAP = FlapDamping(2, 30 * MINUTE, 5 * MINUTE, 2, HOUR)


def damped(worst: bool, hold_s: int, keeps_ack: bool) -> Pair:
    policy = replace(MODEL_P0 if worst else MODEL_P1, resolve_hold_ms=hold_s * SECOND)
    return Pair(policy, flap=FLAP, reopen_keeps_ack=keeps_ack)


DAMPED = st.tuples(st.booleans(), st.sampled_from([0, 0, 300, 4000]), st.booleans())


@settings(max_examples=300, deadline=None)
@given(DAMPED, st.lists(st.tuples(WAITS, MOVES | FLAPS), max_size=40))
def test_damped_too(how: tuple[bool, int, bool], moves: list[tuple[int, str]]) -> None:
    pair = damped(*how)
    agree(pair, moves)
    assert pair.mine() == pair.theirs()


@pytest.mark.long
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(DAMPED, st.lists(st.tuples(WAITS, MOVES | FLAPS), min_size=100, max_size=100))
def test_damped_for_a_hundred_thousand_moves(
    how: tuple[bool, int, bool], moves: list[tuple[int, str]]
) -> None:
    pair = damped(*how)
    agree(pair, moves)
    assert pair.mine() == pair.theirs()
