"""A stored due time. When it is due the machine is asked; a stale generation does nothing."""

from dataclasses import dataclass, replace
from enum import StrEnum


class TimerKind(StrEnum):
    GROUP_WAIT = "group_wait"
    STEP = "step"
    FINAL = "final"
    ACK_REMIND = "ack_remind"
    ACK_TIMEOUT = "ack_timeout"
    SNOOZE_END = "snooze_end"
    REOPEN_END = "reopen_end"
    RE_RAISE = "re_raise"
    SLO_WARN = "slo_warn"
    SLO_BREACH = "slo_breach"
    SOURCE_UNKNOWN = "source_unknown"
    UNKNOWN_MAX = "unknown_max"


OUTLIVES_GENERATION = frozenset(
    {TimerKind.SLO_WARN, TimerKind.SLO_BREACH, TimerKind.SOURCE_UNKNOWN, TimerKind.UNKNOWN_MAX}
)


@dataclass(frozen=True, slots=True)
class Timer:
    """One timer of an incident; of each kind there is at most one. Times are Unix milliseconds."""

    kind: TimerKind
    due_at_ms: int
    generation: int

    def live(self, generation: int) -> bool:
        """Whether it still means something: an answer or a new start raises the generation."""
        return self.kind in OUTLIVES_GENERATION or self.generation == generation

    def shifted(self, delta_ms: int) -> "Timer":
        return replace(self, due_at_ms=self.due_at_ms + delta_ms)
