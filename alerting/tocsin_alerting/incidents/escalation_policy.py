"""Who is told, by which channel, after how long: one policy a severity, snapshotted into incidents.

Durations are milliseconds. Everything here is frozen and turns into plain JSON and back, because an
incident keeps the policy that it opened with.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from tocsin_alerting.incidents.unknown_fields import known_fields


class Severity(StrEnum):
    """P0 is the worst. Compare with `worse_than`, not with `<`."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"

    def worse_than(self, other: "Severity") -> bool:
        return self.value < other.value


RE_RAISE_P0_MS, RE_RAISE_MS = 15 * 60_000, 3_600_000
SEVERITY_WORDS: Mapping[str, Severity] = {
    "critical": Severity.P0,
    "warning": Severity.P1,
    "info": Severity.P2,
}
NEVER_PAGED = "none"


def severity_of(label: str, words: Mapping[str, Severity] = SEVERITY_WORDS) -> Severity | None:
    """The severity that a `severity` label means; None for `none`, P2 for an unknown word."""
    if label == NEVER_PAGED:
        return None
    if label in Severity.__members__:
        return Severity(label)
    return words.get(label.lower(), Severity.P2)


@dataclass(frozen=True, slots=True)
class Addressee:
    """One addressee of a step: a receiver alone, or a contact by one of its ways."""

    receiver: str
    contact: str = ""


@dataclass(frozen=True, slots=True)
class EscalationStep:
    """`escalate_after_ms` None: the last step of all, nothing follows."""

    notify: tuple[Addressee, ...]
    escalate_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class FinalStep:
    """After the last step of the last repeat: tell these every `every_ms`, for `for_ms` at most."""

    notify: tuple[Addressee, ...]
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
    None: RE_RAISE_P0_MS for P0, RE_RAISE_MS for others."""

    name: str
    steps: tuple[EscalationStep, ...]
    repeat: int = 0
    final: FinalStep | None = None
    ack: AckTimes = AckTimes()
    group_wait_ms: int = 0
    group_interval_ms: int = 300_000
    recover_within_ms: int | None = None
    snooze_max_ms: int | None = None
    re_raise_after_ms: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "EscalationPolicy":
        """The policy that `to_json` wrote; what a newer version added to it is passed over."""
        final = data["final"]
        return cls(
            **{
                **known_fields(data, cls),
                "steps": tuple(
                    EscalationStep(_targets(s["notify"]), s["escalate_after_ms"])
                    for s in data["steps"]
                ),
                "final": final
                and FinalStep(_targets(final["notify"]), final["every_ms"], final["for_ms"]),
                "ack": AckTimes(**known_fields(data["ack"], AckTimes)),
            }
        )


def _targets(rows: list[dict[str, str]]) -> tuple[Addressee, ...]:
    return tuple(Addressee(**known_fields(row, Addressee)) for row in rows)
