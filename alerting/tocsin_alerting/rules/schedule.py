"""When groups run: slots aligned to wall time, each group with a phase of its own."""

from tocsin_alerting.rules.alert import fingerprint
from tocsin_alerting.rules.rule import Group


def phase_ms(group: Group, interval_ms: int) -> int:
    """The same after every restart, and spread over the interval, so that groups do not crowd."""
    return int(fingerprint((("file", group.file), ("name", group.name))), 16) % interval_ms


def slot_ms(group: Group, interval_ms: int, now_ms: int) -> int:
    """The group's latest slot at or before `now_ms`."""
    return now_ms - (now_ms - phase_ms(group, interval_ms)) % interval_ms


def missed(previous_ms: int | None, slot: int, interval_ms: int) -> int:
    """How many slots between the last evaluation and this one were skipped; they stay skipped."""
    if previous_ms is None:
        return 0
    return max(0, (slot - previous_ms) // interval_ms - 1)
