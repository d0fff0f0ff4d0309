"""What was found in the lines of one source, since its first start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tocsin_exporter.tailing.followed_path import FileCounts
from tocsin_exporter.tailing.levels import LEVELS
from tocsin_exporter.tailing.tailed_file import Losses

MOST_VALUES = 20  # of the group `value` of one pattern
OTHER = "other"


@dataclass(slots=True)
class LogCounts:
    """`matches` by pattern and value, "" without one; `last` is when the last came, in Unix
    seconds."""

    levels: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    bytes: int = 0
    withheld: int = 0
    matches: dict[str, dict[str, int]] = field(default_factory=dict)
    last: dict[str, dict[str, float]] = field(default_factory=dict)
    files: FileCounts = field(default_factory=FileCounts)

    def match(self, pattern: str, value: str, at: float) -> None:
        values = self.matches.setdefault(pattern, {})
        if value not in values and len(values) >= MOST_VALUES:
            value = OTHER
        values[value] = values.get(value, 0) + 1
        self.last.setdefault(pattern, {})[value] = at

    def as_json(self) -> dict[str, Any]:
        files = self.files
        return {
            "levels": dict(self.levels),
            "bytes": self.bytes,
            "withheld": self.withheld,
            "matches": {name: dict(values) for name, values in self.matches.items()},
            "last": {name: dict(times) for name, times in self.last.items()},
            "rotations": files.rotations,
            "truncations": files.truncations,
            "lost_lines": dict(files.losses.lines),
            "lost_bytes": dict(files.losses.bytes),
        }


def counts_of(data: Mapping[str, Any]) -> LogCounts:
    """What `as_json` made. Raises ValueError, LookupError, TypeError or AttributeError."""
    losses = Losses(_whole(data["lost_lines"]), _whole(data["lost_bytes"]))
    return LogCounts(
        dict.fromkeys(LEVELS, 0) | _whole(data["levels"]),
        int(data["bytes"]),
        int(data["withheld"]),
        {str(name): _whole(values) for name, values in data["matches"].items()},
        {
            str(name): {str(value): float(at) for value, at in times.items()}
            for name, times in data["last"].items()
        },
        FileCounts(int(data["rotations"]), int(data["truncations"]), losses),
    )


def _whole(data: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): int(value) for name, value in data.items()}
