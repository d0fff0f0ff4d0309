"""Numbers for people."""

import math
import sys
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tocsin_alerting.units import UNITS, human, unit_of, value_axis

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0, "number", "0"),
        (-0.0, "bytes", "0B"),
        (42.0, "number", "42"),
        (0.0125, "number", "0.0125"),
        (0.00001234, "number", "1.234e-05"),
        (1234567.0, "number", "1.235M"),
        (-1500.0, "number", "-1.5k"),
        (1.5e27, "number", "1.5e+27"),
        (1023.0, "bytes", "1023B"),
        (6.5 * 2**30, "bytes", "6.5GiB"),
        (0.0125, "seconds", "12.5ms"),
        (90.0, "seconds", "1.5min"),
        (3e-7, "seconds", "300ns"),
        (172_800.0, "seconds", "2d"),
        (0.851, "ratio", "85.1%"),
        (math.nan, "bytes", "NaN"),
        (math.inf, "ratio", "+Inf"),
        (-math.inf, "number", "-Inf"),
    ],
)
def test_a_value(value: float, unit: str, shown: str) -> None:
    assert human(value, unit) == shown


@pytest.mark.parametrize(
    ("names", "unit"),
    [
        ({"node_memory_MemFree_bytes"}, "bytes"),
        ({"a_bytes_total", "b_bytes"}, "bytes"),
        ({"node_cpu_seconds_total"}, "seconds"),
        ({"llm_kv_cache_usage_ratio"}, "ratio"),
        ({"process_start_time_seconds"}, "number"),
        ({"x_timestamp_seconds"}, "number"),
        ({"a_bytes", "b_seconds"}, "number"),
        ({"a_bytes", ""}, "number"),
        (set(), "number"),
    ],
)
def test_the_unit_that_the_names_say(names: set[str], unit: str) -> None:
    assert unit_of(names) == unit


@pytest.mark.parametrize(
    ("low", "high", "unit", "shown"),
    [
        (0, 1, "number", ["0.0", "0.5", "1.0"]),
        (0.2, 0.9, "ratio", ["0%", "50%", "100%"]),
        (2.1e9, 6e9, "bytes", ["0GiB", "2GiB", "4GiB", "6GiB"]),
        (5, 5, "number", ["0", "2", "4", "6"]),
        (0, 0, "number", ["0.0", "0.5", "1.0"]),
        (-3, -3, "number", ["-3", "-2", "-1", "0"]),
        (1000, 1010, "number", ["1.000k", "1.005k", "1.010k"]),
        (-1500, 1500, "number", ["-2k", "-1k", "0k", "1k", "2k"]),
        (0.010, 0.030, "seconds", ["0ms", "10ms", "20ms", "30ms"]),
        (1e-30, 2e-30, "number", ["0e-30", "1e-30", "2e-30"]),
    ],
)
def test_the_values_on_an_axis(low: float, high: float, unit: str, shown: list[str]) -> None:
    assert [label for _, label in value_axis(low, high, 3, unit)] == shown


@given(FINITE, FINITE, st.integers(1, 10), st.sampled_from(sorted(UNITS)))
@example(-sys.float_info.max, sys.float_info.max, 3, "number")
@example(5e-324, 1e-323, 3, "bytes")
@example(1.0, math.nextafter(1.0, 2.0), 3, "seconds")
def test_an_axis_holds_what_it_is_of(low: float, high: float, intervals: int, unit: str) -> None:
    low, high = min(low, high), max(low, high)
    axis = value_axis(low, high, intervals, unit)
    values = [value for value, _ in axis]
    assert values[0] <= Decimal(str(low)) <= Decimal(str(high)) <= values[-1]
    assert values == sorted(set(values))
    assert 2 <= len(axis) <= intervals + 3
    assert len({label for _, label in axis}) == len(axis)
    assert max(len(label) for _, label in axis) <= 19
