"""Times as Prometheus's API reads and writes them."""

import math
from datetime import UTC, datetime

from tocsin_alerting import settings
from tocsin_alerting.api.answers import ApiError

_MOST_SECONDS = 9_223_372_036  # what int64 nanoseconds hold, near enough
NEVER = "0001-01-01T00:00:00Z"


def rfc3339(at_ms: int | None) -> str:
    """UTC to the millisecond; Go's zero time for None."""
    if at_ms is None:
        return NEVER
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_ms(text: str, name: str) -> int:
    """Unix seconds (`1700000000.5`) or RFC 3339. Raises ApiError as Prometheus words it."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = _rfc_seconds(text)
    if math.isnan(seconds) or abs(seconds) > _MOST_SECONDS:
        raise _bad(text, name, "timestamp")
    return round(seconds * 1000)


def _rfc_seconds(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    return moment.timestamp() if moment.tzinfo is not None else math.nan


def duration_ms(text: str, name: str) -> int:
    """Seconds (`15`, `0.5`) or Prometheus's notation (`1m30s`), in milliseconds."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            return settings.duration_ms(text)
        except ValueError:
            raise _bad(text, name, "duration") from None
    if not abs(seconds) <= _MOST_SECONDS:
        raise _bad(text, name, "duration")
    return round(seconds * 1000)


def _bad(text: str, name: str, kind: str) -> ApiError:
    return ApiError(
        "bad_data", f'invalid parameter "{name}": cannot parse "{text}" to a valid {kind}'
    )
