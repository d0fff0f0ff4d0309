"""What the label `severity` of a rule says: P0 to P4, a word for one of them, or `none`."""

from collections.abc import Mapping
from enum import StrEnum

SEVERITY_LABEL = "severity"


class Severity(StrEnum):
    """P0 is the worst. Compare with `worse_than`, not with `<`."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"

    def worse_than(self, other: "Severity") -> bool:
        return self.value < other.value


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
