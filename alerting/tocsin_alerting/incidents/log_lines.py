"""Lines of logs in the history of an incident: for those who may respond, and nobody else."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

EVENT = "log_lines"
EVIDENCE = "log"  # as numbers of evidence are called
MOST_LINES = 10  # of an incident
BEFORE_MS = 600_000  # so long before an incident opens a line may tell of it


class LogLine(NamedTuple):
    """`text` holds no secret, and nothing that users of a model wrote."""

    at_ms: int
    source: str
    pattern: str
    text: str


def telling(
    lines: Iterable[LogLine], labels: Mapping[str, str], from_ms: int, until_ms: int
) -> Sequence[LogLine]:
    """Those of that time, the newest first; of an alert about a log only what its labels name."""
    wanted = {name: labels[name] for name in ("source", "pattern") if labels.get(name)}
    found = sorted(
        (
            line
            for line in lines
            if from_ms <= line.at_ms <= until_ms
            and ("source" not in wanted or wanted["source"] == line.source)
            and ("pattern" not in wanted or wanted["pattern"] == line.pattern)
        ),
        reverse=True,
    )
    return found[:MOST_LINES]


def history_data(lines: Sequence[LogLine]) -> dict[str, Any]:
    return {
        "count": len(lines),
        "lines": [f"{line.source} ({line.pattern}): {line.text}" for line in lines],
    }


def without_lines(event: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What everybody may read of an entry of the history."""
    if event != EVENT:
        return data
    return {name: value for name, value in data.items() if name != "lines"}
