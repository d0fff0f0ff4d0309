"""Timers that belong to a subject, as `silence:ID` and `drill:NUMBER`, and what each does."""

from collections.abc import Callable, Mapping

from tocsin_alerting.incidents import drills, silence_end, storms
from tocsin_alerting.incidents.working_set import WorkingSet

SubjectTimerRule = Callable[[WorkingSet, str, int], None]
SUBJECT_TIMERS: Mapping[str, SubjectTimerRule] = {
    silence_end.SUBJECT: silence_end.announce_end,
    silence_end.OVER: silence_end.note_expiry,
    storms.SUBJECT: storms.tell_of_growth,
    drills.SUBJECT: drills.drill_time_is_up,
}
"""By what stands before the colon; it is called with the working set, the subject and the time."""


def run_subject_timers(working: WorkingSet, now_ms: int) -> bool:
    """Run those that are due; whether there were any. One that fails keeps its timer."""
    due = [name for name, at_ms in working.subject_timers.items() if at_ms <= now_ms]
    for name in due:
        at_ms = working.subject_timers[name]
        if (rule := SUBJECT_TIMERS.get(name.partition(":")[0])) is not None:
            rule(working, name, now_ms)
        if working.subject_timers.get(name) == at_ms:
            working.set_subject_timer(name, None)
    return bool(due)
