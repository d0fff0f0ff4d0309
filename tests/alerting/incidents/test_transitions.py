"""The state machine, rule by rule, and step for step beside the reference's oracle."""

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires, removed, unknown
from support.policies import HOUR, MINUTE, P0, P1, SECOND, config, to
from tocsin_alerting.incidents.action import Action, Verb
from tocsin_alerting.incidents.clocks import TimerDue
from tocsin_alerting.incidents.effects import Change, Notify, Record, SetTimer, WithdrawPages
from tocsin_alerting.incidents.errors import Conflict
from tocsin_alerting.incidents.grouping import group_of
from tocsin_alerting.incidents.incident import Incident, Source, State
from tocsin_alerting.incidents.membership import open_incident
from tocsin_alerting.incidents.muting import Mutes
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.policy import Ack, Final, Policy, Severity, Step
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.incidents.timer import Timer, TimerKind
from tocsin_alerting.incidents.transitions import Event, StepFailed, step
from tocsin_alerting.rules.alert import Alert

ORACLE = Path(__file__).parents[4] / "shared" / "reference" / "incident_model.py"


class Bench:
    """Drives `step` alone: applies effects to a list of timers and a list of pages."""

    def __init__(self, settings: IncidentConfig, first: Alert) -> None:
        self.config, self.now, self.first = settings, 0, first
        self.timers: dict[TimerKind, Timer] = {}
        self.told: list[tuple[int, Reason, str]] = []
        self.keys: set[tuple[Any, ...]] = set()
        self.history: list[Record] = []
        group = group_of(settings, dict(first.labels))
        self.incident: Incident
        self._take(open_incident(1, group, fires(first), 0, settings))
        self.advance(0)

    def _take(self, change: Change) -> None:
        before = getattr(self, "incident", None)
        self.incident, effects = change
        alive = {k: t for k, t in self.timers.items() if t.live(self.incident.generation)}
        self.timers = alive
        for effect in effects:
            match effect:
                case SetTimer(timer):
                    self.timers[timer.kind] = timer
                case Notify():
                    self._tell(effect)
                case Record():
                    self.history.append(effect)
        if before is not None and before.state is not self.incident.state:
            assert any(isinstance(effect, Record) for effect in effects), "I4"
        if self.incident.state is State.CLOSED:
            self.timers = {}
        self.check()

    def _tell(self, effect: Notify) -> None:
        one = self.incident
        for target in effect.targets:
            key = (one.generation, one.step, one.loop, target, effect.reason, effect.serial)
            assert key not in self.keys, "I5"
            self.keys.add(key)
            self.told.append((self.now, effect.reason, target.contact or target.receiver))
        if effect.reason not in (Reason.RESOLVED, Reason.ACKED):
            assert not one.muted, "I8"

    def check(self) -> None:
        one = self.incident
        live = {kind for kind, timer in self.timers.items() if timer.live(one.generation)}
        running = live & {TimerKind.STEP, TimerKind.GROUP_WAIT}
        if one.state is State.TRIGGERED and not one.muted and not one.exhausted:
            assert len(running) == 1, ("I2", live)
        if one.state is State.ACKED:
            assert (TimerKind.ACK_TIMEOUT in live) == (one.policy.ack.timeout_ms is not None), "I3"
            assert not running
        if one.state is State.SNOOZED:
            assert TimerKind.SNOOZE_END in live
        if one.state is State.RESOLVED:
            ends = TimerKind.RE_RAISE if one.closed_by_hand else TimerKind.REOPEN_END
            assert ends in live and not running

    def do(self, event: Event) -> None:
        self._take(step(self.incident, event, self.now, self.config))

    def act(self, verb: Verb, actor: str = "li", **more: Any) -> None:
        self.do(Action(verb, 1, actor, **more))

    def mute(self, *names: str) -> None:
        self.do(Mutes(frozenset(names)))

    def advance(self, to_ms: int) -> None:
        while due := [one for one in self.timers.values() if one.due_at_ms <= to_ms]:
            timer = min(due, key=lambda one: one.due_at_ms)
            self.now = max(self.now, timer.due_at_ms)
            del self.timers[timer.kind]
            self.do(TimerDue(timer))
        self.now = to_ms

    def at(self, reason: Reason) -> list[tuple[int, str]]:
        return [(at // MINUTE, who) for at, why, who in self.told if why is reason]


def bench(severity: str = "P0", **changes: Any) -> Bench:
    return Bench(config(**changes), alert("Slow", severity, target="a"))


def test_nobody_answers_a_p0() -> None:
    one = bench()
    one.advance(6 * HOUR)
    assert one.at(Reason.OPENED) == [(0, "li"), (0, "chat")]
    assert one.at(Reason.ESCALATED) == [
        (15, "wang"), (30, "mail"), (30, "chat"), (60, "wang"), (75, "mail"), (75, "chat"),
    ]  # fmt: skip
    assert one.at(Reason.REPEAT) == [(45, "li"), (45, "chat")]
    assert one.at(Reason.SLO_BREACH) == [(5, "li"), (5, "chat")]
    assert one.at(Reason.FINAL) == [(at, "mail") for at in (105, 120, 135, 150)]


def test_an_answer_stops_it_and_its_end_starts_it_again() -> None:
    one = bench()
    one.advance(15 * MINUTE - 1)
    one.act(Verb.ACK)
    one.advance(44 * MINUTE)
    assert not one.at(Reason.ESCALATED)
    assert one.at(Reason.ACK_REMIND) == [(24, "li"), (34, "li")]  # the owner alone
    one.advance(45 * MINUTE)
    assert one.at(Reason.ACK_EXPIRED) == [(44, "li"), (44, "chat")]
    assert one.incident.owner == "" and one.incident.state is State.TRIGGERED


@pytest.mark.parametrize(
    ("on_timeout", "expected"), [("restart", "li"), ("resume", "wang"), ("next", "mail")]
)
def test_where_an_expired_ack_goes_on(on_timeout: Any, expected: str) -> None:
    policy = replace(P0, ack=Ack(10 * MINUTE, None, on_timeout))
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
    _, effects = step(one.incident, Action(Verb.ACK, 1, "li"), 0, one.config)
    assert WithdrawPages() in effects


def test_resolved_goes_to_those_who_were_paged() -> None:
    one = bench("P1")
    one.advance(59 * MINUTE)
    one.do(clears(one.first))
    assert one.at(Reason.RESOLVED) == [(59, "chat"), (59, "mail")]
    one.advance(3 * HOUR)
    assert not one.at(Reason.ESCALATED) and one.incident.state is State.CLOSED


def test_resolved_before_anybody_was_paged_tells_nobody() -> None:
    one = bench("P1")
    one.do(clears(one.first))
    assert not one.told and one.incident.state is State.RESOLVED


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


def test_manual_escalation_from_acked() -> None:
    one = bench()
    one.advance(MINUTE)
    one.act(Verb.ACK)
    one.act(Verb.ESCALATE)
    assert one.incident.state is State.TRIGGERED
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
    assert (one.incident.state, one.incident.source) == (State.RESOLVED, Source.FIRING)
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
    assert (one.incident.state, one.incident.source) == (State.RESOLVED, Source.FIRING)
    one.do(fires(alert(gpu="1", target="a:8000")))
    assert one.incident.state == State.TRIGGERED


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
    assert one.incident.state is State.ACKED
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
    assert one.incident.state is State.RESOLVED


def test_unknown_is_not_resolved() -> None:
    one = bench("P1")
    one.do(unknown(one.first))
    assert (one.incident.is_open, one.incident.source) == (True, Source.UNKNOWN)
    one.advance(6 * MINUTE)
    assert one.at(Reason.UNKNOWN) == [(5, "chat"), (5, "mail")]
    one.advance(90 * MINUTE)
    assert one.at(Reason.ESCALATED) == [(60, "wang")]
    one.do(fires(one.first))
    assert one.incident.source == Source.FIRING
    one.advance(25 * HOUR)
    assert one.incident.is_open


def test_unknown_for_too_long_is_given_up_with_a_notice() -> None:
    one = bench("P1")
    one.do(unknown(one.first))
    one.advance(25 * HOUR)
    assert "given up" in next(r.data["why"] for r in one.history if r.event == "resolved")
    assert {who for _, who in one.at(Reason.GIVEN_UP)} == {"chat", "mail", "wang"}
    assert not one.at(Reason.RESOLVED)


def test_a_rule_that_is_gone_resolves() -> None:
    one = bench()
    one.do(removed(one.first))
    assert one.incident.state is State.RESOLVED and one.incident.resolution == "rule removed"


def test_closed_hears_nothing() -> None:
    one = bench()
    one.do(clears(one.first))
    one.advance(HOUR)
    assert one.incident.state is State.CLOSED
    before = one.incident
    one.do(fires(one.first))
    assert one.incident == before and one.history[-1] == Record("ignored_late")
    with pytest.raises(Conflict, match="CLOSED"):
        one.act(Verb.ACK)


def test_a_step_that_reached_nobody_is_followed_soon_and_not_at_once() -> None:
    one = bench()
    one.do(StepFailed(one.incident.generation, 0, 0))
    one.advance(29 * SECOND)
    assert not one.at(Reason.UNREACHABLE)
    one.advance(30 * SECOND)
    assert one.at(Reason.UNREACHABLE) == [(0, "wang")]
    one.do(StepFailed(one.incident.generation, 0, 0))  # late news of a step that is over
    assert one.timers[TimerKind.STEP].due_at_ms == 30 * SECOND + 15 * MINUTE


def test_with_every_channel_down_steps_take_their_time() -> None:
    one = bench()
    for tick in range(40):
        here = one.incident
        one.do(StepFailed(here.generation, here.step, here.loop))
        one.advance((tick + 1) * 30 * SECOND)
    steps = [record for record in one.history if record.event == "step"]
    assert len(steps) == 6 and one.incident.exhausted  # three steps, twice


def test_a_step_for_nobody_is_passed_over() -> None:
    empty = Policy("P0", (Step((), HOUR), Step(to("mail"))))
    one = bench(policies={"P0": empty})
    one.advance(30 * SECOND)
    assert one.at(Reason.UNREACHABLE) == [(0, "mail")]


def test_a_stale_timer_changes_nothing() -> None:
    one = bench()
    stale = one.timers[TimerKind.STEP]
    one.act(Verb.ACK)
    assert step(one.incident, TimerDue(stale), HOUR, one.config) == (one.incident, ())


def test_steps_missed_while_down_are_one_page_to_all_of_them() -> None:
    one = bench()
    due = one.timers.pop(TimerKind.STEP)
    one.now = 40 * MINUTE
    one.do(TimerDue(due))
    assert one.at(Reason.ESCALATED) == [(40, "wang"), (40, "mail"), (40, "chat")]
    assert one.incident.step == 2
    assert one.timers[TimerKind.STEP].due_at_ms == 55 * MINUTE


def test_a_week_down_runs_each_step_once() -> None:
    one = bench()
    due = one.timers.pop(TimerKind.STEP)
    one.now = 7 * 24 * HOUR
    one.do(TimerDue(due))
    told = [who for at, _, who in one.told if at]
    assert sorted(told) == ["chat", "li", "mail", "wang"]  # each addressee once
    assert (one.incident.loop, one.incident.step) == (1, 0)


def test_a_policy_edit_does_not_touch_what_runs() -> None:
    one = bench()
    one.config = config(policies={"P0": P1})
    one.advance(15 * MINUTE)
    assert one.at(Reason.ESCALATED) == [(15, "wang")] and one.incident.policy == P0


# beside the oracle


def _oracle() -> dict[str, Any]:
    if not ORACLE.exists():
        pytest.skip("the reference's oracle is not beside this checkout")
    return runpy.run_path(str(ORACLE))


ORACLE_P0 = Policy(
    name="P0",
    steps=(
        Step(to("oncall:oncall", "wecom:wecom"), 15 * MINUTE),
        Step(to("a:a"), 15 * MINUTE),
        Step(to("b:b"), 15 * MINUTE),
    ),
    repeat=1,
    final=Final(to("everyone:everyone"), 15 * MINUTE, HOUR),
    ack=Ack(30 * MINUTE),
    recover_within_ms=5 * MINUTE,
)
ORACLE_P1 = Policy(
    name="P1",
    steps=(Step(to("a:a", "b:b"), HOUR), Step(to("c:c"))),
    group_wait_ms=15 * SECOND,
    ack=Ack(2 * HOUR),
    recover_within_ms=15 * MINUTE,
)
MOVES = st.sampled_from(
    ["ack a", "ack b", "unack", "next", "first", "snooze 60", "snooze 3600", "mute s", "unmute s",
     "mute m", "unmute m", "clear", "fire"]
)  # fmt: skip
WAITS = st.sampled_from([0, 1, 30, 300, 900, 1860, 3600, 10800])
REASONS = {"unack": Reason.UNACKED.value}


class Pair:
    """The oracle and ours, moved together."""

    def __init__(self, oracle: dict[str, Any], policy: Policy) -> None:
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

    def move(self, move: str) -> None:
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
            assert refused, move
        else:
            assert not refused, move

    def owner_told(self, why: Reason, who: str) -> bool:
        """The reference tells the owner of an expired ack first; its oracle leaves that out."""
        first = {target.contact for target in self.ours.incident.policy.steps[0].notify}
        return why is Reason.ACK_EXPIRED and who not in first

    def agree(self) -> None:
        theirs = sorted(
            (at * SECOND, REASONS.get(why, why), who) for at, who, why, _ in self.world.pages
        )
        mine = sorted(
            (at, why.value, who)
            for at, why, who in self.ours.told
            if why not in (Reason.RESOLVED, Reason.ACKED) and not self.owner_told(why, who)
        )
        assert mine == theirs
        model, one = self.world.inc, self.ours.incident
        assert (one.state.value, max(one.step, -1)) == (model.state, model.step)


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
        pair.agree()
        pair.move(move)
        pair.agree()


def test_what_comes_back_milder_follows_the_policy_of_its_severity_now() -> None:
    one = bench("P0")
    one.do(clears(one.first))
    one.do(fires(alert("Slow", "P1", target="a")))
    assert (one.incident.severity, one.incident.policy.name) == (Severity.P1, "P1")
    assert one.at(Reason.REOPENED) == [(0, "chat"), (0, "mail")]
