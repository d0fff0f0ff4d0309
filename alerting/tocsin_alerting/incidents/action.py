"""What a person does to an incident."""

from dataclasses import dataclass
from enum import StrEnum


class Verb(StrEnum):
    ACK = "ack"
    UNACK = "unack"
    RESOLVE = "resolve"
    ESCALATE = "escalate"
    SNOOZE = "snooze"


@dataclass(frozen=True, slots=True)
class Action:
    """`step` (escalate; None: the next one) counts from 0; `until_ms` is for snooze alone.

    An action repeated with the same `request_id` is done once; "" asks for no such protection.
    """

    verb: Verb
    incident: int
    actor: str
    note: str = ""
    request_id: str = ""
    step: int | None = None
    until_ms: int | None = None
    false_positive: bool = False
