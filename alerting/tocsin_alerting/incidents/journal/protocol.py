"""Where incidents survive: one transaction a step, read back whole at the start."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from tocsin_alerting.incidents.changeset import Changeset, EngineRow, HistoryEntry
from tocsin_alerting.incidents.external_alerts import ExternalAlert
from tocsin_alerting.incidents.heartbeats import HeartbeatRow, shifted_row
from tocsin_alerting.incidents.incident import Incident, IncidentState, Timer
from tocsin_alerting.incidents.journal.pruning import Pruned
from tocsin_alerting.incidents.journal.questions import (
    EVERY_INCIDENT,
    EntryQuery,
    IncidentFilter,
)
from tocsin_alerting.incidents.oncall import Override
from tocsin_alerting.incidents.outbox_message import OutboxMessage
from tocsin_alerting.incidents.silences import Silence
from tocsin_alerting.rules.instance_journal import InstanceRow

NO_NUMBER = 2**63 - 1  # above every number that an incident may have
FIRST_OF_TIME = 10**10  # numbers from here on were made of the time, and the others go on without
LAST_EVAL = "last_eval"
FORGOTTEN = "forgotten engine "  # and its place: "1", or "" once it is watched again
_LAST_YEAR_MS = 253_402_300_800_000  # what is later is no time of any clock


@dataclass(frozen=True, slots=True)
class JournalState:
    """All that a start needs: incidents that are not closed, their timers and messages.

    Messages of closed incidents are among them while they wait to be sent. `last_*` are the highest
    numbers given so far, but for incidents those made of the time.
    """

    incidents: tuple[Incident, ...] = ()
    timers: Mapping[int, tuple[Timer, ...]] = field(default_factory=dict)
    messages: tuple[OutboxMessage, ...] = ()
    instances: tuple[InstanceRow, ...] = ()
    requests: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)
    engines: tuple[EngineRow, ...] = ()
    overrides: tuple[Override, ...] = ()
    external: tuple[ExternalAlert, ...] = ()
    heartbeats: tuple[HeartbeatRow, ...] = ()
    silences: tuple[Silence, ...] = ()
    subject_timers: Mapping[str, int] = field(default_factory=dict)
    last_number: int = 0
    last_entry: int = 0
    last_message: int = 0

    @property
    def forgotten(self) -> frozenset[str]:
        """The places of engines that a person has forgotten, or that have moved away."""
        marked = (key for key, value in self.meta.items() if value)
        return frozenset(k.removeprefix(FORGOTTEN) for k in marked if k.startswith(FORGOTTEN))

    @property
    def newest_ms(self) -> int | None:
        """When the run that wrote it was last alive, by its clock; None: it does not say."""
        last_eval = self.meta.get(LAST_EVAL, "")
        times = [int(last_eval)] if last_eval.isdecimal() else []
        times += [row.seen_ms for row in self.instances]
        return max((at for at in times if at < _LAST_YEAR_MS), default=None)

    def shifted(self, delta_ms: int) -> "JournalState":
        """The same by a clock that reads `delta_ms` more: ages stay what they are."""
        meta, last_eval = dict(self.meta), self.meta.get(LAST_EVAL, "")
        if last_eval.isdecimal():
            meta[LAST_EVAL] = str(int(last_eval) + delta_ms)
        timers_by_incident = {
            number: tuple(timer.shifted(delta_ms) for timer in timers)
            for number, timers in self.timers.items()
        }
        requests = {name: (number, at + delta_ms) for name, (number, at) in self.requests.items()}
        return replace(
            self,
            incidents=tuple(incident.shifted(delta_ms) for incident in self.incidents),
            timers=timers_by_incident,
            messages=tuple(message.shifted(delta_ms) for message in self.messages),
            instances=tuple(row.shifted(delta_ms) for row in self.instances),
            requests=requests,
            meta=meta,
            engines=tuple(replace(row, seen_ms=row.seen_ms + delta_ms) for row in self.engines),
            external=tuple(alert.shifted(delta_ms) for alert in self.external),
            heartbeats=tuple(shifted_row(row, delta_ms) for row in self.heartbeats),
            silences=tuple(silence.shifted(delta_ms) for silence in self.silences),
            subject_timers={name: at + delta_ms for name, at in self.subject_timers.items()},
        )


@dataclass(frozen=True, slots=True)
class IncidentLabels:
    """The labels of all alerts that an incident ever had."""

    number: int
    severity: str
    labels: tuple[Mapping[str, str], ...]


class Journal(Protocol):
    """Every method raises JournalDown when the disk does not play along."""

    async def load(self) -> JournalState:
        """Raises SchemaTooNew too."""
        ...

    async def commit(self, changeset: Changeset) -> None:
        """All of it or nothing, and on the disk when it returns."""
        ...

    async def incident(self, number: int) -> Incident | None: ...

    async def incidents(
        self,
        states: Collection[IncidentState],
        limit: int,
        below: int = NO_NUMBER,
        wanted: IncidentFilter = EVERY_INCIDENT,
    ) -> list[Incident]:
        """The newest first, of those with a number below `below`."""
        ...

    async def entries(self, query: EntryQuery) -> list[HistoryEntry]:
        """Lines of the history, in order."""
        ...

    async def answered_by(self, person: str) -> frozenset[int]:
        """The incidents about which that person did something."""
        ...

    async def openings(self, since_ms: int) -> list[tuple[str, int]]:
        """The (key, Unix ms) of each time since then that an incident opened, or opened again."""
        ...

    async def history(self, number: int) -> list[HistoryEntry]:
        """In order; 0 is what is about no incident in particular."""
        ...

    async def messages(self, number: int) -> list[OutboxMessage]: ...

    async def labels_since(self, since_ms: int, above: int, limit: int) -> list[IncidentLabels]:
        """The first `limit` incidents numbered above `above` that were not over before then."""
        ...

    async def prune(self, before_ms: int) -> Pruned:
        """Forget some of what was closed before then."""
        ...

    async def close(self) -> None: ...
