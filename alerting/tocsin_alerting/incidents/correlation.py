"""Brings alert events to the incidents they belong to, in an order that pages nobody in vain."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from tocsin_alerting.incidents.alert_changes import AlertsChanged, open_incident
from tocsin_alerting.incidents.broken_channels import group_of
from tocsin_alerting.incidents.incident import Condition, Incident, IncidentState, Member
from tocsin_alerting.incidents.inhibition import Inhibitor, matches_source
from tocsin_alerting.incidents.mute_rules import NOTHING
from tocsin_alerting.incidents.muting import INHIBITED, Mutes
from tocsin_alerting.incidents.routing import alert_severity
from tocsin_alerting.incidents.silence_end import end_resolved_silences
from tocsin_alerting.incidents.storms import Storms
from tocsin_alerting.incidents.transitions import transition
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.rules.alert import UNCLEARED, AlertEvent, EventKind
from tocsin_exporter.snapshot import Labels

_MOST_ROUNDS = 10
MAX_JUDGED = 500  # incidents in a step, when silences change; some tens of milliseconds
NOBODY = frozenset[int]()
_LOOKED_UP = 2_000  # alerts of which the incident is looked up at once
SLICE_ALERTS = 200  # alerts heard before the loop may do something else
CLEARED_REASON = "clear after the restart"


class Correlator:
    def __init__(self, working: WorkingSet) -> None:
        self._working = working
        self._inhibitor = Inhibitor()
        self.storms = Storms(working)
        self._keys: dict[tuple[Labels, str], str] = {}  # of new incidents, by labels and origin
        self._keyed = working.config  # they are of this

    def apply(self, events: Sequence[AlertEvent], now_ms: int) -> Iterator[None]:
        """Sources of inhibition first, then the worst, and what clears last; yields now and then.

        At each yield the incidents agree with what was heard so far, and may be written and told.
        So one evaluation pages once for all tiers of a symptom, and not for what its cause mutes.
        """
        for wave in _waves(events):
            yield
            sources, others = self._sources_first(wave)
            yield
            for part in self._slices(sources):
                self._apply_slice(part, now_ms)
                self.update_mutes(now_ms)
                yield
            for part in self._slices(others):
                self._apply_slice(part, now_ms)
                yield
        self._keys = {}

    def _slices(self, events: Sequence[AlertEvent]) -> Iterator[list[AlertEvent]]:
        """In order, SLICE_ALERTS at a time, except that events of one incident stay together. An
        empty one now and then, while it is worked out which are of one incident."""
        places: dict[str, list[AlertEvent]] = {}
        for count, event in enumerate(events, 1):
            kind = "fires" if event.kind is EventKind.FIRING else "ends"
            places.setdefault(f"{kind} {self._incident_of(event)[1]}", []).append(event)
            if count % _LOOKED_UP == 0:
                yield []
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
        key = self._key_of(event)
        incident = self._working.by_group_key(key)
        return (incident.number if incident else None), key

    def _key_of(self, event: AlertEvent) -> str:
        """It is asked for twice in a step, and takes longer than all else that is asked."""
        config = self._working.config
        if self._keyed is not config:
            self._keyed, self._keys = config, {}
        about = event.alert.labels, event.origin
        key = self._keys.get(about)
        if key is None:
            key = self._keys[about] = group_of(event, config).key
        return key

    def _open(self, events: Sequence[AlertEvent], now_ms: int) -> None:
        """By the worst of those that are not silenced, if there is one."""
        working, silenced = self._working, self._silenced(events)
        worst, *others = sorted(events, key=lambda one: one.alert.fingerprint in silenced)
        group = group_of(worst, working.config)
        number = working.numbers.give(now_ms)
        working.apply(open_incident(number, group, worst, now_ms, working.config), now_ms)
        self.storms.opened(number)
        if others:
            self._transition(number, others, now_ms)

    def _transition(self, number: int, events: Sequence[AlertEvent], now_ms: int) -> None:
        working = self._working
        incident = working.incidents[number]
        changed = AlertsChanged(tuple(events), self._silenced(events))
        working.apply(transition(incident, changed, now_ms, working.config), now_ms)

    def _silenced(self, events: Sequence[AlertEvent]) -> frozenset[str]:
        """The fingerprints of what silences and maintenance windows match."""
        rules = self._working.mute_rules
        if not rules:
            return NOTHING
        return frozenset(e.alert.fingerprint for e in events if rules.names_of(e.alert))

    def update_mutes(self, now_ms: int) -> bool:
        """Derive from the time, from what fires now and from storms who is kept quiet; whether
        there is more to do, which another step may."""
        unjudged = self._next_unjudged(now_ms)
        for _ in range(_MOST_ROUNDS):
            self._derive_mutes(unjudged, now_ms)
            unjudged = NOBODY
            more = self.storms.update(now_ms)
            if not self._working.mutes_dirty:
                return more or bool(self._working.unjudged)
        return True

    def _next_unjudged(self, now_ms: int) -> frozenset[int]:
        """When others hold of the silences and windows, all incidents are to be looked at; not
        more in a step than the loop has time for, those first that have something to do now."""
        working = self._working
        if working.mute_rules.refresh(now_ms):
            working.unjudged = set(working.incidents)
        if len(working.unjudged) <= MAX_JUDGED:
            return frozenset(working.unjudged)
        due = {number for number, _ in working.schedule.due(now_ms, MAX_JUDGED)}
        first = due & working.unjudged
        return frozenset(first.union(islice(working.unjudged, max(0, MAX_JUDGED - len(first)))))

    def _derive_mutes(self, unjudged: frozenset[int], now_ms: int) -> None:
        working = self._working
        silenced = self._silenced_otherwise(unjudged)
        working.judged(unjudged)
        if working.all_mutes_dirty:
            self._inhibitor.invalidate()
        elif not working.mutes_dirty and not silenced:
            return
        stirred = working.mutes_dirty | silenced.keys()
        working.mutes_dirty, working.all_mutes_dirty = set(), False
        known = {**working.incidents, **silenced} if silenced else working.incidents
        mutes = self._mutes_of([known[number] for number in sorted(stirred)], known)
        for number, names in mutes.items():
            self._set_mutes(known[number], names, now_ms)
        for incident in silenced.values():
            if not incident.is_open:  # closed by hand: it may be raised again
                self._set_mutes(incident, _inhibited(incident), now_ms)
        if not working.unjudged:
            end_resolved_silences(working, now_ms)

    def _set_mutes(self, incident: Incident, inhibited: frozenset[str], now_ms: int) -> None:
        """`incident` has the alerts that are silenced from now on."""
        before = self._working.incidents[incident.number]
        names = self._all_mutes(incident, inhibited)
        reopens = before.state is not IncidentState.TRIGGERED
        begins = reopens or (before.muted and not before.told_singly and not before.in_hold)
        if begins and not names and incident.state is IncidentState.TRIGGERED:
            names = self.storms.admit(before, now_ms)
            before = self._working.incidents[incident.number]
        if names != before.muted_by or incident.silenced != before.silenced:
            event = Mutes(names, incident.silenced)
            change = transition(before, event, now_ms, self._working.config)
            self._working.apply(change, now_ms)

    def _all_mutes(self, incident: Incident, inhibited: frozenset[str]) -> frozenset[str]:
        """An incident is quiet when each of its alerts is: silenced, or else inhibited; and while a
        storm tells of it."""
        of_storm = self.storms.names(incident)
        if not incident.silenced:
            return inhibited | of_storm
        if incident.loud and not inhibited:
            return of_storm
        return inhibited | of_storm | self._working.mute_rules.names(incident)

    def _silenced_otherwise(self, unjudged: frozenset[int]) -> dict[int, Incident]:
        """Incidents with the alerts that are silenced now, where these are others than before; of
        the `unjudged` all that have some, as others may hold."""
        working, rules = self._working, self._working.mute_rules
        stirred: Collection[int] = working.mutes_dirty
        if working.all_mutes_dirty:
            stirred = working.incidents
        again: dict[int, Incident] = {}
        for number in unjudged.union(stirred) if rules else unjudged:
            incident = working.incidents.get(number)
            if incident is None or not incident.counts_as_firing:
                continue
            silenced = rules.silenced(incident)
            if silenced != incident.silenced or (silenced and number in unjudged):
                again[incident.number] = replace(incident, silenced=silenced)
        return again

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
            triggered = replace(before, state=IncidentState.TRIGGERED, members=members)
            silenced = self._working.mute_rules.silenced(triggered)
            again[number] = replace(triggered, silenced=silenced)
        mutes = self._mutes_of(again.values(), {**self._working.incidents, **again})
        for number in again:
            self._set_mutes(again[number], mutes[number], now_ms)

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
                    events.append(end_event(member, origin, now_ms, kind))
        yield from self.apply(events, now_ms)

    def _is_known(self, event: AlertEvent) -> bool:
        holder = self._working.incident_of(event.alert.fingerprint)
        if event.kind in UNCLEARED:
            return holder is None or not _has_origin(holder, event)
        condition = Condition.UNKNOWN if event.kind is EventKind.UNKNOWN else Condition.FIRING
        if holder is None:
            return condition is Condition.UNKNOWN
        return holder.members[event.alert.fingerprint].origins.get(event.origin) is condition


def _has_origin(holder: Incident, event: AlertEvent) -> bool:
    """Whether the alert stands by the word of the event's origin."""
    origins = holder.members[event.alert.fingerprint].origins
    return not origins or event.origin in origins


def _inhibited(incident: Incident) -> frozenset[str]:
    return frozenset(name for name in incident.muted_by if name.startswith(INHIBITED))


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


def end_event(
    member: Member, origin: str, now_ms: int, kind: EventKind = EventKind.CLEAR
) -> AlertEvent:
    """The end of what `origin` said of the alert; what it says no more, it does not say."""
    why = CLEARED_REASON if kind is EventKind.CLEAR else ""
    return AlertEvent(kind, member.alert, now_ms, why, origin)
