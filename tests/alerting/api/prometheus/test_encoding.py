"""Numbers as Go writes them: the oracle is the decimal module, and values that Go printed."""

import json
import math
import re
import sys
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.api.prometheus.encoding import (
    PIECE_BYTES,
    data_body,
    format_value,
    list_body,
    query_body,
    unix_seconds,
)
from tocsin_alerting.promql.result import InstantVector, Matrix, Result, ScalarValue, Track
from tocsin_alerting.strconv import exponent, format_number

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
    assert format_value(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_plain_numbers_are_the_shortest_that_read_back(value: float) -> None:
    text = format_number(value)
    assert float(text) == value
    assert math.copysign(1, float(text)) == math.copysign(1, value)
    assert re.fullmatch(r"-?(0|[1-9]\d*)(\.\d*[1-9])?", text)
    assert Decimal(text) == Decimal(repr(value))  # repr is the shortest, as in Go


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_samples_read_back_whatever_their_form(value: float) -> None:
    text = format_value(value)
    far = value != 0 and not 1e-6 <= abs(value) < 1e21
    assert text == (exponent(value) if far else format_number(value))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_scientific_numbers_are_the_shortest_that_read_back(value: float) -> None:
    text = exponent(value)
    assert re.fullmatch(r"-?\d(\.\d*[1-9])?e[+-]\d\d+", text)
    assert Decimal(text) == Decimal(repr(value))
    assert math.copysign(1, float(text)) == math.copysign(1, value)


def texts_in_a_matrix(*series: list[float]) -> list[list[str]]:
    tracks = (Track((), np.arange(len(one)) * 500, np.array(one)) for one in series)
    (body,) = query_body(Result(Matrix(tuple(tracks))))
    rows = [one["values"] for one in json.loads(body)["data"]["result"]]
    assert [[at for at, _ in row] for row in rows] == [[i / 2 for i in range(len(r))] for r in rows]
    return [[text for _, text in row] for row in rows]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_the_numbers_of_a_series_are_written_as_each_of_them_alone(values: list[float]) -> None:
    assert texts_in_a_matrix(values) == [[format_value(value) for value in values]]


def test_series_with_other_times_and_with_odd_numbers_stand_side_by_side() -> None:
    series = [[1.0, -0.0, 100.05], [10.0], [math.nan, 1e22, 0.5], [], [1e-7, math.inf]]
    assert texts_in_a_matrix(*series) == [
        ["1", "-0", "100.05"],
        ["10"],
        ["NaN", "1e+22", "0.5"],
        [],
        ["1e-07", "+Inf"],
    ]


TIMES = st.lists(
    st.one_of(st.integers(-(2**62), 2**62), st.integers(-(10**6), 10**6).map(lambda s: s * 1000)),
    max_size=4,
)


@given(st.lists(TIMES, min_size=1, max_size=4), st.booleans())
def test_times_in_a_matrix_are_written_as_each_of_them_alone(
    series: list[list[int]], twice: bool
) -> None:
    series = [one for one in series for _ in range(1 + twice)]  # equal times, not the same array
    tracks = tuple(Track((), np.array(one, np.int64), np.ones(len(one))) for one in series)
    body = b"".join(query_body(Result(Matrix(tracks))))
    for one in series:
        pairs = ",".join(f'[{json.dumps(unix_seconds(at))},"1"]' for at in one)
        assert f'"values":[{pairs}]'.encode() in body
    assert body.count(b'"1"') == sum(map(len, series))


def test_ten_notes_of_a_kind_are_told_and_the_others_counted() -> None:
    notes = tuple(f"note {i}" for i in range(12))
    result = Result(ScalarValue(0, 1.0), warnings=notes[:10], infos=notes)
    body = json.loads(b"".join(query_body(result)))
    assert body["warnings"] == list(notes[:10])
    assert body["infos"] == [*notes[:10], "2 more info annotations omitted"]


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (0, "0"),
        (1_795_271_400_000, "1795271400"),
        (1_795_271_400_120, "1795271400.12"),
        (-1, "-0.001"),
    ],
)
def test_whole_seconds_have_no_fraction(at_ms: int, text: str) -> None:
    body = b"".join(query_body(Result(ScalarValue(at_ms, 1.0))))
    assert f'"result":[{text},"1"]'.encode() in body


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_many_small_rows_are_one_list(count: int) -> None:
    rows = [{"name": str(row)} for row in range(count)]
    assert json.loads(b"".join(list_body(rows, lambda: 0))) == {"status": "success", "data": rows}
    labels = tuple((("n", str(row)),) for row in range(count))
    vector = InstantVector(2000, labels, np.arange(count) / 2)
    answer = json.loads(b"".join(query_body(Result(vector))))["data"]["result"]
    assert [(one["metric"]["n"], one["value"]) for one in answer] == [
        (str(row), [2, format_value(row / 2)]) for row in range(count)
    ]


def test_the_memory_of_a_result_is_its_numbers_and_its_labels() -> None:
    """At least what Python says that it takes; times that several series have are there once."""
    rows = [(("n", str(number)), ("text", "x" * 1000)) for number in range(100)]
    times = np.arange(1000)
    tracks = tuple(Track(one, times, np.zeros(1000)) for one in rows)
    texts = sum(sys.getsizeof(pair[1]) for one in rows for pair in one)
    arrays = times.nbytes + sum(sys.getsizeof(one.values) for one in tracks)
    held = query_body(Result(Matrix(tracks))).size()
    assert texts + arrays <= held <= 2 * (texts + arrays)
    vector = InstantVector(0, tuple(rows), np.zeros(100))
    assert texts + vector.values.nbytes <= query_body(Result(vector)).size() <= 3 * texts


def test_a_whole_body_comes_in_pieces_and_counts() -> None:
    body = data_body("x" * 3 * PIECE_BYTES)
    pieces = list(body)
    assert max(map(len, pieces)) == PIECE_BYTES and sum(map(len, pieces)) == body.size()
    assert json.loads(b"".join(pieces))["data"] == "x" * 3 * PIECE_BYTES
