"""One incident under the state machine alone: no dispatcher, no journal."""

from typing import Any

from support.alert_events import alert, fires
from support.policies import MINUTE, config
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.alert_changes import open_incident
from tocsin_alerting.incidents.grouping import alert_group
from tocsin_alerting.incidents.incident import (
    Change,
    Incident,
    IncidentState,
    Notify,
    Reason,
    Record,
    SetTimer,
    Timer,
    TimerKind,
)
from tocsin_alerting.incidents.muting import Mutes
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.incidents.timers import TimerDue
from tocsin_alerting.incidents.transitions import Event, transition
from tocsin_alerting.rules.alert import Alert


class Bench:
    """Drives `transition` alone: applies effects to a list of timers and a list of pages."""

    def __init__(self, settings: IncidentConfig, first: Alert) -> None:
        self.config, self.now, self.first = settings, 0, first
        self.timers: dict[TimerKind, Timer] = {}
        self.told: list[tuple[int, Reason, str]] = []
        self.keys: set[tuple[Any, ...]] = set()
        self.history: list[Record] = []
        group = alert_group(settings, dict(first.labels))
        self.incident: Incident
        self._take(open_incident(1, group, fires(first), 0, settings))
        self.advance(0)

    def _take(self, change: Change) -> None:
        before = getattr(self, "incident", None)
        self.incident, effects = change
        alive = {k: t for k, t in self.timers.items() if t.is_live(self.incident.generation)}
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
        if self.incident.state is IncidentState.CLOSED:
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
        live = {kind for kind, timer in self.timers.items() if timer.is_live(one.generation)}
        running = live & {TimerKind.STEP, TimerKind.GROUP_WAIT}
        if one.state is IncidentState.TRIGGERED and not one.muted and not one.exhausted:
            assert len(running) == 1, ("I2", live)
        if one.state is IncidentState.ACKED:
            assert (TimerKind.ACK_TIMEOUT in live) == (one.ack_timeout_ms is not None), "I3"
            assert not running
        if one.state is IncidentState.SNOOZED:
            assert TimerKind.SNOOZE_END in live
        if one.state is IncidentState.RESOLVED:
            ends = TimerKind.RE_RAISE if one.closed_by_hand else TimerKind.REOPEN_END
            assert ends in live and not running

    def do(self, event: Event) -> None:
        self._take(transition(self.incident, event, self.now, self.config))

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
