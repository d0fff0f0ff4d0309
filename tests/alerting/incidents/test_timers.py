"""The stored due times: which of them are due, and in which order."""

from tocsin_alerting.incidents.incident import Timer, TimerKind
from tocsin_alerting.incidents.timers import TimerSchedule

KINDS = (TimerKind.STEP, TimerKind.SLO_BREACH, TimerKind.ACK_REMIND)


def schedule(*numbers: int) -> TimerSchedule:
    """Each with three timers that are due at once."""
    made = TimerSchedule()
    for number in numbers:
        made.replace(number, {kind: Timer(kind, 10, 1) for kind in KINDS})
    return made


def test_some_at_a_time_those_of_an_incident_stay_together() -> None:
    some = schedule(2, 1).due(10, most=1)
    assert [(number, timer.kind) for number, timer in some] == [(1, kind) for kind in KINDS]
    assert len(schedule(1, 2).due(10, most=4)) == 6 == len(schedule(1, 2).due(10))


def test_what_is_held_is_due_when_it_is_released() -> None:
    made = schedule(1, 2)
    made.hold([1])
    assert {number for number, _ in made.due(10)} == {2}
    assert made.release([1]) and not made.release([1])
    assert {number for number, _ in made.due(10)} == {1, 2}


def test_one_that_was_replaced_is_passed_over() -> None:
    made = schedule(1)
    made.replace(1, {TimerKind.STEP: Timer(TimerKind.STEP, 30, 1)})
    assert (made.due(29), made.next_due_ms()) == ([], 30)
    assert [timer.due_at_ms for _, timer in made.due(30)] == [30]
    made.forget(1)
    assert made.due(30) == [] and made.next_due_ms() is None
