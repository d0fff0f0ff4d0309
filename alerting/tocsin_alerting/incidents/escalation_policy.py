"""Who is told, by which channel, after how long: one policy a severity, snapshotted into incidents.

Durations are milliseconds. Everything here is frozen, because an incident keeps the policy that it
opened with.
"""

from dataclasses import dataclass
from typing import Literal

RE_RAISE_P0_MS, RE_RAISE_MS = 15 * 60_000, 3_600_000


@dataclass(frozen=True, slots=True)
class Addressee:
    """Where a message goes: to a receiver alone, or through it to a contact."""

    receiver: str
    contact: str = ""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a step tells, by name: a receiver, a contact, who is on call in a schedule, or everyone.

    A receiver with a contact is that contact by that receiver alone. `via` are the ways to reach
    people, all of them at once; empty: as `roster.resolve` chooses.
    """

    receiver: str = ""
    contact: str = ""
    schedule: str = ""
    everyone: bool = False
    via: tuple[str, ...] = ()

    def __str__(self) -> str:
        """`mail`, `li`, `mail (li)`, `schedule primary`, `everyone`; with its ways."""
        if self.receiver:
            return f"{self.receiver} ({self.contact})" if self.contact else self.receiver
        name = self.contact or (f"schedule {self.schedule}" if self.schedule else "everyone")
        return f"{name} via {', '.join(self.via)}" if self.via else name


@dataclass(frozen=True, slots=True)
class EscalationStep:
    """`escalate_after_ms` None: the last step of all, nothing follows."""

    notify: tuple[Recipient, ...]
    escalate_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class FinalStep:
    """After the last step of the last repeat: tell these every `every_ms`, for `for_ms` at most."""

    notify: tuple[Recipient, ...]
    every_ms: int
    for_ms: int


@dataclass(frozen=True, slots=True)
class AckTimes:
    timeout_ms: int | None = None
    remind_ms: int | None = None
    on_timeout: Literal["restart", "resume", "next"] = "restart"


@dataclass(frozen=True, slots=True)
class EscalationPolicy:
    """`re_raise_after_ms`: what still fires so long after it was closed by hand is raised again;
    None: RE_RAISE_P0_MS for P0, RE_RAISE_MS for others. `resolve_hold_ms`: so long its alerts must
    be clear before it is resolved. `new_alerts_after_ms`: alerts that join are told so long after
    the last page; None: nobody is told of them. `digest_ms`:
    messages of P2 and milder wait for the next digest, which comes so often."""

    name: str
    steps: tuple[EscalationStep, ...]
    repeat: int = 0
    final: FinalStep | None = None
    ack: AckTimes = AckTimes()
    group_wait_ms: int = 0
    recover_within_ms: int | None = None
    snooze_max_ms: int | None = None
    re_raise_after_ms: int | None = None
    resolve_hold_ms: int = 0
    new_alerts_after_ms: int | None = None
    digest_ms: int | None = None
