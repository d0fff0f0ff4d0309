"""What people ask of the journal: incidents and lines of the history by time, rule, label, person.

Both journals answer in the same way; every question has an end (`limit`) and a place to go on from.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tocsin_alerting.incidents.alert_matcher import AlertMatcher, all_match
from tocsin_alerting.incidents.changeset import HistoryEntry
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.rules.severity import Severity

PAGE = 200  # rows that the journal's thread reads at once: whoever writes waits no longer
OPENING_EVENTS = ("opened", "reopened")


@dataclass(frozen=True, slots=True)
class IncidentFilter:
    """Empty and None ask for nothing. `rule` is the name of one of its alerts, `matchers` are of
    the labels of one alert; `person` owned it or did something about it (`numbers` are the
    incidents of which that is known); `since_ms` and `until_ms` are Unix milliseconds between which
    it was open; `text` stands in its labels or annotations, in whatever case. `only` these numbers.
    `storm` is the number of the one that tells of it.
    """

    severities: Collection[Severity] = ()
    rule: str = ""
    matchers: tuple[AlertMatcher, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    person: str = ""
    numbers: frozenset[int] = frozenset()
    only: frozenset[int] | None = None
    text: str = ""
    storm: int | None = None

    def __bool__(self) -> bool:
        return self != EVERY_INCIDENT

    def matches(self, incident: Incident) -> bool:
        return (
            (self.only is None or incident.number in self.only)
            and (self.storm is None or incident.storm == self.storm)
            and (not self.severities or incident.severity in self.severities)
            and self._is_open_then(incident)
            and self._is_about(incident)
            and (not self.person or self._answered(incident))
        )

    def _is_open_then(self, incident: Incident) -> bool:
        ended_ms = incident.resolved_at_ms
        begins = self.until_ms is None or incident.opened_at_ms <= self.until_ms
        return begins and (self.since_ms is None or ended_ms is None or ended_ms >= self.since_ms)

    def _is_about(self, incident: Incident) -> bool:
        if not (self.rule or self.matchers or self.text):
            return True
        alerts = (member.alert for member in incident.members.values())
        return any(
            (not self.rule or alert.name == self.rule)
            and all_match(self.matchers, dict(alert.labels))
            and self._has_text((*alert.labels, *alert.annotations))
            for alert in alerts
        )

    def _has_text(self, pairs: tuple[tuple[str, str], ...]) -> bool:
        wanted = self.text.casefold()
        return not wanted or any(wanted in value.casefold() for _, value in pairs)

    def _answered(self, incident: Incident) -> bool:
        return incident.owner == self.person or incident.number in self.numbers


EVERY_INCIDENT = IncidentFilter()


Place = tuple[int, int]
"""Of a line of the history: its time (Unix milliseconds) and its number."""


@dataclass(frozen=True, slots=True)
class EntryQuery:
    """Lines of the history between the places `after` and `before`, by their time, or by their
    number alone where `by_number` asks for that. None and empty ask for nothing: `since_ms` and
    `until_ms` (Unix milliseconds, both included), what is said of `incidents`, by `actor`, and
    which `events`. `newest` gives the last `limit` of them instead of the first."""

    limit: int
    since_ms: int | None = None
    until_ms: int | None = None
    incidents: Collection[int] | None = None
    actor: str = ""
    events: Collection[str] = ()
    after: Place | None = None
    before: Place | None = None
    newest: bool = False
    by_number: bool = False

    def place(self, entry: HistoryEntry) -> Place:
        return (0, entry.seq) if self.by_number else (entry.at_ms, entry.seq)

    def matches(self, entry: HistoryEntry) -> bool:
        skipped = 1 if self.by_number else 0  # of a place its time, where the number alone counts
        place = self.place(entry)[skipped:]
        return (
            (self.after is None or place > self.after[skipped:])
            and (self.before is None or place < self.before[skipped:])
            and (self.since_ms is None or entry.at_ms >= self.since_ms)
            and (self.until_ms is None or entry.at_ms <= self.until_ms)
            and (self.incidents is None or entry.incident in self.incidents)
            and (not self.actor or entry.actor == self.actor)
            and (not self.events or entry.event in self.events)
        )

    def cut(self, entries: Iterable[HistoryEntry]) -> list[HistoryEntry]:
        """Of those that match, in their order: the first, or the last, `limit`."""
        chosen = sorted(filter(self.matches, entries), key=self.place)
        return chosen[-self.limit :] if self.newest else chosen[: self.limit]
