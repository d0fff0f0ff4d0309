"""Times and durations in requests and answers."""

import pytest

from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.http.times import duration_ms, time_ms
from tocsin_alerting.time_format import rfc3339


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("0", 0),
        ("1700000000.5", 1_700_000_000_500),
        ("-1.5", -1500),
        ("1e3", 1_000_000),
        (".5", 500),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13:20.123456789Z", 1_700_000_000_123),
        ("2023-11-15T06:13:20+08:00", 1_700_000_000_000),
        ("9999-12-31T23:59:59Z", 253_402_300_799_000),
    ],
)
def test_a_time_is_unix_seconds_or_rfc_3339(text: str, at_ms: int) -> None:
    assert time_ms(text, "time") == at_ms


@pytest.mark.parametrize(
    "text",
    ["", "now", "nan", "inf", "-inf", "1_000", " 1", "1 ", "\u0661", "2023-11-14", "1e400", "0x10",
     "2023-11-14T22:13:20", "20231114T221320Z", "2023-13-14T22:13:20Z", "2023-W46-2T00:00:00Z",
     "9" * 5000],
)  # fmt: skip
def test_what_is_no_time_is_refused_in_prometheus_s_words(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        time_ms(text, "start")
    wanted = f'invalid parameter "start": cannot parse "{text}" to a valid timestamp'
    assert (refused.value.type, str(refused.value)) == ("bad_data", wanted)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("15", 15_000), ("0.5", 500), ("1m30s", 90_000), ("5ms", 5), ("-1", -1000), ("1e1", 10_000)],
)
def test_a_duration_is_seconds_or_prometheus_s_notation(text: str, ms: int) -> None:
    assert duration_ms(text, "step") == ms


@pytest.mark.parametrize("text", ["", "soon", "1.5m", "nan", "inf", "1_0", "5 m", "-5m", "1e400"])
def test_what_is_no_duration_is_refused_in_prometheus_s_words(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        duration_ms(text, "step")
    assert (
        str(refused.value) == f'invalid parameter "step": cannot parse "{text}" to a valid duration'
    )


def test_answers_have_times_in_utc() -> None:
    assert rfc3339(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"
    assert rfc3339(None) == "0001-01-01T00:00:00Z"


def test_a_duration_is_cut_as_prometheus_cuts_it() -> None:
    assert duration_ms("1.001", "step") == 1000  # 1.0009999... times 10^9 ns
    assert duration_ms("1.002", "step") == 1002
