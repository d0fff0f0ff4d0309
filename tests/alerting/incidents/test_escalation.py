"""Steps: who is paged when nobody answers, when a step reaches nobody, after a time down."""

from support.policies import HOUR, MINUTE, P0, P1, SECOND, config, to
from support.state_machine import bench
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy, EscalationStep
from tocsin_alerting.incidents.incident import Reason, TimerKind
from tocsin_alerting.incidents.timers import TimerDue
from tocsin_alerting.incidents.transitions import StepFailed


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
    empty = EscalationPolicy("P0", (EscalationStep((), HOUR), EscalationStep(to("mail"))))
    one = bench(policies={"P0": empty})
    one.advance(30 * SECOND)
    assert one.at(Reason.UNREACHABLE) == [(0, "mail")]


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
