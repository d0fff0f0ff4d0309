"""Times and durations for the person at this terminal: by the clock on the wall, zone named."""

from datetime import datetime, tzinfo


def zone_name(at_ms: int, zone: tzinfo | None = None) -> str:
    """`CET`, or `+08` where the zone has no name of its own; `zone` None is this machine's."""
    return _local(at_ms, zone).tzname() or "local"


def clock(at_ms: int | None, now_ms: int, zone: tzinfo | None = None) -> str:
    """`03:12:05`, with the day before it when that is not today's; `-` for None."""
    if at_ms is None:
        return "-"
    at, now = _local(at_ms, zone), _local(now_ms, zone)
    if at.date() == now.date():
        return f"{at:%H:%M:%S}"
    return f"{at:%d %b %H:%M}" if at.year == now.year else f"{at:%Y-%m-%d %H:%M}"


def date_and_clock(at_ms: int, zone: tzinfo | None = None) -> str:
    """`2026-11-28 03:12:05 CET`."""
    return f"{_local(at_ms, zone):%Y-%m-%d %H:%M:%S} {zone_name(at_ms, zone)}"


def span(ms: int) -> str:
    """The two largest units: `45s`, `4m10s`, `3h5m`, `2d3h`."""
    seconds = max(0, ms // 1000)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    parts = ((days, "d"), (hours % 24, "h"), (minutes % 60, "m"), (seconds % 60, "s"))
    first = next((at for at, (number, _) in enumerate(parts) if number), len(parts) - 1)
    text = "".join(f"{number}{unit}" for number, unit in parts[first : first + 2] if number)
    return text or "0s"


def _local(at_ms: int, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, zone).astimezone(zone)
