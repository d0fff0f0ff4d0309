"""Durations: `1h30m` as text, milliseconds as numbers, and the arithmetic on them."""

import math
import re

from tocsin_alerting.promql.parser.ast import (
    Duration,
    DurationExpr,
    DurationOp,
    NumberLiteral,
    PositionRange,
)
from tocsin_alerting.promql.parser.quoting import quote

_UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_TEXT = re.compile("".join(f"(?:([0-9]+){unit})?" for unit in _UNITS_MS))
LONGEST_S = 2**63 / 1e9
"""A duration counts at most as many nanoseconds as 64 bits hold, as in Prometheus."""


class InvalidDuration(ValueError):
    """A duration expression without a usable value; `span` is its place in the query."""

    def __init__(self, message: str, span: PositionRange) -> None:
        self.span = span
        super().__init__(message)


def parse_duration(text: str) -> int:
    """Milliseconds of `1d2h`: each unit at most once, the largest first.

    Raises ValueError in Prometheus's words.
    """
    match = _TEXT.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"not a valid duration string: {quote(text)}")
    # Python refuses to read integers of thousands of digits; 20 are too many already.
    if any(len(amount or "") > 20 for amount in match.groups()):
        raise ValueError("duration out of range")
    amounts = zip(match.groups(), _UNITS_MS.values(), strict=True)
    total = sum(int(amount) * unit for amount, unit in amounts if amount)
    if total / 1000 > LONGEST_S:
        raise ValueError("duration out of range")
    return total


def format_duration(ms: int) -> str:
    """The canonical text; years and weeks only where they leave nothing over."""
    if ms == 0:
        return "0s"
    text, rest = "-" if ms < 0 else "", abs(ms)
    for unit, size in _UNITS_MS.items():
        if unit in ("y", "w") and rest % size:
            continue
        amount, rest = divmod(rest, size)
        text += f"{amount}{unit}" if amount else ""
    return text


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, cut off like Prometheus's, but not for the error of a float."""
    return math.trunc(round(seconds * 1000, 3))


def resolve(duration: Duration, step_ms: int, range_ms: int, negative: bool = False) -> int:
    """Milliseconds of a duration in a query of this step and range; `negative` ones are offsets.

    Raises InvalidDuration.
    """
    if isinstance(duration, int):
        return duration
    seconds = _seconds(duration, step_ms / 1000, range_ms / 1000)
    if not math.isfinite(seconds):
        raise InvalidDuration("duration is NaN or infinite", duration.span)
    if seconds <= 0 and not negative:
        raise InvalidDuration("duration must be greater than 0", duration.span)
    if abs(seconds) > LONGEST_S:
        raise InvalidDuration("duration is out of range", duration.span)
    return math.trunc(seconds * 1000)


def _seconds(node: NumberLiteral | DurationExpr | None, step: float, range_: float) -> float:
    if node is None:
        return 0.0
    if isinstance(node, NumberLiteral):
        return node.value
    if node.op is DurationOp.STEP:
        return step
    if node.op is DurationOp.RANGE:
        return range_
    return _apply(node, _seconds(node.lhs, step, range_), _seconds(node.rhs, step, range_))


def _apply(node: DurationExpr, lhs: float, rhs: float) -> float:
    match node.op:
        case DurationOp.ADD:
            return lhs + rhs
        case DurationOp.SUB:
            return lhs - rhs
        case DurationOp.MUL:
            return lhs * rhs
        case DurationOp.MIN_OF:
            return min(lhs, rhs)
        case DurationOp.MAX_OF:
            return max(lhs, rhs)
        case DurationOp.POW:
            return _power(lhs, rhs)
        case _:
            return _divide(node, lhs, rhs)


def _divide(node: DurationExpr, lhs: float, rhs: float) -> float:
    if rhs == 0:
        what = "division" if node.op is DurationOp.DIV else "modulo"
        raise InvalidDuration(f"{what} by zero", node.span)
    return lhs / rhs if node.op is DurationOp.DIV else math.fmod(lhs, rhs)


def _power(base: float, exponent: float) -> float:
    """IEEE 754's pow, where Python raises: out of range is infinite, a complex root is NaN."""
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.inf if base == 0 else math.nan
