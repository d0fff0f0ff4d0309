"""Stored due times of all incidents, and what happens when one is due: rules 2 to 7, 12, 13, 17, 20
and 23 to 26 of docs/incidents.md.

When one is due the state machine is asked; a stale generation does nothing.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from tocsin_alerting.incidents.actions import re_raise_after_ms, resolve
from tocsin_alerting.incidents.alert_changes import raise_again
from tocsin_alerting.incidents.damping import WAITS_FOR_HOLD, flap_end, hold_end, wait_for_hold
from tocsin_alerting.incidents.escalation import (
    MIN_FINAL_MS,
    addressees_now,
    muted_note,
    notify_current,
    own_addressees,
    owner_addressees,
    page,
    restart,
    run_step,
    set_timer,
    step_due,
)
from tocsin_alerting.incidents.incident import (
    OPEN,
    Change,
    Condition,
    Effects,
    Incident,
    IncidentState,
    Reason,
    Record,
    Timer,
    TimerKind,
    TimersByKind,
)
from tocsin_alerting.incidents.joining import new_alerts_due
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.time_format import elapsed_text


class TimerSchedule:
    """A timer that was replaced stays in the heap until its time, and is passed over then.

    Timers of incidents that are held are not due before they are released.
    """

    def __init__(self) -> None:
        self._by_incident: dict[int, TimersByKind] = {}
        self._held: set[int] = set()
        self._heap: list[tuple[int, int, TimerKind]] = []

    def of_incident(self, number: int) -> Mapping[TimerKind, Timer]:
        return self._by_incident.get(number, {})

    def replace(self, number: int, timers: TimersByKind) -> None:
        before = self._by_incident.get(number, {})
        self._by_incident[number] = timers
        if number not in self._held:
            self._push(
                number, (timer for kind, timer in timers.items() if timer != before.get(kind))
            )

    def forget(self, number: int) -> None:
        self._by_incident.pop(number, None)
        self._held.discard(number)

    @property
    def held(self) -> frozenset[int]:
        return frozenset(self._held)

    def is_held(self, number: int) -> bool:
        return number in self._held

    def hold(self, numbers: Iterable[int]) -> None:
        self._held.update(numbers)

    def release(self, numbers: Iterable[int]) -> bool:
        """Whether any of them was held."""
        released = self._held & set(numbers)
        self._held -= released
        for number in released:
            self._push(number, self._by_incident.get(number, {}).values())
        return bool(released)

    def due(self, now_ms: int, most: int | None = None) -> list[tuple[int, Timer]]:
        """The timers due by `now_ms`, the oldest first. They stay until they are replaced. About
        `most` of them: those of one incident that are due at once stay together."""
        due_timers: dict[tuple[int, TimerKind], Timer] = {}
        last: tuple[int, int] | None = None
        while self._heap and self._heap[0][0] <= now_ms:
            if most is not None and len(due_timers) >= most and self._heap[0][:2] != last:
                break
            entry = heapq.heappop(self._heap)
            last = entry[:2]
            if (timer := self._live_timer(entry)) is not None:
                due_timers[entry[1], timer.kind] = timer
        for (number, _), timer in due_timers.items():
            self._push(number, [timer])
        pairs = [(number, timer) for (number, _), timer in due_timers.items()]
        return sorted(pairs, key=lambda pair: (pair[1].due_at_ms, pair[0], self._rank(*pair)))

    def next_due_ms(self) -> int | None:
        while self._heap and self._live_timer(self._heap[0]) is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _push(self, number: int, timers: Iterable[Timer]) -> None:
        for timer in timers:
            heapq.heappush(self._heap, (timer.due_at_ms, number, timer.kind))

    def _live_timer(self, entry: tuple[int, int, TimerKind]) -> Timer | None:
        due_at_ms, number, kind = entry
        timer = self._by_incident.get(number, {}).get(kind)
        held = number in self._held
        return timer if timer is not None and timer.due_at_ms == due_at_ms and not held else None

    def _rank(self, number: int, timer: Timer) -> int:
        """Of timers due at once, those of one incident run in the order in which they were set."""
        return list(self._by_incident[number]).index(timer.kind)


@dataclass(frozen=True, slots=True)
class TimerDue:
    timer: Timer


def timer_due(incident: Incident, due: TimerDue, now_ms: int, config: IncidentConfig) -> Change:
    """A timer of an older generation, or one that the state has no use for, changes nothing."""
    states, run = TIMER_RULES[due.timer.kind]
    if incident.state not in states or not due.timer.is_live(incident.generation):
        return incident, ()
    if incident.in_hold and due.timer.kind in WAITS_FOR_HOLD:
        return wait_for_hold(incident, due.timer, now_ms)
    return run(incident, due.timer, now_ms, config)


def _group_wait(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Rules 2 and 3, and the end of the wait after an inhibition."""
    if incident.step < 0:
        again = incident.is_storm and incident.told_joined  # rule 34: a storm that pages again
        reason = Reason.STORM_GREW if again else Reason.OPENED
        return run_step(incident, 0, reason, now_ms, config)
    note = muted_note(incident, now_ms)
    return run_step(incident, incident.step, Reason.UNMUTED, now_ms, config, note=note)


def _step(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    return step_due(incident, due.due_at_ms, now_ms, config)


def _hours(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """The hours of its people or of its policy have begun."""
    reason = Reason.ESCALATED if incident.step else Reason.REPEAT
    awaited = replace(incident, exhausted_at_ms=None)
    return run_step(
        awaited, incident.step, reason if incident.paged else Reason.OPENED, now_ms, config
    )


def _final(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    final = incident.policy.final
    if final is None or incident.exhausted_at_ms is None or incident.muted:
        return incident, ()
    if now_ms - incident.exhausted_at_ms > final.for_ms:
        return incident, (Record("final_over"),)
    targets = addressees_now(incident, final.notify, now_ms, config)
    paged, effects = page(incident, targets, Reason.FINAL)
    again_ms = now_ms + max(final.every_ms, MIN_FINAL_MS)
    return paged, (*effects, Record("final"), set_timer(paged, TimerKind.FINAL, again_ms))


def _ack_remind(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 12: the owner alone, again and again."""
    remind_ms = incident.policy.ack.remind_ms
    if remind_ms is None:
        return incident, ()
    paged, effects = page(incident, owner_addressees(incident, now_ms, config), Reason.ACK_REMIND)
    return paged, (*effects, set_timer(paged, TimerKind.ACK_REMIND, now_ms + remind_ms))


def _ack_timeout(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 13: acknowledged and forgotten is not answered; the owner hears of it first."""
    on_timeout = incident.policy.ack.on_timeout
    last = len(incident.policy.steps) - 1
    step = {
        "restart": 0,
        "resume": max(incident.step, 0),
        "next": min(incident.step + 1, last),
    }[on_timeout]
    owner = incident.owner
    again, effects = restart(
        incident,
        Reason.ACK_EXPIRED,
        now_ms,
        config,
        step=step,
        keep_loop=on_timeout != "restart",
        also=own_addressees(incident, config),
        note=f"ack by {owner} expired",
    )
    return again, (Record("ack_expired", owner), *effects)


def _snooze_end(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    again, effects = restart(incident, Reason.SNOOZE_END, now_ms, config)
    return again, (Record("snooze_ended"), *effects)


def _reopen_end(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 23, unless it was resolved by hand and fires still."""
    if any(member.source is Condition.FIRING for member in incident.members.values()):
        return raise_again(incident, now_ms, config)
    return replace(incident, state=IncidentState.CLOSED), (Record("closed"),)


def _re_raise(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Closed by hand, and it fires still. While nobody can tell it waits for the source."""
    if incident.source is Condition.FIRING:
        return raise_again(incident, now_ms, config)
    after_ms = re_raise_after_ms(incident)
    return incident, (set_timer(incident, TimerKind.RE_RAISE, now_ms + after_ms),)


def _slo_warn(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    return incident, (Record("slo_warn"),) if incident.source is Condition.FIRING else ()


def _slo_breach(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 24: the recover target and the escalation are different clocks."""
    if incident.source is not Condition.FIRING or incident.slo_breached:
        return incident, ()
    breached = replace(incident, slo_breached=True)
    notices: Effects = ()
    if config.slo_pages:
        breached, notices = notify_current(breached, Reason.SLO_BREACH, now_ms, config)
    return breached, (Record("slo_breach"), *notices)


def _source_unknown(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    """Rule 25: say that nobody can tell."""
    since_ms = incident.unknown_since_ms
    if incident.source is not Condition.UNKNOWN or since_ms is None:
        return incident, ()
    note = f"state unknown for {elapsed_text(now_ms - since_ms)}"
    paged, effects = notify_current(incident, Reason.UNKNOWN, now_ms, config, note)
    return paged, (Record("unknown_noticed"), *effects)


def _unknown_max(incident: Incident, due: Timer, now_ms: int, config: IncidentConfig) -> Change:
    if incident.source is not Condition.UNKNOWN or incident.unknown_since_ms is None:
        return incident, ()
    lasting = elapsed_text(now_ms - incident.unknown_since_ms)
    why = f"state unknown for {lasting}, given up"
    return resolve(incident, now_ms, config, why, Reason.GIVEN_UP)


TimerRule = Callable[[Incident, Timer, int, IncidentConfig], Change]
TRIGGERED, ACKED = frozenset({IncidentState.TRIGGERED}), frozenset({IncidentState.ACKED})
TIMER_RULES: Mapping[TimerKind, tuple[frozenset[IncidentState], TimerRule]] = {
    TimerKind.GROUP_WAIT: (TRIGGERED, _group_wait),
    TimerKind.STEP: (TRIGGERED, _step),
    TimerKind.FINAL: (TRIGGERED, _final),
    TimerKind.HOURS: (TRIGGERED, _hours),
    TimerKind.ACK_REMIND: (ACKED, _ack_remind),
    TimerKind.ACK_TIMEOUT: (ACKED, _ack_timeout),
    TimerKind.SNOOZE_END: (frozenset({IncidentState.SNOOZED}), _snooze_end),
    TimerKind.REOPEN_END: (frozenset({IncidentState.RESOLVED}), _reopen_end),
    TimerKind.RE_RAISE: (frozenset({IncidentState.RESOLVED}), _re_raise),
    TimerKind.SLO_WARN: (OPEN, _slo_warn),
    TimerKind.SLO_BREACH: (OPEN, _slo_breach),
    TimerKind.SOURCE_UNKNOWN: (OPEN, _source_unknown),
    TimerKind.UNKNOWN_MAX: (OPEN, _unknown_max),
    TimerKind.HOLD_END: (OPEN, hold_end),
    TimerKind.FLAP_END: (OPEN, flap_end),
    TimerKind.NEW_ALERTS: (OPEN, new_alerts_due),
}
