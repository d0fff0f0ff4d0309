"""Which incidents each storm tells of, and what of them has to be looked at."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tocsin_alerting.incidents.incident import Condition, Incident, IncidentState
from tocsin_alerting.incidents.storm_changes import storm_name

ANSWERED = frozenset({IncidentState.ACKED, IncidentState.SNOOZED})


@dataclass(slots=True)
class StormTally:
    """By number: `known` are all that are not closed yet, `firing` those that are not over, `loud`
    those of them that nothing but the storm mutes, `answered` those that somebody has, `lost` those
    that ended and were not seen to clear."""

    known: dict[int, None] = field(default_factory=dict)
    firing: set[int] = field(default_factory=set)
    loud: set[int] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)

    def put(self, incident: Incident) -> None:
        number, firing = incident.number, incident.counts_as_firing
        self.known[number] = None
        others = incident.muted_by - {storm_name(incident.storm)}
        for numbers, holds in (
            (self.firing, firing),
            (self.loud, firing and not others),
            (self.answered, incident.state in ANSWERED),
            (self.lost, not firing and incident.source is not Condition.CLEAR),
        ):
            (numbers.add if holds else numbers.discard)(number)

    def remove(self, number: int) -> None:
        self.known.pop(number, None)
        for numbers in (self.firing, self.loud, self.answered):
            numbers.discard(number)


class StormMembers:
    """`changed` are the members that are new or different since they were last looked at,
    `worsened` those of them that became worse while they were of it, and `stirred` the storms to
    look at; `quieted` those that may be muted or unmuted by it."""

    def __init__(self) -> None:
        self._tallies: dict[int, StormTally] = {}
        self.storms: dict[int, None] = {}
        self.changed: dict[int, None] = {}
        self.worsened: set[int] = set()
        self.stirred: set[int] = set()
        self.quieted: set[int] = set()

    def of(self, storm: int) -> StormTally:
        return self._tallies.get(storm) or StormTally()

    def load(self, incidents: Iterable[Incident]) -> None:
        for incident in incidents:
            self.put(incident, None)

    def put(self, incident: Incident, before: Incident | None) -> None:
        if before is not None and before.storm and before.storm != incident.storm:
            self._remove(before)
        if not incident.storm:
            return
        self.stirred.add(incident.storm)
        if incident.is_storm:
            self.storms[incident.number] = None
            return
        if incident.told_singly:
            self._remove(incident)
            return
        tally = self._tallies.setdefault(incident.storm, StormTally())
        was_loud = bool(tally.loud)
        tally.put(incident)
        if bool(tally.loud) != was_loud:
            self.quieted.add(incident.storm)
        self.changed[incident.number] = None
        if before is not None and before.storm == incident.storm:
            if incident.severity.worse_than(before.severity):
                self.worsened.add(incident.number)

    def drop(self, incident: Incident) -> None:
        """It is closed."""
        if incident.is_storm:
            self.storms.pop(incident.number, None)
            self.stirred.discard(incident.number)
            if (tally := self._tallies.pop(incident.number, None)) is not None:
                self.quieted |= tally.firing  # nothing tells of these any more
        elif incident.storm:
            self._remove(incident)

    def _remove(self, incident: Incident) -> None:
        self.stirred.add(incident.storm)
        self.changed.pop(incident.number, None)
        self.worsened.discard(incident.number)
        if (tally := self._tallies.get(incident.storm)) is not None:
            tally.remove(incident.number)
            self.quieted.add(incident.storm)
