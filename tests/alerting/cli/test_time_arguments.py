"""Times as an operator types them."""

import time
from collections.abc import Iterator

import pytest

from tocsin_alerting.cli.time_arguments import TimeRange, moment, step, ticks, time_range

NOW = 1_700_000_000.0


@pytest.fixture
def shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local zone eight hours ahead of UTC."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", NOW),
        ("5", 5),
        ("1700000000.25", NOW + 0.25),
        ("-1e3", -1000),
        ("90m", NOW - 5400),
        ("1d12h", NOW - 129_600),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T23:13:20.500+01:00", NOW + 0.5),
        ("2023-11-14 22:13:20+00:00", NOW),
    ],
)
def test_each_form_of_a_time(text: str, seconds: float) -> None:
    assert moment(text, NOW) == seconds


@pytest.mark.usefixtures("shanghai")
def test_without_a_zone_it_is_local() -> None:
    assert moment("2023-11-15 06:13:20", NOW) == NOW
    assert moment("2023-11-15T06:13", NOW) == NOW - 20


@pytest.mark.parametrize(
    "text",
    ["", "noon", "1h ago", "m", "5x", "2023-13-01T00:00:00Z", "1700000000000", "1e999", "nan",
     "9" * 400 + "y", "30s1m", "1_000", "0001-01-01T00:00:00+14:00"],
)  # fmt: skip
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(ValueError, match='^".*" is '):
        moment(text, NOW)


@pytest.mark.parametrize(
    ("start", "end", "since", "first", "last"),
    [
        (None, None, None, NOW - 3600, NOW),
        (None, None, "30m", NOW - 1800, NOW),
        (None, "1h", "30m", NOW - 5400, NOW - 3600),
        ("2h", None, None, NOW - 7200, NOW),
        ("5", "6.0004", None, 5, 6),
        ("5", "5", None, 5, 5),
    ],
)
def test_a_window(
    start: str | None, end: str | None, since: str | None, first: float, last: float
) -> None:
    assert time_range(start, end, since, NOW) == TimeRange(first, last)


@pytest.mark.parametrize(
    ("start", "end", "since", "said"),
    [
        ("1h", None, "1h", "--start and --since both"),
        ("5m", "10m", None, "ends before it begins"),
        (None, None, "-5", "ends before it begins"),
        (None, None, "99999y", "out of range|before it begins"),
        (None, None, "soon", "not a valid duration"),
    ],
)
def test_what_is_no_window(
    start: str | None, end: str | None, since: str | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        time_range(start, end, since, NOW)


@pytest.mark.parametrize(
    ("seconds", "points", "apart"),
    [(3600, 142, 30), (3600, 3601, 1), (60, 142, 1), (0, 2, 1), (86_400, 142, 900),
     (86_400 * 365, 143, 86_400 * 3), (86_400, 1, 86_400)],
)  # fmt: skip
def test_auto_is_the_shortest_usual_step_that_fits(
    seconds: float, points: int, apart: float
) -> None:
    assert step("auto", TimeRange(NOW, NOW + seconds), points) == apart


def test_a_step_of_ones_own() -> None:
    assert step("1m30s", TimeRange(0, 1), 1) == 90
    assert step("0.5", TimeRange(0, 1), 1) == 0.5
    with pytest.raises(ValueError, match="longer than 0s"):
        step("0s", TimeRange(0, 1), 1)
    with pytest.raises(ValueError, match="not a valid duration"):
        step("Auto", TimeRange(0, 1), 1)


def test_ticks_are_round_in_the_zone() -> None:
    half_past = TimeRange(NOW, NOW + 3600)  # from 22:13:20 on
    assert ticks(half_past, 6, 0) == (600, [NOW + 400 + 600 * n for n in range(6)])
    assert ticks(half_past, 2, 0) == (1800, [NOW + 1000, NOW + 2800])
    assert ticks(half_past, 1, 5.5 * 3600) == (3600, [NOW + 1000])  # 04:00 in Kolkata
    assert ticks(TimeRange(NOW, NOW + 360), 1, 0) == (300, [NOW + 100])  # no 10 minutes among them
    assert ticks(half_past, 0, 0)[1] == []
    assert ticks(TimeRange(NOW, NOW), 6, 0)[1] == [NOW]
