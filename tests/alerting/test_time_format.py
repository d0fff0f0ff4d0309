"""Times and durations as text: once for all who read or write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.api.http.times import duration_ms as api_duration_ms
from tocsin_alerting.cli.times import duration as cli_duration
from tocsin_alerting.settings import duration_ms as settings_duration_ms
from tocsin_alerting.time_format import (
    elapsed_text,
    format_duration,
    parse_duration,
    read_seconds,
    read_timestamp,
    rfc3339,
    rfc3339_nano,
)

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [("5m", 300_000), ("1h30m", 5_400_000), ("1y", 365 * 24 * HOUR), ("1w1d", 8 * 24 * HOUR),
     ("7ms", 7), ("0s", 0), ("1d2h3m4s5ms", 93_784_005)],
)  # fmt: skip
def test_text_becomes_milliseconds(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "5", "m", "5mm", "5m1h", "1h1h", "1.5h", "-5m", "5M"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid duration string"):
        parse_duration(text)


def test_three_hundred_years_are_too_long() -> None:
    assert parse_duration("292y") == 292 * 365 * 24 * HOUR
    for text in ("293y", "9" * 5000 + "ms", "1" + "0" * 21 + "ms"):
        with pytest.raises(ValueError, match="duration out of range"):
            parse_duration(text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (60_000, "1m"), (90_000, "1m30s"), (7 * 24 * HOUR, "1w"), (8 * 24 * HOUR, "8d"),
     (365 * 24 * HOUR, "1y"), (366 * 24 * HOUR, "366d"), (-1500, "-1s500ms")],
)  # fmt: skip
def test_the_canonical_text(ms: int, text: str) -> None:
    assert format_duration(ms) == text


@given(st.integers(0, 9 * 10**12))
def test_the_text_reads_back(ms: int) -> None:
    assert parse_duration(format_duration(ms)) == ms


def test_leading_zeros_are_no_long_number() -> None:
    assert parse_duration("0" * 5000 + "5m") == 300_000


@given(st.integers(0, 3_000_000_000_000))
def test_all_who_read_durations_read_the_same(ms: int) -> None:
    text = format_duration(ms)
    assert settings_duration_ms(text) == api_duration_ms(text, "step") == ms
    assert cli_duration(text) == ms / 1000


def test_only_requests_and_the_command_line_take_plain_seconds() -> None:
    assert (api_duration_ms("0.5", "step"), cli_duration("0.5")) == (500, 0.5)
    for read in (parse_duration, settings_duration_ms):
        with pytest.raises(ValueError, match="duration"):
            read("0.5")


def test_a_configuration_plans_for_a_hundred_years_only() -> None:
    assert settings_duration_ms("100y") == parse_duration("100y")
    with pytest.raises(ValueError, match="longer than 100 years"):
        settings_duration_ms("100y1ms")
    with pytest.raises(ValueError, match="longer than 100 years"):
        settings_duration_ms("9" * 5000 + "ms")
    assert api_duration_ms("101y", "timeout") == parse_duration("101y")


def test_what_has_passed_is_told_in_whole_seconds() -> None:
    assert [elapsed_text(ms) for ms in (-5, 999, 121_999)] == ["0s", "0s", "2m1s"]
    assert elapsed_text(10 * 24 * HOUR + 2 * HOUR) == "10d2h"


@pytest.mark.parametrize("text", ["", "1_000", "\u0661", "nan", "inf", "0x10", " 1", "1.5.0", "e3"])
def test_what_are_no_seconds(text: str) -> None:
    assert read_seconds(text) is None
    assert read_timestamp(text) is None


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_a_timestamp_reads_back(at_ms: int) -> None:
    seconds = read_timestamp(rfc3339(at_ms))
    assert seconds is not None
    assert round(seconds * 1000) == at_ms


def test_a_timestamp_has_a_zone() -> None:
    assert read_timestamp("2023-11-15T06:13:20+08:00") == 1_700_000_000
    assert read_timestamp("2023-11-14T22:13:20") is None
    assert rfc3339(None) == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("at_ns", "text"),
    [
        (1_000_000_000, "1970-01-01T00:00:01Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (1_000_000_010, "1970-01-01T00:00:01.00000001Z"),
        (1_796_027_585_641_331_804, "2026-11-30T08:33:05.641331804Z"),
    ],
)
def test_nanoseconds_are_told_as_go_tells_them(at_ns: int, text: str) -> None:
    assert rfc3339_nano(at_ns) == text
