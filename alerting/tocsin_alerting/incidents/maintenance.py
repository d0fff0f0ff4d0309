"""Maintenance windows of the configuration: what is muted at planned times, once or again and
again."""

from collections.abc import Mapping
from dataclasses import dataclass

from tocsin_alerting.incidents.alert_matcher import AlertMatcher, all_match
from tocsin_alerting.incidents.calendar_times import TimeInterval
from tocsin_alerting.incidents.silences import MAINTENANCE


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """It mutes what matches all of `matchers`, but what matches all of `except_matchers`.

    It holds while `interval` does, or between `starts_at_ms` and `ends_at_ms`, Unix milliseconds.
    """

    name: str
    matchers: tuple[AlertMatcher, ...]
    except_matchers: tuple[AlertMatcher, ...] = ()
    interval: TimeInterval | None = None
    starts_at_ms: int = 0
    ends_at_ms: int = 0

    @property
    def mute_name(self) -> str:
        return f"{MAINTENANCE}{self.name}"

    def active_at(self, now_ms: int) -> bool:
        if self.interval is not None:
            return self.interval.contains(now_ms)
        return self.starts_at_ms <= now_ms < self.ends_at_ms

    def next_change_ms(self, now_ms: int) -> int | None:
        """When it begins or ends next; None: never."""
        if self.interval is not None:
            return self.interval.next_change_ms(now_ms)
        return min((at for at in (self.starts_at_ms, self.ends_at_ms) if at > now_ms), default=None)

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all_match(self.matchers, labels) and not (
            self.except_matchers and all_match(self.except_matchers, labels)
        )
