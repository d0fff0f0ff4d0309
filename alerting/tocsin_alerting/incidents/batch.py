"""What one step changed, to be written as one transaction.

Writing a batch twice is writing it once: rows have keys of their own, history entries a number.
Batches of a time when the disk was gone are merged into one.
"""

from dataclasses import dataclass, field
from typing import Any

from tocsin_alerting.incidents.incident import Incident, Member
from tocsin_alerting.incidents.message import Message
from tocsin_alerting.incidents.rows import EngineRow
from tocsin_alerting.incidents.timer import Timer
from tocsin_alerting.rules.journal import InstanceRow


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history; `incident` 0 is about no incident in particular."""

    seq: int
    at_ms: int
    incident: int
    event: str
    actor: str
    data: dict[str, Any]


@dataclass(slots=True)
class Batch:
    """New values by their keys.

    `timers` are all that an incident has, `instances` all that a (file, group) of rules has.
    """

    at_ms: int = 0
    incidents: dict[int, Incident] = field(default_factory=dict)
    members: dict[tuple[int, str], Member] = field(default_factory=dict)
    timers: dict[int, tuple[Timer, ...]] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    history: list[Entry] = field(default_factory=list)
    instances: dict[tuple[str, str], tuple[InstanceRow, ...]] = field(default_factory=dict)
    requests: dict[str, tuple[int, int]] = field(default_factory=dict)  # id -> incident, at_ms
    meta: dict[str, str] = field(default_factory=dict)
    engines: dict[str, EngineRow | None] = field(default_factory=dict)  # None: forgotten

    def __bool__(self) -> bool:
        return any(
            (
                self.incidents,
                self.members,
                self.timers,
                self.messages,
                self.history,
                self.instances,
                self.requests,
                self.meta,
                self.engines,
            )
        )

    def merge(self, later: "Batch") -> None:
        self.at_ms = max(self.at_ms, later.at_ms)
        self.incidents |= later.incidents
        self.members |= later.members
        self.timers |= later.timers
        self.messages |= later.messages
        self.history += later.history
        self.instances |= later.instances
        self.requests |= later.requests
        self.meta |= later.meta
        self.engines |= later.engines
