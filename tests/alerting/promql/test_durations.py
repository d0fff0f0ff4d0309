import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.promql.parser.ast import Duration, MatrixSelector, VectorSelector
from tocsin_alerting.promql.parser.durations import (
    InvalidDuration,
    milliseconds,
    resolve,
)
from tocsin_alerting.promql.parser.parser import parse

HOUR = 3_600_000


@given(st.integers(0, 9 * 10**12))
def test_seconds_become_the_same_milliseconds(ms: int) -> None:
    assert milliseconds(ms / 1000) == ms


def window(query: str) -> Duration:
    parsed = parse(query)
    assert isinstance(parsed, MatrixSelector)
    return parsed.range


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("5m", 300_000),
        ("5m + 30", 330_000),
        ("1h - 2 * 5m", 3_000_000),
        ("(1h - 50m) * 2", 1_200_000),
        ("1h / 7", 514_285),
        ("1h % 7m", 240_000),
        ("2 ^ 3", 8_000),
        ("step() * 2", 30_000),
        ("range() + step()", 3_615_000),
        ("max_of(step(), 1m)", 60_000),
        ("min_of(step(), 1m)", 15_000),
        ("-(-5m)", 300_000),
    ],
)
def test_arithmetic_is_resolved_for_a_step_and_a_range(text: str, ms: int) -> None:
    assert resolve(window(f"a[{text}]"), step_ms=15_000, range_ms=HOUR) == ms


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5m - 1h", "duration must be greater than 0"),
        ("step() - 15s", "duration must be greater than 0"),
        ("5m / (step() - 15)", "division by zero"),
        ("5m % (step() - 15)", "modulo by zero"),
        ("10 ^ 300", "duration is out of range"),
        ("10 ^ 400", "duration is NaN or infinite"),
        ("(-1s) ^ 0.5", "duration is NaN or infinite"),
        ("(step() - 15) ^ (-1)", "duration is NaN or infinite"),
    ],
)
def test_what_has_no_value_says_where(text: str, message: str) -> None:
    with pytest.raises(InvalidDuration, match=message) as refused:
        resolve(window(f"a[{text}]"), step_ms=15_000, range_ms=HOUR)
    assert refused.value.span.start >= 2


def test_an_offset_may_be_negative() -> None:
    parsed = parse("a offset -(step() + 1m)")
    assert isinstance(parsed, VectorSelector)
    assert resolve(parsed.offset, 15_000, 0, negative=True) == -75_000
    assert math.isclose(resolve(parsed.offset, 1, 0, negative=True), -60_001)
