"""The series below a plot."""

import math
import sys

import pytest

from tocsin_alerting.cli.legend import Line, fitted, legend, most_important


def line(*values: float, **labels: str) -> Line:
    return Line(labels, list(enumerate(values)))


LARGEST = sys.float_info.max


@pytest.mark.parametrize(
    ("values", "last", "low", "high", "average"),
    [
        ((1.0, 4.0, 1.0), 1, 1, 4, 2),
        ((1.0, math.nan, 3.0), 3, 1, 3, 2),
        ((LARGEST, LARGEST, LARGEST), LARGEST, LARGEST, LARGEST, LARGEST),
        ((1.0, math.inf), math.inf, 1, math.inf, math.inf),
    ],
)
def test_the_four_values(
    values: tuple[float, ...], last: float, low: float, high: float, average: float
) -> None:
    assert line(*values).summary() == pytest.approx((last, low, high, average))


def test_the_last_value_may_be_none_that_is_a_number() -> None:
    last, low, high, average = line(5, math.nan).summary()
    assert math.isnan(last)
    assert (low, high, average) == (5, 5, 5)
    assert all(math.isnan(one) for one in line(math.nan).summary())
    assert all(math.isnan(one) for one in line().summary())


def test_the_highest_is_the_most_important() -> None:
    lines = [line(math.nan), line(1, 2), line(-math.inf), line(9, 0), line(3, math.nan)]
    assert most_important(lines) == [lines[at] for at in (3, 4, 1, 2, 0)]


def test_what_all_have_is_said_once() -> None:
    lines = [line(1, a="x", b="1", __name__="m"), line(10, a="x", b="2", __name__="m")]
    assert legend(lines, "number", 60, plain=True) == [
        'all m{a="x"}',
        "  LAST  MIN  MAX  AVG  SERIES",
        '*    1    1    1    1  {b="1"}',
        '+   10   10   10   10  {b="2"}',
    ]
    assert legend(lines[:1], "seconds", 30, plain=True) == [
        '* m{a="x", b="1"}',
        "  last 1s min 1s max 1s avg 1s",
    ]


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [("abc", 3, "abc"), ("abcd", 3, "ab~"), ("日志日志", 5, "日志~"), ("日志日志", 4, "日~"),
     ("a", 0, ""), ("ab", 1, "~")],
)  # fmt: skip
def test_what_was_cut_is_marked(text: str, width: int, shown: str) -> None:
    assert fitted(text, width) == shown
