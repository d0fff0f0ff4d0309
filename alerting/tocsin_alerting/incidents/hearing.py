"""Brings alert events to the incidents they belong to, in an order that pages nobody in vain."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from tocsin_alerting.incidents.effects import Record
from tocsin_alerting.incidents.grouping import group_of
from tocsin_alerting.incidents.incident import Incident, Member, Source, State
from tocsin_alerting.incidents.inhibition import Inhibitor, is_source
from tocsin_alerting.incidents.journal import Saved
from tocsin_alerting.incidents.ledger import Ledger
from tocsin_alerting.incidents.membership import AlertsChanged, alert_severity, open_incident
from tocsin_alerting.incidents.muting import INHIBITED, Mutes
from tocsin_alerting.incidents.succession import Succession
from tocsin_alerting.incidents.transitions import step
from tocsin_alerting.rules.alert import RULES, UNCLEARED, AlertEvent, EventKind
from tocsin_alerting.rules.journal import InstanceRow

SLICE = 200  # alerts heard before the loop may do something else
CLEARED = "clear after the restart"
Recall = Callable[[Sequence[AlertEvent], Sequence[InstanceRow]], Sequence[AlertEvent]]
"""Tells the rules what was said of alerts before, with their rows; gives what is of none."""


def nobody(held: Sequence[AlertEvent], _rows: Sequence[InstanceRow]) -> Sequence[AlertEvent]:
    """There are no rules to tell."""
    return held


class Hearing:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._inhibitor = Inhibitor()

    def hear(self, events: Sequence[AlertEvent], now_ms: int) -> Iterator[None]:
        """Sources of inhibition first, then the worst, and what clears last; yields now and then.

        At each yield the incidents agree with what was heard so far, and may be written and told.
        So one evaluation pages once for all tiers of a symptom, and not for what its cause mutes.
        """
        for wave in _waves(events):
            sources, others = self._in_order(wave)
            for part in self._slices(sources):
                self._apply(part, now_ms)
                self.mute(now_ms)
                yield
            for part in self._slices(others):
                self._apply(part, now_ms)
                yield

    def _slices(self, events: Sequence[AlertEvent]) -> Iterator[list[AlertEvent]]:
        """In order, SLICE at a time, except that events of one incident stay together."""
        places: dict[str, list[AlertEvent]] = {}
        for event in events:
            kind = "fires" if event.kind is EventKind.FIRING else "ends"
            places.setdefault(f"{kind} {self._place(event)[1]}", []).append(event)
        part: list[AlertEvent] = []
        for together in places.values():
            part += together
            if len(part) >= SLICE:
                yield part
                part = []
        if part:
            yield part

    def _in_order(self, events: Sequence[AlertEvent]) -> tuple[list[AlertEvent], list[AlertEvent]]:
        rules, config = self._ledger.config.inhibit, self._ledger.config
        firing = [event for event in events if event.kind is EventKind.FIRING]
        firing.sort(key=lambda event: alert_severity(event.alert, config) or "")
        sources: list[AlertEvent] = []
        others: list[AlertEvent] = []
        for event in firing:
            quiets = is_source(rules, dict(event.alert.labels))
            (sources if quiets else others).append(event)
        return sources, others + [one for one in events if one.kind is not EventKind.FIRING]

    def _apply(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        """One step for all that fires in an incident, and one for all that ends in it."""
        by_key: dict[str, list[AlertEvent]] = {}
        by_number: dict[tuple[int, bool], list[AlertEvent]] = {}
        for event in events:
            if alert_severity(event.alert, self._ledger.config) is None:
                continue
            fires = event.kind is EventKind.FIRING
            number, key = self._place(event)
            if number is not None:
                by_number.setdefault((number, fires), []).append(event)
            elif fires:
                by_key.setdefault(key, []).append(event)
        reopening = {
            number: several
            for (number, fires), several in by_number.items()
            if fires and self._ledger.incidents[number].state is State.RESOLVED
        }
        if reopening:
            self._mute_before_reopening(reopening, now_ms)
        for several in by_key.values():
            self._open(several, now_ms)
        for (number, _), several in by_number.items():
            self._step(number, several, now_ms)

    def _place(self, event: AlertEvent) -> tuple[int | None, str]:
        """The number of the incident that the alert belongs to, else the key of a new one."""
        holder = self._ledger.holding(event.alert.fingerprint)
        if holder is not None:
            return holder.number, holder.key
        key = group_of(self._ledger.config, dict(event.alert.labels)).key
        incident = self._ledger.with_key(key)
        return (incident.number if incident else None), key

    def _open(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        ledger, (worst, *others) = self._ledger, events
        group = group_of(ledger.config, dict(worst.alert.labels))
        number = ledger.numbers.give(now_ms)
        ledger.apply(open_incident(number, group, worst, now_ms, ledger.config), now_ms)
        if others:
            self._step(number, others, now_ms)

    def _step(self, number: int, events: Sequence[AlertEvent], now_ms: int) -> None:
        ledger = self._ledger
        incident, changed = ledger.incidents[number], AlertsChanged(tuple(events))
        ledger.apply(step(incident, changed, now_ms, ledger.config), now_ms)

    def mute(self, now_ms: int) -> None:
        """Derive from what fires now who is kept quiet."""
        ledger = self._ledger
        if ledger.all_stirred:
            self._inhibitor.forget()
        elif not ledger.stirred:
            return
        stirred, ledger.stirred, ledger.all_stirred = ledger.stirred, set(), False
        found = self._muted([ledger.incidents[number] for number in sorted(stirred)])
        for number, names in found.items():
            self._set_mutes(ledger.incidents[number], names, now_ms)

    def _set_mutes(self, incident: Incident, inhibited: frozenset[str], now_ms: int) -> None:
        others = {name for name in incident.muted_by if not name.startswith(INHIBITED)}
        names = inhibited | others
        if names != incident.muted_by:
            change = step(incident, Mutes(names), now_ms, self._ledger.config)
            self._ledger.apply(change, now_ms)

    def _mute_before_reopening(
        self, reopening: Mapping[int, Sequence[AlertEvent]], now_ms: int
    ) -> None:
        """Reopening pages at once, so what keeps it quiet must be known before."""
        again: dict[int, Incident] = {}
        for number, events in reopening.items():
            new = {
                one.alert.fingerprint: Member(one.alert, Source.FIRING, now_ms) for one in events
            }
            before = self._ledger.incidents[number]
            members = {**before.members, **new}
            again[number] = replace(before, state=State.TRIGGERED, members=members)
        found = self._muted(again.values(), {**self._ledger.incidents, **again})
        for number in again:
            self._set_mutes(self._ledger.incidents[number], found[number], now_ms)

    def _muted(
        self, changed: Iterable[Incident], incidents: Mapping[int, Incident] | None = None
    ) -> dict[int, frozenset[str]]:
        every = self._ledger.incidents if incidents is None else incidents
        return self._inhibitor.muted(self._ledger.config, changed, every.values())

    def reconcile(
        self, standing: Sequence[AlertEvent], origins: Iterable[str], now_ms: int, kind: EventKind
    ) -> Iterator[None]:
        """Make the incidents agree with all that `origins` say now; others are left alone."""
        events = [event for event in standing if not self._known(event)]
        said = {(event.origin, event.alert.fingerprint) for event in standing}
        for origin in origins:
            for member in self._ledger.said_by(origin):
                if (origin, member.alert.fingerprint) not in said:
                    events.append(_ended(member, origin, now_ms, kind))
        yield from self.hear(events, now_ms)

    def _known(self, event: AlertEvent) -> bool:
        holder = self._ledger.holding(event.alert.fingerprint)
        if event.kind in UNCLEARED:
            return holder is None or not _says(holder, event)
        said = Source.UNKNOWN if event.kind is EventKind.UNKNOWN else Source.FIRING
        if holder is None:
            return said is Source.UNKNOWN
        return holder.members[event.alert.fingerprint].origins.get(event.origin) is said

    def adopt(
        self, saved: Saved, reconciled: AbstractSet[str], recall: Recall, now_ms: int
    ) -> None:
        """Incidents that turned up late: one whose key or alert is in one that was opened anew
        meanwhile is closed here, and its alerts join the new one; so does what a person answered,
        unless somebody has answered to the new one.

        What was said of the alerts is recalled to the rules, whether they have run since
        or not. Of a rule that is gone, they are no longer watched; what somebody else among the
        `reconciled` said has cleared.
        """
        ledger = self._ledger
        numbers = [one.number for one in saved.incidents if one.number in ledger.incidents]
        said = {number: self._said(ledger.incidents[number], now_ms) for number in numbers}
        unclaimed = recall(
            [event for several in said.values() for event in several], saved.instances
        )
        for number, events in said.items():  # after the recall: what fails is tried again, whole
            if ledger.is_superseded(number):
                former = ledger.incidents[number]
                left = Succession(former, dict(ledger.schedule.of(number)))
                self._supersede(former, events, now_ms)
                self._hand_on(left, now_ms)
        ended: list[AlertEvent] = []
        for event in unclaimed:
            holder = ledger.holding(event.alert.fingerprint)
            is_rule = event.origin.startswith(RULES)
            if holder is not None and (is_rule or event.origin in reconciled):
                member = holder.members[event.alert.fingerprint]
                kind = EventKind.REMOVED if is_rule else EventKind.CLEAR
                ended.append(_ended(member, event.origin, now_ms, kind))
        self._hear_whole(ended, now_ms)

    def _said(self, incident: Incident, now_ms: int) -> list[AlertEvent]:
        """What was said of its alerts, but for those that have fired anew in another incident."""
        ledger = self._ledger
        return [
            event
            for event in ledger.held(now_ms, incident)
            if ledger.holding(event.alert.fingerprint) in (None, incident)
        ]

    def _supersede(self, incident: Incident, said: Sequence[AlertEvent], now_ms: int) -> None:
        """Close it; those of its alerts that have yet to fire anew join another one."""
        closed = replace(incident, state=State.CLOSED)
        data = {"successor": min((one.number for one in self._successors(incident)), default=None)}
        self._ledger.apply((closed, (Record("superseded", data=data),)), now_ms)
        joins = [replace(event, kind=EventKind.FIRING) for event in said]
        doubted = [event for event in said if event.kind is EventKind.UNKNOWN]
        self._hear_whole([*joins, *doubted], now_ms)

    def _hand_on(self, left: Succession, now_ms: int) -> None:
        ledger = self._ledger
        for incident in self._successors(left.former):
            if incident.number not in ledger.answered:
                ledger.apply(step(incident, left, now_ms, ledger.config), now_ms)

    def _successors(self, former: Incident) -> list[Incident]:
        """The incidents that now have its key, or one of its alerts."""
        ledger = self._ledger
        found = [ledger.holding(one.alert.fingerprint) for one in former.active]
        found.append(ledger.with_key(former.key))
        return list({one.number: one for one in found if one and one is not former}.values())

    def _hear_whole(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        """In one turn, whatever their number: nothing that comes meanwhile may be overwritten."""
        for _ in self.hear(events, now_ms):
            pass


def _says(holder: Incident, event: AlertEvent) -> bool:
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


def _ended(
    member: Member, origin: str, now_ms: int, kind: EventKind = EventKind.CLEAR
) -> AlertEvent:
    why = CLEARED if kind is EventKind.CLEAR else ""
    return AlertEvent(kind, member.alert, now_ms, why, origin)
