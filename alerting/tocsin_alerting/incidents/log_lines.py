"""Lines of logs in the history of an incident: for those who may respond, and nobody else."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tocsin_alerting.incidents.working_set import WorkingSet

EVENT = "log_lines"
EVIDENCE = "log"  # as numbers of evidence are called
MOST_LINES = 10  # of an incident
BEFORE_MS = 600_000  # so long before an incident opens a line may tell of it


class LogLine(Protocol):
    """`text` holds no secret, and nothing that users of a model wrote."""

    @property
    def source(self) -> str: ...

    @property
    def pattern(self) -> str: ...

    @property
    def text(self) -> str: ...


def telling(
    labels: Mapping[str, str], from_ms: int, until_ms: int
) -> Callable[[float, str, str], bool]:
    """Whether a line of that Unix second, source and pattern is of that time; for an alert about a
    log, only what its labels name."""

    def tells(at: float, source: str, pattern: str) -> bool:
        return (
            from_ms <= at * 1000 <= until_ms
            and labels.get("source") in (None, "", source)
            and labels.get("pattern") in (None, "", pattern)
        )

    return tells


def history_data(lines: Sequence[LogLine]) -> dict[str, Any]:
    return {
        "count": len(lines),
        "lines": [f"{line.source} ({line.pattern}): {line.text}" for line in lines],
    }


def note_lines(working: WorkingSet, incident: int, lines: Sequence[LogLine], now_ms: int) -> None:
    working.note(incident, "log_lines", now_ms, data=history_data(lines))


def without_lines(event: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What everybody may read of an entry of the history."""
    if event != EVENT:
        return data
    return {name: value for name, value in data.items() if name != "lines"}
