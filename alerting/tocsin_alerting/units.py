"""Numbers for people: 6.2GiB, 85.1%, 12.5ms, 1.24M."""

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import count, takewhile
from types import MappingProxyType

Scale = tuple[Decimal, str]
"""What one of a unit is worth, and how it is written behind a number."""

_NUMBERS = [(Decimal(1000) ** power, suffix) for power, suffix in enumerate(["", *"kMGTPE"])]
_BYTES = [(Decimal(1024) ** power, f"{suffix}B") for power, suffix in enumerate(
    ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])]  # fmt: skip
_SECONDS = [
    (Decimal(worth), suffix)
    for worth, suffix in (
        ("1e-9", "ns"), ("1e-6", "us"), ("1e-3", "ms"), ("1", "s"),
        ("60", "min"), ("3600", "h"), ("86400", "d"),
    )
]  # fmt: skip
UNITS: Mapping[str, Sequence[Scale]] = MappingProxyType(
    {
        "number": _NUMBERS,
        "bytes": _BYTES,
        "seconds": _SECONDS,
        "ratio": [(Decimal("0.01"), "%")],
    }
)
SUFFIXES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        **{unit: (unit, "") for unit in UNITS},
        "celsius": ("number", " °C"),
        "watts": ("number", " W"),
        "percent": ("number", "%"),
        "mebibytes": ("number", " MiB"),
        "seconds/s": ("ratio", ""),
        "bytes/s": ("bytes", "/s"),
        "number/s": ("number", "/s"),
        "tokens/s": ("number", " tok/s"),
    }
)
"""Of each unit in messages, what its numbers are written in, and what follows them."""
_DIGITS = 9
"""More than these are told apart by nobody; an axis has no finer steps."""


def unit_of(names: set[str]) -> str:
    """The unit that all of these metric names end with: Prometheus's naming convention."""
    stems = {name.removesuffix("_total") for name in names}
    for unit in ("bytes", "seconds", "ratio"):
        moments = unit == "seconds" and any(_is_moment(stem) for stem in stems)
        if stems and not moments and all(stem.endswith(f"_{unit}") for stem in stems):
            return unit
    return "number"


def _is_moment(stem: str) -> bool:
    return stem.endswith(("time_seconds", "timestamp_seconds"))


def scale(magnitude: Decimal, unit: str) -> Scale:
    """The largest of a unit's scales that is not above `magnitude`; for what is out of their
    reach, a power of ten."""
    scales = UNITS[unit]
    fitting = [candidate for candidate in scales if candidate[0] <= magnitude] or scales[:1]
    worth, suffix = fitting[-1]
    if magnitude == 0 or Decimal("0.001") <= magnitude / worth < 10_000:
        return worth, suffix
    power = (magnitude / scales[0][0]).adjusted()
    return scales[0][0].scaleb(power), f"e{power:+03d}{scales[0][1]}"


def human(value: float, unit: str) -> str:
    """Four digits at most. Not a number is `NaN`, the infinities are `+Inf` and `-Inf`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    exact = Decimal(value)
    worth, suffix = scale(abs(exact), unit)
    return f"{float(exact / worth):z.4g}{suffix}"


def value_axis(low: float, high: float, intervals: int, unit: str) -> list[tuple[Decimal, str]]:
    """Round values from `low` or below to `high` or above, and how they are written.

    Zero is among them where that costs no more than half of the height, and where all values are
    the same. At most `intervals` lie between the first and the last, and two more at the ends.
    """
    lowest, highest = Decimal(str(low)), Decimal(str(high))  # as they are written: 0.3 is 3/10
    worth, suffix = scale(max(abs(lowest), abs(highest)), unit)
    first, last = _with_zero(lowest / worth, highest / worth)
    finest = Decimal(1).scaleb(max(abs(first), abs(last)).adjusted() - _DIGITS + 1)
    each = max(_round_step((last - first) / max(1, intervals)), finest)
    bottom = (first / each).to_integral_value(ROUND_FLOOR)
    top = max((last / each).to_integral_value(ROUND_CEILING), bottom + 1)
    digits = max(0, -int(each.normalize().as_tuple().exponent))
    steps = takewhile(lambda step: step <= top, (bottom + number for number in count()))
    return [(step * each * worth, f"{step * each:z.{digits}f}{suffix}") for step in steps]


def _with_zero(low: Decimal, high: Decimal) -> tuple[Decimal, Decimal]:
    span = high - low
    if low == high == 0:
        return Decimal(0), Decimal(1)
    if low == high or 0 < low <= span or 0 < -high <= span:
        return min(low, Decimal(0)), max(high, Decimal(0))
    return low, high


def _round_step(least: Decimal) -> Decimal:
    """1, 2 or 5 times a power of ten, and not below `least`, which is above 0."""
    power = least.adjusted()
    return next(step for step in (Decimal(n).scaleb(power) for n in (1, 2, 5, 10)) if step >= least)


def with_unit(value: float, unit: str) -> str:
    """`92%`, `1.2s`, `83 °C`, `1.2MiB/s`; a unit that is not known says nothing."""
    written, suffix = SUFFIXES.get(unit, ("number", ""))
    return human(value, written) + suffix
