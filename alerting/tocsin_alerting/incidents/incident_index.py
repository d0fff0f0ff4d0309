"""Which incident has which group key and which alert, and who says so of the alert."""

from collections.abc import Collection, Iterable, Mapping

from tocsin_alerting.incidents.incident import (
    ENDED_CONDITIONS,
    Condition,
    Incident,
    Member,
)
from tocsin_alerting.rules.alert import AlertEvent, EventKind


class IncidentIndex:
    """Knows numbers only: the incidents themselves are the working set's."""

    def __init__(self) -> None:
        self._number_by_key: dict[str, int] = {}
        self._number_by_alert: dict[str, int] = {}
        self._superseded: set[int] = set()  # loaded; their key or an alert had a place here before
        self._origins_by_alert: dict[str, tuple[str, ...]] = {}
        self._alerts_by_origin: dict[str, dict[str, None]] = {}

    def by_key(self, key: str) -> int | None:
        return self._number_by_key.get(key)

    def by_alert(self, fingerprint: str) -> int | None:
        """The number of the incident in which this alert fires or is unknown."""
        return self._number_by_alert.get(fingerprint)

    def __getitem__(self, fingerprint: str) -> int:
        """The number of the incident in which an active member is."""
        return self._number_by_alert[fingerprint]

    def is_superseded(self, number: int) -> bool:
        """Whether what was opened before it was loaded has its key, or one of its alerts."""
        return number in self._superseded

    @property
    def origins(self) -> Collection[str]:
        """Those who say of an alert that it fires, or that nobody can tell."""
        return self._alerts_by_origin.keys()

    def alerts_of(self, origin: str) -> Iterable[str]:
        """The alerts of which `origin` says that they fire, or that nobody can tell."""
        return self._alerts_by_origin.get(origin, ())

    def put(self, incident: Incident, changed: Mapping[str, Member]) -> None:
        """`changed`: its members that are new or different."""
        if incident.number not in self._superseded:
            self._number_by_key[incident.key] = incident.number
            self._put_members(incident.number, changed)

    def _put_members(self, number: int, members: Mapping[str, Member]) -> None:
        for name, member in members.items():
            if member.source not in ENDED_CONDITIONS:
                self._remove(name)
                self._number_by_alert[name] = number
                self._origins_by_alert[name] = tuple(member.origins)
                for origin in member.origins:
                    self._alerts_by_origin.setdefault(origin, {})[name] = None
            elif self._number_by_alert.get(name) == number:
                self._remove(name)

    def _remove(self, name: str) -> None:
        """Forget in which incident the alert fires, and who says so."""
        holder = self._number_by_alert.pop(name, None)
        if holder is None:
            return
        for origin in self._origins_by_alert.pop(name):
            alerts = self._alerts_by_origin[origin]
            alerts.pop(name, None)
            if not alerts:
                del self._alerts_by_origin[origin]

    def load(self, incidents: Iterable[Incident]) -> None:
        """A key or an alert that has its incident here already keeps it."""
        keys, alerts = set(self._number_by_key), set(self._number_by_alert)
        for incident in incidents:
            elsewhere = any(
                name in alerts and member.source not in ENDED_CONDITIONS
                for name, member in incident.members.items()
            )
            if elsewhere or incident.key in keys:
                self._superseded.add(incident.number)
            else:
                self.put(incident, incident.members)

    def drop(self, incident: Incident) -> None:
        number = incident.number
        self._superseded.discard(number)
        if self._number_by_key.get(incident.key) == number:
            del self._number_by_key[incident.key]
        for name in incident.members:
            if self._number_by_alert.get(name) == number:
                self._remove(name)


def active_events(incidents: Iterable[Incident], now_ms: int) -> list[AlertEvent]:
    """What its origins said last of each alert that fires, or of which nobody can tell. Since when
    nobody can tell is taken to be now where it is not known."""
    kinds = {Condition.FIRING: EventKind.FIRING, Condition.UNKNOWN: EventKind.UNKNOWN}
    return [
        AlertEvent(
            kinds[condition],
            member.alert,
            _since_ms(member, condition, unknown_ms),
            origin=name,
        )
        for incident in incidents
        for unknown_ms in (incident.unknown_since_ms or now_ms,)
        for member in incident.active
        for name, condition in member.origins.items()
        if condition in kinds
    ]


def _since_ms(member: Member, condition: Condition, unknown_ms: int) -> int:
    return unknown_ms if condition is Condition.UNKNOWN else member.since_ms


def changed_members(incident: Incident, before: Incident | None) -> Mapping[str, Member]:
    """The members that are new or different."""
    if before is None or before.members is incident.members:
        return {} if before else incident.members
    known = before.members
    return {n: member for n, member in incident.members.items() if known.get(n) is not member}


def mutes_otherwise(incident: Incident, before: Incident) -> bool:
    """Whether its state says otherwise than before that it may mute others, or be muted."""
    return (incident.is_open, incident.counts_as_firing) != (
        before.is_open,
        before.counts_as_firing,
    )
