"""When groups run: at the multiples of their interval in Unix time, as sources are read, too."""


def slot_ms(interval_ms: int, now_ms: int) -> int:
    """The latest slot at or before `now_ms`."""
    return now_ms - now_ms % interval_ms


def missed(previous_ms: int | None, slot: int, interval_ms: int) -> int:
    """How many slots between the last evaluation and this one were skipped; they stay skipped."""
    if previous_ms is None:
        return 0
    return max(0, (slot - previous_ms) // interval_ms - 1)
