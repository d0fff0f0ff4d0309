"""Numbers as Prometheus's templates print them for people (template/template.go, fmt's %.4g)."""

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tocsin_alerting.rules.template_data import Stringer, go_type

_LARGE = ("k", "M", "G", "T", "P", "E", "Z", "Y")
_SMALL = ("m", "u", "n", "p", "f", "a", "z", "y")
_BINARY = ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
_MIN_INT64, _MAX_INT64 = -(1 << 63), (1 << 63) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NotFinite(ValueError):
    """NaN or an infinity where a time is wanted."""

    def __init__(self) -> None:
        super().__init__("value is NaN or Inf")


def to_float(value: object) -> float:
    """A template's number or text as a float. Raises ValueError in Go's words."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError(f'strconv.ParseFloat: parsing "{value}": invalid syntax') from None
    if isinstance(value, int | float) and not isinstance(value, bool | Stringer):
        return float(value)
    raise ValueError(f"can't convert {go_type(value)} to float")


def shortest(value: float) -> str:
    """Go's %v of a float64: 123456, 1e+06, 1e-05, +Inf, NaN."""
    if not math.isfinite(value):
        return four_digits(value)
    number = Decimal(repr(value)).normalize()
    if value == 0 or -4 <= number.adjusted() < 6:
        return f"{number:f}"
    return scientific(value)


def scientific(value: float, mark: str = "e") -> str:
    """Go's %e with the fewest digits that tell the number apart: 1e+00, 1.5e-07."""
    if not math.isfinite(value):
        return four_digits(value)
    sign, digits, _ = (number := Decimal(repr(value)).normalize()).as_tuple()
    exponent = 0 if value == 0 else number.adjusted()
    fraction = "".join(map(str, digits[1:]))
    point = "." if fraction else ""
    return f"{'-' * sign}{digits[0]}{point}{fraction}{mark}{exponent:+03d}"


def four_digits(value: float) -> str:
    """Go's %.4g."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return f"{value:.4g}"


def humanize(value: float) -> str:
    """With an SI prefix: 1234567 is 1.235M."""
    if value == 0 or not math.isfinite(value):
        return four_digits(value)
    if abs(value) >= 1:
        return "".join(_scaled_down(value, 1000, _LARGE))
    return "".join(_scaled_up(value))


def humanize1024(value: float) -> str:
    """With a binary prefix: 123456 is 120.6ki."""
    if abs(value) <= 1 or not math.isfinite(value):
        return four_digits(value)
    return "".join(_scaled_down(value, 1024, _BINARY))


def humanize_duration(seconds: float) -> str:
    """1d 1h 1m 1s, 59.99s or 1.23ms."""
    if not math.isfinite(seconds):
        return four_digits(seconds)
    if seconds == 0:
        return "0s"
    if abs(seconds) < 1:
        return "".join(_scaled_up(seconds)) + "s"
    sign, length = ("-", -seconds) if seconds < 0 else ("", seconds)
    return sign + (_clock(_int64(length)) or f"{length:.4g}s")


def humanize_percentage(ratio: float) -> str:
    """0.05 is 5%; the argument is a ratio, not a percentage."""
    return f"{four_digits(ratio * 100)}%"


def humanize_timestamp(seconds: float) -> str:
    """A Unix time as Go prints a time.Time in UTC; NaN and infinities as they are."""
    if not math.isfinite(seconds):
        return four_digits(seconds)
    moment = to_datetime(seconds)
    fraction = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def to_datetime(seconds: float) -> datetime:
    """A Unix time to the millisecond. Raises NotFinite, or ValueError outside int64 nanoseconds."""
    return _EPOCH + timedelta(milliseconds=to_millis(seconds))


def to_millis(seconds: float) -> int:
    """Unix milliseconds, cut towards zero. Raises as `to_datetime` does."""
    if not math.isfinite(seconds):
        raise NotFinite
    nanoseconds = seconds * 1e9
    if not _MIN_INT64 <= nanoseconds <= _MAX_INT64:
        raise ValueError(
            f"{shortest(seconds)} cannot be represented as a nanoseconds timestamp"
            " since it overflows int64"
        )
    return math.trunc(int(nanoseconds) / 10**6)


def _scaled_down(value: float, base: int, prefixes: tuple[str, ...]) -> tuple[str, str]:
    chosen = ""
    for prefix in prefixes:
        if abs(value) < base:
            break
        chosen, value = prefix, value / base
    return f"{value:.4g}", chosen


def _scaled_up(value: float) -> tuple[str, str]:
    chosen = ""
    for prefix in _SMALL:
        if abs(value) >= 1:
            break
        chosen, value = prefix, value * 1000
    return f"{value:.4g}", chosen


def _int64(value: float) -> int:
    """Go's conversion on amd64: what does not fit becomes the smallest integer."""
    whole = math.trunc(value)
    return whole if _MIN_INT64 <= whole <= _MAX_INT64 else _MIN_INT64


def _clock(whole: int) -> str:
    """Days to seconds of a duration of a minute or more; each part keeps the sign, as in Go."""
    sign, rest = (-1, -whole) if whole < 0 else (1, whole)
    minutes, hours = rest // 60, rest // 3600
    parts = [(hours // 24, "d"), (hours % 24, "h"), (minutes % 60, "m"), (rest % 60, "s")]
    while parts and not parts[0][0]:
        parts.pop(0)
    if len(parts) < 2:
        return ""
    return " ".join(f"{sign * number}{unit}" for number, unit in parts)
