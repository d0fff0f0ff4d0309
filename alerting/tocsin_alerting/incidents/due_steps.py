"""All that is due in one step: mutes, and the timers of incidents and of subjects."""

from tocsin_alerting.incidents.correlation import Correlator
from tocsin_alerting.incidents.delivery_outcome import look_for_people
from tocsin_alerting.incidents.incident import Change, Incident, IncidentState, Timer, TimerKind
from tocsin_alerting.incidents.muting import Mutes
from tocsin_alerting.incidents.subject_timers import run_subject_timers
from tocsin_alerting.incidents.timers import TimerDue
from tocsin_alerting.incidents.transitions import transition
from tocsin_alerting.incidents.working_set import WorkingSet

MAX_ROUNDS = 100
MAX_TIMERS = 200  # run before the loop may do something else


class DueSteps:
    def __init__(self, working: WorkingSet, correlator: Correlator) -> None:
        self._working, self._correlator = working, correlator

    def run(self, now_ms: int) -> bool:
        """Mute and unmute, run what is due, until nothing is, or until that is enough for a step;
        whether it is not done."""
        ran = 0
        look_for_people(self._working, now_ms)
        for _ in range(MAX_ROUNDS):
            more = self._correlator.update_mutes(now_ms)
            due = self._working.schedule.due(now_ms, MAX_TIMERS)
            if not run_subject_timers(self._working, now_ms) and not due and not more:
                return False
            for number, timer in due:
                self._run_timer(number, timer.kind, timer, now_ms)
            ran += len(due)
            if more or ran >= MAX_TIMERS:
                return True
        return False

    def _run_timer(self, number: int, kind: TimerKind, timer: Timer, now_ms: int) -> None:
        if self._working.schedule.of_incident(number).get(kind) is not timer:
            return  # replaced by one that ran before it
        incident = self._working.incidents[number]
        change = transition(incident, TimerDue(timer), now_ms, self._working.config)
        if _fires_anew(incident, change[0]):
            if names := self._correlator.storms.admit(change[0], now_ms):
                change = self._told_by_storm(number, TimerDue(timer), names, now_ms)
        self._working.remove_timer(number, kind)  # after the step: one that fails keeps its timer
        self._working.apply(change, now_ms)

    def _told_by_storm(
        self, number: int, due: TimerDue, names: frozenset[str], now_ms: int
    ) -> Change:
        """The same, muted before: what many were quiet for is over for all of them at once."""
        working = self._working
        quiet = transition(working.incidents[number], Mutes(names), now_ms, working.config)
        working.apply(quiet, now_ms)
        return transition(working.incidents[number], due, now_ms, working.config)


def _fires_anew(before: Incident, after: Incident) -> bool:
    """Whether an acknowledgement, a snooze or a closing by hand is over, and it would page."""
    ended = before.state is not IncidentState.TRIGGERED
    return ended and after.state is IncidentState.TRIGGERED and not before.muted
