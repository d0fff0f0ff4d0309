"""An engine as the journal keeps it: found by itself, it is expected after a restart."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineRow:
    """`model` is what it served, "" when it did not say; `seen_ms` when that was last noted."""

    target: str
    url: str
    kind: str
    model: str = ""
    seen_ms: int = 0
