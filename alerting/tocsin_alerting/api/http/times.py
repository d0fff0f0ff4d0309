"""Times and durations as Prometheus's API reads them."""

import math

from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.time_format import LAST_S, parse_duration, read_seconds, read_timestamp

YEAR_2200_MS = 7_258_118_400_000
MAX_EXACT_S = 9_000_000_000_000  # up to there a float holds every millisecond


def time_ms(text: str, name: str, before: str = "", most_s: int = LAST_S) -> int:
    """Unix seconds (`1700000000.5`) or RFC 3339. Raises ApiError as Prometheus words it.

    `before` comes before its words. Grafana asks for exemplars with milliseconds for seconds, which
    is the year 57000: whoever only compares the time takes FARTHEST_S for `most_s`.
    """
    seconds = read_timestamp(text)
    if seconds is None or abs(seconds) > most_s:
        raise _invalid_parameter(text, name, "timestamp", before)
    return round(seconds * 1000)


def calendar_ms(text: str, name: str) -> int:
    """As `time_ms`, of the years 1970 to 2199: what a calendar is asked about."""
    at_ms = time_ms(text, name)
    if not 0 <= at_ms < YEAR_2200_MS:
        raise ApiError("bad_data", f'invalid parameter "{name}": a year is 1970 to 2199')
    return at_ms


def duration_ms(text: str, name: str) -> int:
    """Seconds (`15`, `0.5`) or Prometheus's notation (`1m30s`), in milliseconds.

    Like Prometheus's, which cuts twice, `1.001` is one second: it is 1.0009999... times 10^9 ns.
    """
    seconds = read_seconds(text)
    if seconds is None:
        try:
            return parse_duration(text)
        except ValueError:
            raise _invalid_parameter(text, name, "duration") from None
    if not abs(seconds) <= LAST_S:
        raise _invalid_parameter(text, name, "duration")
    return math.trunc(seconds * 1e9) // 1_000_000


def _invalid_parameter(text: str, name: str, kind: str, before: str = "") -> ApiError:
    why = f'invalid parameter "{name}": {before}cannot parse "{text}" to a valid {kind}'
    return ApiError("bad_data", why)
