"""Brings alert events to the incidents they belong to, in an order that pages nobody in vain."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from tocsin_alerting.incidents.alert_changes import AlertsChanged, alert_severity, open_incident
from tocsin_alerting.incidents.effects import Record
from tocsin_alerting.incidents.grouping import alert_group
from tocsin_alerting.incidents.incident import Condition, Incident, IncidentState, Member
from tocsin_alerting.incidents.inhibition import Inhibitor, matches_source
from tocsin_alerting.incidents.journal.protocol import JournalState
from tocsin_alerting.incidents.muting import INHIBITED, Mutes
from tocsin_alerting.incidents.succession import Succession
from tocsin_alerting.incidents.transitions import transition
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.rules.alert import RULES, UNCLEARED, AlertEvent, EventKind
from tocsin_alerting.rules.instance_journal import InstanceRow

SLICE_ALERTS = 200  # alerts heard before the loop may do something else
CLEARED_REASON = "clear after the restart"
Recall = Callable[[Sequence[AlertEvent], Sequence[InstanceRow]], Sequence[AlertEvent]]
"""Tells the rules what was said of alerts before, with their rows; gives what is of none."""


def no_rules(events: Sequence[AlertEvent], _rows: Sequence[InstanceRow]) -> Sequence[AlertEvent]:
    """There are no rules to tell."""
    return events


class Correlator:
    def __init__(self, working: WorkingSet) -> None:
        self._working = working
        self._inhibitor = Inhibitor()

    def apply(self, events: Sequence[AlertEvent], now_ms: int) -> Iterator[None]:
        """Sources of inhibition first, then the worst, and what clears last; yields now and then.

        At each yield the incidents agree with what was heard so far, and may be written and told.
        So one evaluation pages once for all tiers of a symptom, and not for what its cause mutes.
        """
        for wave in _waves(events):
            sources, others = self._sources_first(wave)
            for part in self._slices(sources):
                self._apply_slice(part, now_ms)
                self.update_mutes(now_ms)
                yield
            for part in self._slices(others):
                self._apply_slice(part, now_ms)
                yield

    def _slices(self, events: Sequence[AlertEvent]) -> Iterator[list[AlertEvent]]:
        """In order, SLICE at a time, except that events of one incident stay together."""
        places: dict[str, list[AlertEvent]] = {}
        for event in events:
            kind = "fires" if event.kind is EventKind.FIRING else "ends"
            places.setdefault(f"{kind} {self._incident_of(event)[1]}", []).append(event)
        part: list[AlertEvent] = []
        for together in places.values():
            part += together
            if len(part) >= SLICE_ALERTS:
                yield part
                part = []
        if part:
            yield part

    def _sources_first(
        self, events: Sequence[AlertEvent]
    ) -> tuple[list[AlertEvent], list[AlertEvent]]:
        rules, config = self._working.config.inhibit, self._working.config
        firing = [event for event in events if event.kind is EventKind.FIRING]
        firing.sort(key=lambda event: alert_severity(event.alert, config) or "")
        sources: list[AlertEvent] = []
        others: list[AlertEvent] = []
        for event in firing:
            quiets = matches_source(rules, dict(event.alert.labels))
            (sources if quiets else others).append(event)
        return sources, others + [event for event in events if event.kind is not EventKind.FIRING]

    def _apply_slice(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        """One step for all that fires in an incident, and one for all that ends in it."""
        by_key: dict[str, list[AlertEvent]] = {}
        by_number: dict[tuple[int, bool], list[AlertEvent]] = {}
        for event in events:
            if alert_severity(event.alert, self._working.config) is None:
                continue
            fires = event.kind is EventKind.FIRING
            number, key = self._incident_of(event)
            if number is not None:
                by_number.setdefault((number, fires), []).append(event)
            elif fires:
                by_key.setdefault(key, []).append(event)
        reopening = {
            number: several
            for (number, fires), several in by_number.items()
            if fires and self._working.incidents[number].state is IncidentState.RESOLVED
        }
        if reopening:
            self._mute_before_reopening(reopening, now_ms)
        for several in by_key.values():
            self._open(several, now_ms)
        for (number, _), several in by_number.items():
            self._transition(number, several, now_ms)

    def _incident_of(self, event: AlertEvent) -> tuple[int | None, str]:
        """The number of the incident that the alert belongs to, else the key of a new one."""
        holder = self._working.incident_of(event.alert.fingerprint)
        if holder is not None:
            return holder.number, holder.key
        key = alert_group(self._working.config, dict(event.alert.labels)).key
        incident = self._working.by_group_key(key)
        return (incident.number if incident else None), key

    def _open(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        working, (worst, *others) = self._working, events
        group = alert_group(working.config, dict(worst.alert.labels))
        number = working.numbers.give(now_ms)
        working.apply(open_incident(number, group, worst, now_ms, working.config), now_ms)
        if others:
            self._transition(number, others, now_ms)

    def _transition(self, number: int, events: Sequence[AlertEvent], now_ms: int) -> None:
        working = self._working
        incident, changed = working.incidents[number], AlertsChanged(tuple(events))
        working.apply(transition(incident, changed, now_ms, working.config), now_ms)

    def update_mutes(self, now_ms: int) -> None:
        """Derive from what fires now who is kept quiet."""
        working = self._working
        if working.all_mutes_dirty:
            self._inhibitor.invalidate()
        elif not working.mutes_dirty:
            return
        stirred, working.mutes_dirty, working.all_mutes_dirty = working.mutes_dirty, set(), False
        mutes = self._mutes_of([working.incidents[number] for number in sorted(stirred)])
        for number, names in mutes.items():
            self._set_mutes(working.incidents[number], names, now_ms)

    def _set_mutes(self, incident: Incident, inhibited: frozenset[str], now_ms: int) -> None:
        others = {name for name in incident.muted_by if not name.startswith(INHIBITED)}
        names = inhibited | others
        if names != incident.muted_by:
            change = transition(incident, Mutes(names), now_ms, self._working.config)
            self._working.apply(change, now_ms)

    def _mute_before_reopening(
        self, reopening: Mapping[int, Sequence[AlertEvent]], now_ms: int
    ) -> None:
        """Reopening pages at once, so what keeps it quiet must be known before."""
        again: dict[int, Incident] = {}
        for number, events in reopening.items():
            new = {
                event.alert.fingerprint: Member(event.alert, Condition.FIRING, now_ms)
                for event in events
            }
            before = self._working.incidents[number]
            members = {**before.members, **new}
            again[number] = replace(before, state=IncidentState.TRIGGERED, members=members)
        mutes = self._mutes_of(again.values(), {**self._working.incidents, **again})
        for number in again:
            self._set_mutes(self._working.incidents[number], mutes[number], now_ms)

    def _mutes_of(
        self, changed: Iterable[Incident], incidents: Mapping[int, Incident] | None = None
    ) -> dict[int, frozenset[str]]:
        known = self._working.incidents if incidents is None else incidents
        return self._inhibitor.mutes_of(self._working.config, changed, known.values())

    def reconcile(
        self, standing: Sequence[AlertEvent], origins: Iterable[str], now_ms: int, kind: EventKind
    ) -> Iterator[None]:
        """Make the incidents agree with all that `origins` say now; others are left alone."""
        events = [event for event in standing if not self._is_known(event)]
        standing_keys = {(event.origin, event.alert.fingerprint) for event in standing}
        for origin in origins:
            for member in self._working.members_of_origin(origin):
                if (origin, member.alert.fingerprint) not in standing_keys:
                    events.append(_end_event(member, origin, now_ms, kind))
        yield from self.apply(events, now_ms)

    def _is_known(self, event: AlertEvent) -> bool:
        holder = self._working.incident_of(event.alert.fingerprint)
        if event.kind in UNCLEARED:
            return holder is None or not _has_origin(holder, event)
        condition = Condition.UNKNOWN if event.kind is EventKind.UNKNOWN else Condition.FIRING
        if holder is None:
            return condition is Condition.UNKNOWN
        return holder.members[event.alert.fingerprint].origins.get(event.origin) is condition

    def merge_journal(
        self, saved: JournalState, reconciled: AbstractSet[str], recall: Recall, now_ms: int
    ) -> None:
        """Incidents that turned up late: one whose key or alert is in one that was opened anew
        meanwhile is closed here, and its alerts join the new one; so does what a person answered,
        unless somebody has answered to the new one.

        What was said of the alerts is recalled to the rules, whether they have run since
        or not. Of a rule that is gone, they are no longer watched; what somebody else among the
        `reconciled` said has cleared.
        """
        working = self._working
        numbers = [
            incident.number for incident in saved.incidents if incident.number in working.incidents
        ]
        events_by_incident = {
            number: self._active_events(working.incidents[number], now_ms) for number in numbers
        }
        unclaimed = recall(
            [event for several in events_by_incident.values() for event in several], saved.instances
        )
        for (
            number,
            events,
        ) in events_by_incident.items():  # after the recall: what fails is tried again, whole
            if working.is_superseded(number):
                former = working.incidents[number]
                left = Succession(former, dict(working.schedule.of_incident(number)))
                self._supersede(former, events, now_ms)
                self._hand_on(left, now_ms)
        ended: list[AlertEvent] = []
        for event in unclaimed:
            holder = working.incident_of(event.alert.fingerprint)
            is_rule = event.origin.startswith(RULES)
            if holder is not None and (is_rule or event.origin in reconciled):
                member = holder.members[event.alert.fingerprint]
                kind = EventKind.REMOVED if is_rule else EventKind.CLEAR
                ended.append(_end_event(member, event.origin, now_ms, kind))
        self._apply_at_once(ended, now_ms)

    def _active_events(self, incident: Incident, now_ms: int) -> list[AlertEvent]:
        """What was said of its alerts, but for those that have fired anew in another incident."""
        working = self._working
        return [
            event
            for event in working.active_events(now_ms, incident)
            if working.incident_of(event.alert.fingerprint) in (None, incident)
        ]

    def _supersede(self, incident: Incident, events: Sequence[AlertEvent], now_ms: int) -> None:
        """Close it; those of its alerts that have yet to fire anew join another one."""
        closed = replace(incident, state=IncidentState.CLOSED)
        data = {
            "successor": min(
                (successor.number for successor in self._successors(incident)), default=None
            )
        }
        self._working.apply((closed, (Record("superseded", data=data),)), now_ms)
        joins = [replace(event, kind=EventKind.FIRING) for event in events]
        doubted = [event for event in events if event.kind is EventKind.UNKNOWN]
        self._apply_at_once([*joins, *doubted], now_ms)

    def _hand_on(self, left: Succession, now_ms: int) -> None:
        working = self._working
        for incident in self._successors(left.former):
            if incident.number not in working.answered:
                working.apply(transition(incident, left, now_ms, working.config), now_ms)

    def _successors(self, former: Incident) -> list[Incident]:
        """The incidents that now have its key, or one of its alerts."""
        working = self._working
        holders = [working.incident_of(member.alert.fingerprint) for member in former.active]
        holders.append(working.by_group_key(former.key))
        return list(
            {
                successor.number: successor
                for successor in holders
                if successor and successor is not former
            }.values()
        )

    def _apply_at_once(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        """In one turn, whatever their number: nothing that comes meanwhile may be overwritten."""
        for _ in self.apply(events, now_ms):
            pass


def _has_origin(holder: Incident, event: AlertEvent) -> bool:
    """Whether the alert stands by the word of the event's origin."""
    origins = holder.members[event.alert.fingerprint].origins
    return not origins or event.origin in origins


def _waves(events: Sequence[AlertEvent]) -> list[list[AlertEvent]]:
    """What an alert does first, for all alerts, then what they do next: its order is kept."""
    waves: list[list[AlertEvent]] = []
    count: Counter[str] = Counter()
    for event in events:
        name = event.alert.fingerprint
        if count[name] == len(waves):
            waves.append([])
        waves[count[name]].append(event)
        count[name] += 1
    return waves


def _end_event(
    member: Member, origin: str, now_ms: int, kind: EventKind = EventKind.CLEAR
) -> AlertEvent:
    why = CLEARED_REASON if kind is EventKind.CLEAR else ""
    return AlertEvent(kind, member.alert, now_ms, why, origin)
