"""Numbers for people, against what Prometheus prints."""

import math

import pytest

from tocsin_alerting.rules import humanize

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-1, "-1"), (0.5, "500m"), (999999, "1000k"), (1e6, "1M"), (1e22, "10Z"),
     (2.5e-7, "250n"), (1e-30, "1e-06y"), (1e30, "1e+06Y"), (INF, "+Inf"), (-INF, "-Inf"),
     (NAN, "NaN"), (-1234567, "-1.235M")],
)  # fmt: skip
def test_humanize(value: float, text: str) -> None:
    assert humanize.humanize(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (0.0001, "0.0001"), (1024, "1ki"), (1048576, "1Mi"), (123456, "120.6ki"),
     (-2048, "-2ki"), (1e20, "86.74Ei"), (INF, "+Inf")],
)  # fmt: skip
def test_humanize1024(value: float, text: str) -> None:
    assert humanize.humanize1024(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.99, "59.99s"), (60, "1m 0s"), (3661, "1h 1m 1s"), (90061.7, "1d 1h 1m 1s"),
     (0.00123, "1.23ms"), (2.5e-7, "250ns"), (-1, "-1s"), (-3661, "-1h 1m 1s"), (NAN, "NaN"),
     (1e20, "-106751991167300d -15h -30m -8s")],
)  # fmt: skip
def test_humanize_duration(seconds: float, text: str) -> None:
    assert humanize.humanize_duration(seconds) == text


def test_a_percentage_takes_a_ratio() -> None:
    assert humanize.humanize_percentage(0.0512) == "5.12%"
    assert humanize.humanize_percentage(100) == "1e+04%"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1643114203, "2022-01-25 12:36:43 +0000 UTC"), (-1, "1969-12-31 23:59:59 +0000 UTC"),
     (59.99, "1970-01-01 00:00:59.99 +0000 UTC"), (3.14159265, "1970-01-01 00:00:03.141 +0000 UTC"),
     (INF, "+Inf")],
)  # fmt: skip
def test_a_timestamp_is_gos(seconds: float, text: str) -> None:
    assert humanize.humanize_timestamp(seconds) == text


def test_a_time_beyond_int64_nanoseconds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1e\+20 cannot be represented as a nanoseconds"):
        humanize.humanize_timestamp(1e20)


@pytest.mark.parametrize(
    ("value", "text"),
    [(123456.0, "123456"), (1048576.0, "1.048576e+06"), (1e-5, "1e-05"), (1e-4, "0.0001"),
     (7.0, "7"), (0.1 + 0.2, "0.30000000000000004"), (-0.0, "-0"), (INF, "+Inf"), (NAN, "NaN")],
)  # fmt: skip
def test_the_shortest_text_is_gos(value: float, text: str) -> None:
    assert humanize.shortest(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0E+00"), (6.0, "6E+00"), (1.5e-7, "1.5E-07"), (-120.0, "-1.2E+02")]
)
def test_scientific_is_gos(value: float, text: str) -> None:
    assert humanize.scientific(value, "E") == text


def test_only_numbers_and_their_texts_are_numbers() -> None:
    assert humanize.to_float("1e3") == humanize.to_float(1000) == 1000.0
    with pytest.raises(ValueError, match='strconv.ParseFloat: parsing "abc": invalid syntax'):
        humanize.to_float("abc")
    with pytest.raises(ValueError, match="can't convert template.queryResult to float"):
        humanize.to_float([])
