"""What a transition asks for: messages, timers, entries in the history. Nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.timers import Timer


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell `targets`; `serial` counts the incident's messages, so that no two keys are equal."""

    reason: Reason
    targets: tuple[Addressee, ...]
    serial: int
    actor: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Replaces the timer of the same kind."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class Record:
    """An entry of the history."""

    event: str
    actor: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WithdrawPages:
    """Pages that nobody received yet need not go out: somebody answered, or it is over."""


Effect = Notify | SetTimer | Record | WithdrawPages
Effects = tuple[Effect, ...]
Change = tuple[Incident, Effects]
