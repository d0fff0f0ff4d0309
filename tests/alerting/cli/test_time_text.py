"""Times as the reader's own clock shows them."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tocsin_alerting.cli import time_text

BERLIN, SHANGHAI = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai")
NOON_MS = int(datetime(2026, 11, 28, 12, 0, 5, tzinfo=BERLIN).timestamp() * 1000)
DAY_MS = 86_400_000


def test_the_zone_is_named() -> None:
    assert time_text.zone_name(NOON_MS, BERLIN) == "CET"
    assert time_text.zone_name(NOON_MS - 150 * DAY_MS, BERLIN) == "CEST"
    assert time_text.date_and_clock(NOON_MS, BERLIN) == "2026-11-28 12:00:05 CET"
    assert time_text.date_and_clock(NOON_MS, SHANGHAI) == "2026-11-28 19:00:05 CST"


def test_another_day_is_said() -> None:
    assert time_text.clock(NOON_MS - 3_600_000, NOON_MS, BERLIN) == "11:00:05"
    assert time_text.clock(NOON_MS - DAY_MS, NOON_MS, BERLIN) == "27 Nov 12:00"
    assert time_text.clock(NOON_MS - 400 * DAY_MS, NOON_MS, BERLIN) == "2025-10-24 13:00"
    midnight = NOON_MS - 12 * 3_600_000 - 6_000
    assert time_text.clock(midnight, NOON_MS, BERLIN) == "27 Nov 23:59"
    assert time_text.clock(midnight, NOON_MS, SHANGHAI) == "06:59:59"
    assert time_text.clock(None, NOON_MS, BERLIN) == "-"


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
    assert time_text.span(ms) == text
