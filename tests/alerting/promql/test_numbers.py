import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.promql.parser.numbers import format_number, parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("10", 10), ("010", 8), ("08", 8), ("0x1f", 31), ("0X_1_F", 31), ("1_000.5", 1000.5),
     (".5", 0.5), ("5.", 5), ("1e3", 1000), ("1E-2", 0.01), ("9223372036854775808", 2.0**63),
     ("iNf", math.inf)],
)  # fmt: skip
def test_literals_are_read_as_go_reads_them(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    ("text", "what"),
    [("0x", "invalid syntax"), ("1e999", "value out of range"), ("", "invalid syntax"),
     ("0xffffffffffffffffff", "invalid syntax"),
     ("9" * 5000, "value out of range")],
)  # fmt: skip
def test_what_is_no_number_is_refused_in_the_words_of_go(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=f'strconv.ParseFloat: parsing "{text}": {what}'):
        parse_number(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (-0.0, "-0"), (1e21, "1" + "0" * 21), (1e-7, "0.0000001"), (0.1, "0.1"),
     (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (100.0, "100")],
)  # fmt: skip
def test_numbers_are_printed_without_exponents(value: float, text: str) -> None:
    assert format_number(value) == text


@given(st.floats(min_value=0, allow_infinity=False))
def test_a_printed_number_reads_back(value: float) -> None:
    assert parse_number(format_number(value)) == value
