"""All that is known of one incident, for a person who asks."""

from dataclasses import dataclass

from tocsin_alerting.incidents.changeset import HistoryEntry
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.outbox_message import OutboxMessage
from tocsin_alerting.incidents.timers import Timer


@dataclass(frozen=True, slots=True)
class IncidentTimeline:
    incident: Incident
    history: tuple[HistoryEntry, ...]
    timers: tuple[Timer, ...]
    messages: tuple[OutboxMessage, ...]
