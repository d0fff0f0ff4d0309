"""Times as an operator types them."""

import time
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tocsin_alerting.cli import times
from tocsin_alerting.cli.times import TimeRange, moment, step, ticks, time_range

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
        ("5m", "10m", None, "the end is before the start"),
        (None, None, "-5", "the end is before the start"),
        (None, None, "99999y", "out of range|before the start"),
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


BERLIN, SHANGHAI = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai")
NOON_MS = int(datetime(2026, 11, 28, 12, 0, 5, tzinfo=BERLIN).timestamp() * 1000)
DAY_MS = 86_400_000


def test_the_zone_is_named() -> None:
    assert times.zone_name(NOON_MS, BERLIN) == "CET"
    assert times.zone_name(NOON_MS - 150 * DAY_MS, BERLIN) == "CEST"
    assert times.date_and_clock(NOON_MS, BERLIN) == "2026-11-28 12:00:05 CET"
    assert times.date_and_clock(NOON_MS, SHANGHAI) == "2026-11-28 19:00:05 CST"


def test_another_day_is_said() -> None:
    assert times.clock(NOON_MS - 3_600_000, NOON_MS, BERLIN) == "11:00:05"
    assert times.clock(NOON_MS - DAY_MS, NOON_MS, BERLIN) == "27 Nov 12:00"
    assert times.clock(NOON_MS - 400 * DAY_MS, NOON_MS, BERLIN) == "2025-10-24 13:00"
    midnight = NOON_MS - 12 * 3_600_000 - 6_000
    assert times.clock(midnight, NOON_MS, BERLIN) == "27 Nov 23:59"
    assert times.clock(midnight, NOON_MS, SHANGHAI) == "06:59:59"
    assert times.clock(None, NOON_MS, BERLIN) == "-"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5, "0s"),
        (999, "0s"),
        (45_000, "45s"),
        (250_000, "4m10s"),
        (240_000, "4m"),
        (3 * 3_600_000 + 61_000, "3h1m"),
        (3 * 3_600_000 + 5_000, "3h"),
        (2 * DAY_MS + 3 * 3_600_000, "2d3h"),
        (400 * DAY_MS, "400d"),
    ],
)
def test_durations_have_two_units(ms: int, text: str) -> None:
    assert times.span(ms) == text


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _berlin(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("22:00", "2023-11-13 22:00"),
        ("22:00:30", "2023-11-14 22:00:30"),
        ("today 22:00", "2023-11-14 22:00"),
        ("yesterday 22:00", "2023-11-13 22:00"),
        ("yesterday 7:05", "2023-11-13 07:05"),
    ],
)
def test_a_clock_time_is_the_last_one_that_was(text: str, expected: str) -> None:
    now = _berlin("2023-11-14 21:30") if text == "22:00" else _berlin("2023-11-14 23:13:20")
    assert moment(text, now) == _berlin(expected)


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("07:00", "2023-11-15 07:00"),
        ("until 07:00", "2023-11-15 07:00"),
        ("23:59", "2023-11-14 23:59"),
        ("tomorrow 23:59", "2023-11-15 23:59"),
        ("until tomorrow 0:30", "2023-11-15 00:30"),
        ("2023-12-01 07:00", "2023-12-01 07:00"),
        ("2h", "2023-11-15 01:13:20"),
        ("90", "2023-11-14 23:14:50"),
    ],
)
def test_an_end_is_the_next_such_time(text: str, expected: str) -> None:
    assert times.end(text, _berlin("2023-11-14 23:13:20")) == _berlin(expected)


@pytest.mark.usefixtures("berlin")
def test_an_end_over_a_clock_change_is_by_the_clock_on_the_wall() -> None:
    before = _berlin("2023-10-28 23:00")  # that night has 25 hours
    assert times.end("07:00", before) - before == 9 * 3600
    assert times.moment("yesterday 23:00", _berlin("2023-10-29 12:00")) == before


@pytest.mark.parametrize("text", ["", "25:00", "07:60", "soon", "yesterday 07:00", "-1h", "0s",
                                  "2020-01-01", "until", "1e400"])  # fmt: skip
def test_what_is_no_end_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="a duration .2h., or a time: 07:00"):
        times.end(text, NOW)
