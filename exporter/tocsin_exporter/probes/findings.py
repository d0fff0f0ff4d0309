"""What one probe has found so far: its metrics and its log, kept when its time is up."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tocsin_exporter.catalogue import PROBES
from tocsin_exporter.snapshot import Labels, Sample, sorted_labels

MOST_LINES = 500
_LONGEST = 500
_LONGEST_LABEL = 4096  # a certificate may be for a thousand names


class ProbeFailed(Exception):
    """The probe has failed, and says why."""


@dataclass(slots=True)
class Findings:
    """`monotonic` gives seconds. A gauge that was registered and never set is 0."""

    monotonic: Callable[[], float]
    values: dict[tuple[str, Labels], float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def register(self, *names: str) -> None:
        for name in names:
            self.values.setdefault((name, ()), 0.0)

    def phases(self, name: str, *phases: str) -> None:
        for phase in phases:
            self.values.setdefault((name, (("phase", phase),)), 0.0)

    def set(self, name: str, value: float, **labels: str) -> None:
        held = {key: text[:_LONGEST_LABEL] for key, text in labels.items()}
        self.values[name, sorted_labels(held)] = float(value)

    def add(self, name: str, seconds: float, phase: str) -> None:
        key = name, (("phase", phase),)
        self.values[key] = self.values.get(key, 0.0) + seconds

    def get(self, name: str, **labels: str) -> float:
        return self.values.get((name, sorted_labels(labels)), 0.0)

    def log(self, text: str) -> None:
        """A line for `debug=true`; what servers say in it is cut."""
        if len(self.lines) < MOST_LINES:
            self.lines.append("".join(c if c.isprintable() else "?" for c in text[:_LONGEST]))

    def samples(self) -> list[Sample]:
        """By name, as a registry shows them."""
        return [
            Sample(PROBES[name], value, labels)
            for (name, labels), value in sorted(self.values.items())
        ]
