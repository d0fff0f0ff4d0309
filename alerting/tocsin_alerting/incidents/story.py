"""All that is known of one incident, for a person who asks."""

from dataclasses import dataclass

from tocsin_alerting.incidents.batch import Entry
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.message import Message
from tocsin_alerting.incidents.timer import Timer


@dataclass(frozen=True, slots=True)
class Story:
    incident: Incident
    history: tuple[Entry, ...]
    timers: tuple[Timer, ...]
    messages: tuple[Message, ...]
