"""What a receiver is told about its messages, whatever its type: how many, how soon, and who else.

A rate is written `20/min`, `5/15m`: at most so many within any such time.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.time_format import format_duration, read_duration

MAX_COUNT, MAX_WINDOW_MS = 100_000, 86_400_000
_UNITS = {
    **dict.fromkeys(("s", "sec", "second"), "1s"),
    **dict.fromkeys(("m", "min", "minute"), "1m"),
    **dict.fromkeys(("h", "hour"), "1h"),
    **dict.fromkeys(("d", "day"), "1d"),
}
_RATE = re.compile(r"([0-9]{1,6})\s*/\s*([0-9a-z]+)")


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` messages within any `window_ms`."""

    count: int
    window_ms: int

    def __str__(self) -> str:
        return f"{self.count}/{format_duration(self.window_ms)}"

    def share(self, severity: str) -> int:
        """How many of any severity may have gone in the window, with a page of this one ("": with
        what is no page). Three quarters for milder ones, all but one for P1; the last place is a
        P0's, and a second one where there is but one."""
        if severity == Severity.P0:
            return max(2, self.count)
        kept = 1 if severity == Severity.P1 else max(2, self.count // 4)
        return max(1, self.count - kept)


Rates = tuple[Rate, ...]
# Without `deliver_within`: a minute holds six tries of a P0, and a mail server that restarts.
DELIVER_WITHIN_MS: Mapping[str, int] = {Severity.P0.value: 60_000, Severity.P1.value: 300_000}


def read_rate(text: object) -> Rate:
    """`20/min`, `5/15m`. Raises ValueError."""
    found = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
    window_ms = read_duration(_UNITS.get(found[2], found[2])) if found else None
    if found is None or not window_ms or not int(found[1]):
        raise ValueError("not a rate; write it like 20/min, 5/15m or 100/h")
    if int(found[1]) > MAX_COUNT or window_ms > MAX_WINDOW_MS:
        raise ValueError(f"at most {MAX_COUNT} messages, and a time of one day")
    return Rate(int(found[1]), window_ms)


def read_rates(texts: Iterable[str]) -> Rates:
    return tuple(map(read_rate, texts))


def deadlines_ms(within_ms: int | None) -> Mapping[str, int]:
    """By severity; None: the file does not say."""
    if within_ms is None:
        return DELIVER_WITHIN_MS
    return {severity.value: within_ms for severity in Severity}


@dataclass(frozen=True, slots=True)
class ReceiverRules:
    """What holds for the messages of one receiver, whatever its type: its `rates`, after how long a
    page without an answer counts as one that does not arrive (by severity; none: never), and the
    receiver that gets it then."""

    rates: Rates = ()
    deliver_within_ms: Mapping[str, int] = field(default_factory=dict)
    fallback: str = ""
