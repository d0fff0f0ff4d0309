"""Times as Prometheus's API reads and writes them."""

import math
import re
from datetime import UTC, datetime

from tocsin_alerting import settings
from tocsin_alerting.api.http.envelope import ApiError

_MAX_SECONDS = 253_402_300_799  # the end of the year 9999
MAX_EXACT_S = 9_000_000_000_000  # up to there a float holds every millisecond
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[-+]\d\d:\d\d)", re.ASCII)
NEVER = "0001-01-01T00:00:00Z"


def rfc3339(at_ms: int | None) -> str:
    """UTC to the millisecond; Go's zero time for None."""
    if at_ms is None:
        return NEVER
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_ms(text: str, name: str, before: str = "", most_s: int = _MAX_SECONDS) -> int:
    """Unix seconds (`1700000000.5`) or RFC 3339. Raises ApiError as Prometheus words it.

    `before` comes before its words. Grafana asks for exemplars with milliseconds for seconds, which
    is the year 57000: whoever only compares the time takes FARTHEST_S for `most_s`.
    """
    seconds = float(text) if _NUMBER.fullmatch(text) else _rfc_seconds(text)
    if math.isnan(seconds) or abs(seconds) > most_s:
        raise _invalid_parameter(text, name, "timestamp", before)
    return round(seconds * 1000)


def _rfc_seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp() if _RFC3339.fullmatch(text) else math.nan
    except ValueError:
        return math.nan


def duration_ms(text: str, name: str) -> int:
    """Seconds (`15`, `0.5`) or Prometheus's notation (`1m30s`), in milliseconds.

    Like Prometheus's, which cuts twice, `1.001` is one second: it is 1.0009999... times 10^9 ns.
    """
    if not _NUMBER.fullmatch(text):
        try:
            return settings.duration_ms(text)
        except ValueError:
            raise _invalid_parameter(text, name, "duration") from None
    seconds = float(text)
    if not abs(seconds) <= _MAX_SECONDS:
        raise _invalid_parameter(text, name, "duration")
    return math.trunc(seconds * 1e9) // 1_000_000


def _invalid_parameter(text: str, name: str, kind: str, before: str = "") -> ApiError:
    why = f'invalid parameter "{name}": {before}cannot parse "{text}" to a valid {kind}'
    return ApiError("bad_data", why)
