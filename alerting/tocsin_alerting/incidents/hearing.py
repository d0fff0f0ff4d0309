"""Brings alert events to the incidents they belong to, in an order that pages nobody in vain."""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from tocsin_alerting.incidents.effects import Record
from tocsin_alerting.incidents.grouping import group_of
from tocsin_alerting.incidents.incident import Incident, Member, Source, State
from tocsin_alerting.incidents.inhibition import inhibitions, is_source
from tocsin_alerting.incidents.ledger import Ledger
from tocsin_alerting.incidents.membership import alert_severity, open_incident
from tocsin_alerting.incidents.muting import INHIBITED, Mutes
from tocsin_alerting.incidents.transitions import step
from tocsin_alerting.rules.alert import Alert, AlertEvent, EventKind

CLEARED = "clear after the restart"


class Hearing:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def hear(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        """Sources of inhibition first, then the worst, and what clears last.

        So one evaluation pages once for all tiers of a symptom, and not for what its cause mutes.
        """
        for wave in _waves(events):
            sources, others = self._in_order(wave)
            for event in sources:
                self._one(event, now_ms)
            if sources:
                self.mute(now_ms)
            for event in others:
                self._one(event, now_ms)

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

    def _one(self, event: AlertEvent, now_ms: int) -> None:
        ledger = self._ledger
        if alert_severity(event.alert, ledger.config) is None:
            return
        group = group_of(ledger.config, dict(event.alert.labels))
        incident = ledger.holding(event.alert.fingerprint) or ledger.with_key(group.key)
        if incident is not None:
            if incident.state is State.RESOLVED and event.kind is EventKind.FIRING:
                self._mute_before_reopening(incident, event.alert, now_ms)
            incident = ledger.incidents[incident.number]
            ledger.apply(step(incident, event, now_ms, ledger.config), now_ms)
        elif event.kind is EventKind.FIRING:
            number = ledger.next_number()
            ledger.apply(open_incident(number, group, event, now_ms, ledger.config), now_ms)

    def mute(self, now_ms: int) -> None:
        """Derive from what fires now who is kept quiet."""
        ledger = self._ledger
        if not ledger.stirred:
            return
        ledger.stirred = False
        found = inhibitions(ledger.config.inhibit, ledger.incidents.values())
        for number, names in found.items():
            self._set_mutes(ledger.incidents[number], names, now_ms)

    def _set_mutes(self, incident: Incident, inhibited: frozenset[str], now_ms: int) -> None:
        others = {name for name in incident.muted_by if not name.startswith(INHIBITED)}
        names = inhibited | others
        if names != incident.muted_by:
            change = step(incident, Mutes(names), now_ms, self._ledger.config)
            self._ledger.apply(change, now_ms)

    def _mute_before_reopening(self, incident: Incident, alert: Alert, now_ms: int) -> None:
        """Reopening pages at once, so what keeps it quiet must be known before."""
        members = {**incident.members, alert.fingerprint: Member(alert, Source.FIRING, now_ms)}
        again = replace(incident, state=State.TRIGGERED, members=members)
        others = (one for one in self._ledger.incidents.values() if one is not incident)
        found = inhibitions(self._ledger.config.inhibit, (again, *others))
        self._set_mutes(incident, found[incident.number], now_ms)

    def reconcile(
        self, standing: Sequence[AlertEvent], origins: Iterable[str], now_ms: int, why: str
    ) -> None:
        """Make the incidents agree with all that `origins` say now; others are left alone."""
        events = [event for event in standing if not self._known(event)]
        said = {(event.origin, event.alert.fingerprint) for event in standing}
        for origin in origins:
            for member in self._ledger.said_by(origin):
                if (origin, member.alert.fingerprint) not in said:
                    events.append(_cleared(member, origin, now_ms, why))
        self.hear(events, now_ms)

    def _known(self, event: AlertEvent) -> bool:
        holder = self._ledger.holding(event.alert.fingerprint)
        said = Source.UNKNOWN if event.kind is EventKind.UNKNOWN else Source.FIRING
        if holder is None:
            return said is Source.UNKNOWN
        return holder.members[event.alert.fingerprint].origins.get(event.origin) is said

    def adopt(
        self, incidents: Iterable[Incident], reconciled: AbstractSet[str], now_ms: int
    ) -> None:
        """Incidents that turned up late: one that was opened anew meanwhile is closed here.

        What one of the `reconciled` said fires in it has cleared; others have yet to speak.
        """
        ledger = self._ledger
        for incident in incidents:
            if ledger.with_key(incident.key) is not ledger.incidents[incident.number]:
                closed = replace(incident, state=State.CLOSED)
                ledger.apply((closed, (Record("superseded"),)), now_ms)
                continue
            for member in incident.active:
                for origin in reconciled & member.origins.keys():
                    event = _cleared(member, origin, now_ms, CLEARED)
                    current = ledger.incidents[incident.number]
                    ledger.apply(step(current, event, now_ms, ledger.config), now_ms)


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


def _cleared(member: Member, origin: str, now_ms: int, why: str) -> AlertEvent:
    return AlertEvent(EventKind.CLEAR, member.alert, now_ms, why, origin)
