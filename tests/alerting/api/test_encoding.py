"""Numbers as Go writes them: the oracle is the decimal module, and values that Go printed."""

import math
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.api.encoding import exponent, number
from tocsin_alerting.promql.numbers import format_number

# From Go 1.20: strconv.FormatFloat(v, 'f', -1, 64) and strconv.FormatFloat(v, 'e', -1, 64).
GO = [
    (0.0, "0", "0e+00"),
    (-0.0, "-0", "-0e+00"),
    (1.0, "1", "1e+00"),
    (-1.5, "-1.5", "-1.5e+00"),
    (42.0, "42", "4.2e+01"),
    (100.0, "100", "1e+02"),
    (0.1, "0.1", "1e-01"),
    (1 / 3, "0.3333333333333333", "3.333333333333333e-01"),
    (1e21, "1000000000000000000000", "1e+21"),
    (123456789.125, "123456789.125", "1.23456789125e+08"),
    (1e-7, "0.0000001", "1e-07"),
    (1.5e-10, "0.00000000015", "1.5e-10"),
    (1e100, "1" + "0" * 100, "1e+100"),
    (2.0**53, "9007199254740992", "9.007199254740992e+15"),
    (2.0**53 + 2, "9007199254740994", "9.007199254740994e+15"),
    (1e15, "1000000000000000", "1e+15"),
    (123456789012345680.0, "123456789012345680", "1.2345678901234568e+17"),
    (5e-324, "0." + "0" * 323 + "5", "5e-324"),
    (1.7976931348623157e308, "17976931348623157" + "0" * 292, "1.7976931348623157e+308"),
    (math.inf, "+Inf", "+Inf"),
    (-math.inf, "-Inf", "-Inf"),
    (math.nan, "NaN", "NaN"),
]


@pytest.mark.parametrize(("value", "short", "scientific"), GO)
def test_values_that_go_printed(value: float, short: str, scientific: str) -> None:
    assert format_number(value) == short
    assert exponent(value) == scientific


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-6, "0.000001"),
        (9.99e-7, "9.99e-07"),
        (-1e21, "-1e+21"),
        (999999999999999900000.0, "999999999999999900000"),
        (0.0, "0"),
        (-0.0, "-0"),
        (math.nan, "NaN"),
        (-math.inf, "-Inf"),
    ],
)
def test_samples_have_an_exponent_where_prometheus_gives_them_one(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_plain_numbers_are_the_shortest_that_read_back(value: float) -> None:
    text = format_number(value)
    assert float(text) == value
    assert math.copysign(1, float(text)) == math.copysign(1, value)
    assert re.fullmatch(r"-?(0|[1-9]\d*)(\.\d*[1-9])?", text)
    assert Decimal(text) == Decimal(repr(value))  # repr is the shortest, as in Go


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_samples_read_back_whatever_their_form(value: float) -> None:
    text = number(value)
    far = value != 0 and not 1e-6 <= abs(value) < 1e21
    assert text == (exponent(value) if far else format_number(value))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_scientific_numbers_are_the_shortest_that_read_back(value: float) -> None:
    text = exponent(value)
    assert re.fullmatch(r"-?\d(\.\d*[1-9])?e[+-]\d\d+", text)
    assert Decimal(text) == Decimal(repr(value))
    assert math.copysign(1, float(text)) == math.copysign(1, value)
