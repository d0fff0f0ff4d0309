"""The notation of series and values in unit tests of rules."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.rules.series_notation import (
    STALE,
    NotationError,
    Value,
    parse_metric,
    parse_series_notation,
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("5", [5.0]),
        ("1 2\n  3.5 -4 +.5 1e3", [1.0, 2.0, 3.5, -4.0, 0.5, 1000.0]),
        ("0+1x3", [0.0, 1.0, 2.0, 3.0]),
        ("10-2x2", [10.0, 8.0, 6.0]),
        ("-1+1x1", [-1.0, 0.0]),
        ("7x2", [7.0, 7.0, 7.0]),
        ("0x3", [0.0, 0.0, 0.0, 0.0]),  # no hexadecimal number
        ("1e-3x1", [0.001, 0.001]),
        ("_ _x2 1", [None, None, None, 1.0]),
        ("1 stale stalex1", [1.0, STALE, STALE, STALE]),
        ("stale+0x1 2", [STALE, math.nan, 2.0]),
        ("Inf -Inf +inf", [math.inf, -math.inf, math.inf]),
        ("_x0 1x0", [1.0]),
    ],
)
def test_values(text: str, values: list[Value]) -> None:
    assert parse_series_notation(text) == values


def test_a_step_is_added_again_and_again_as_prometheus_rounds() -> None:
    assert parse_series_notation("0+0.1x8")[8] == sum([0.1] * 8) != 0.1 * 8
    assert math.isnan(float(parse_series_notation("NaN")[0] or 0))


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("1 two", 2), ("1+1", 0), ("1x", 0), ("_+1x2", 0), ("1 x3", 2),
        ("1 {{schema:0 sum:3 count:4}}x3", 2), ("1 5x2000000", 2), ("0+1x1.5", 0), ("1,2", 0),
        ("1--1x2", 0), ("0.5.5x2", 0),
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused_with_its_place(text: str, offset: int) -> None:
    with pytest.raises(NotationError) as caught:
        parse_series_notation(text)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("m", (("__name__", "m"),)),
        ("a:b{}", (("__name__", "a:b"),)),
        ("{}", ()),
        ("m{b=\"2\", a='1',}", (("__name__", "m"), ("a", "1"), ("b", "2"))),
        ('{__name__="m", x="a,}\\"b"}', (("__name__", "m"), ("x", 'a,}"b'))),
        ('m{a="", c=`\\d`}', (("__name__", "m"), ("c", "\\d"))),
    ],
)
def test_series(text: str, labels: tuple[tuple[str, str], ...]) -> None:
    assert parse_metric(text) == labels


@pytest.mark.parametrize("text", ["m{", "m{a=1}", 'm{a="1" b="2"}', "m n", "1m", 'm{a="1"}x'])
def test_what_is_no_series_is_refused(text: str) -> None:
    with pytest.raises(NotationError):
        parse_metric(text)


@given(st.text(max_size=30))
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    for parse in (parse_series_notation, parse_metric):
        try:
            parse(text)
        except NotationError as error:
            assert 0 <= error.offset <= len(text)


def test_quoted_names_are_prometheus_3s() -> None:
    labels = (("__name__", "a.b"), ("c", "e"), ("c.d", "x"))
    assert parse_metric('{"a.b", "c.d"="x", c="e"}', quoted=True) == labels
    with pytest.raises(NotationError):
        parse_metric('{"a.b"}')
