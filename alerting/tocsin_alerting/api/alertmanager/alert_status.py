"""What Alertmanager says of the state of one alert: who keeps it quiet."""

from collections.abc import Iterable
from typing import Any

from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.inhibition import InhibitingAlerts
from tocsin_alerting.incidents.muting import INHIBITED
from tocsin_alerting.incidents.silences import MAINTENANCE, SILENCE
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.rules.alert import Alert

Sources = frozenset[int] | None
EVERYBODY, NOBODY = None, frozenset[int]()  # of incidents
Status = dict[str, Any]


class AlertStatuses:
    """Of one answer: what inhibits is looked up once."""

    def __init__(self, working: WorkingSet) -> None:
        self._working = working
        self._inhibiting: dict[Sources, InhibitingAlerts] = {}

    def of(self, alert: Alert, incident: Incident | None) -> Status:
        """`incident` None: it pages nobody."""
        names = self._working.mute_rules.names_of(alert)
        silenced, muted = _after(SILENCE, names), _after(MAINTENANCE, names)
        sources = _sources(incident, bool(names)) if incident else NOBODY
        inhibiting = None if sources == NOBODY else self._inhibiting_by(sources)
        inhibited = inhibiting.of(dict(alert.labels)) if inhibiting else []
        return {
            "state": "suppressed" if names or inhibited else "active",
            "silencedBy": silenced,
            "inhibitedBy": inhibited,
            "mutedBy": muted,
        }

    def _inhibiting_by(self, numbers: Sources) -> InhibitingAlerts:
        if numbers not in self._inhibiting:
            every = self._working.incidents
            among = every if numbers is None else numbers & every.keys()
            known = [every[number] for number in among]
            self._inhibiting[numbers] = InhibitingAlerts(self._working.config, known)
        return self._inhibiting[numbers]


def _sources(incident: Incident, silenced: bool) -> Sources:
    """The incidents whose alerts inhibit one of this incident: what is told of the others in it
    tells of it too. One that is silenced was not looked at there."""
    if silenced:
        return EVERYBODY
    names = (name for name in incident.muted_by if name.startswith(INHIBITED))
    return frozenset(int(name.removeprefix(INHIBITED)) for name in names)


def _after(kind: str, names: Iterable[str]) -> list[str]:
    return sorted(name.removeprefix(kind) for name in names if name.startswith(kind))
