"""Silences: what somebody wants to hear nothing of until a time, as Alertmanager's.

An ad hoc maintenance window is a silence with the name of its window. All times are Unix
milliseconds; whether it is pending, active or expired is derived from them, and stored nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from tocsin_alerting.incidents.alert_matcher import AlertMatcher, all_match

SILENCE, MAINTENANCE = "silence:", "maintenance:"
KEPT_MS = 120 * 3_600_000
"""For so long after its end a silence is still listed, as in Alertmanager."""
_ANY_NAMES = ({"alertname": "Zq9_probe"}, {"alertname": "OrAnyOtherName"})


class SilenceState(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Silence:
    """`id` is a UUID. `window` names the maintenance window that it is, "" if it is none; what
    matches `except_matchers` is not muted by a window.

    `until_resolved`: it ends before `ends_at_ms` when all that it `has_matched` is resolved.
    `warn_before_ms`: so long before the end its author is told that something still fires under
    it; None: nobody is.
    """

    id: str
    matchers: tuple[AlertMatcher, ...]
    starts_at_ms: int
    ends_at_ms: int
    created_by: str
    comment: str
    updated_at_ms: int = 0
    except_matchers: tuple[AlertMatcher, ...] = ()
    window: str = ""
    until_resolved: bool = False
    has_matched: bool = False
    warn_before_ms: int | None = None

    @property
    def mute_name(self) -> str:
        """How an incident names it in what mutes it."""
        return f"{MAINTENANCE}{self.window}" if self.window else f"{SILENCE}{self.id}"

    def state(self, now_ms: int) -> SilenceState:
        if now_ms >= self.ends_at_ms:
            return SilenceState.EXPIRED
        return SilenceState.PENDING if now_ms < self.starts_at_ms else SilenceState.ACTIVE

    def active_at(self, now_ms: int) -> bool:
        return self.starts_at_ms <= now_ms < self.ends_at_ms

    def next_change_ms(self, now_ms: int) -> int | None:
        """When it begins or ends next; None: never."""
        return min((at for at in (self.starts_at_ms, self.ends_at_ms) if at > now_ms), default=None)

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all_match(self.matchers, labels) and not (
            self.except_matchers and all_match(self.except_matchers, labels)
        )

    def shifted(self, delta_ms: int) -> "Silence":
        """The same by a clock that reads `delta_ms` more: it lasts as long as it was to last."""
        return replace(
            self,
            starts_at_ms=self.starts_at_ms + delta_ms,
            ends_at_ms=self.ends_at_ms + delta_ms,
            updated_at_ms=self.updated_at_ms + delta_ms,
        )


class InvalidSilence(ValueError):
    """It cannot be: the words say why, and what to do."""


def check_silence(silence: Silence, now_ms: int, *, everything: bool = False) -> None:
    """Raises InvalidSilence. `everything`: it says so that it is to match every alert."""
    if not silence.matchers:
        raise InvalidSilence("a silence needs at least one matcher")
    if silence.starts_at_ms >= silence.ends_at_ms:
        raise InvalidSilence("the silence ends before it starts")
    if silence.ends_at_ms <= now_ms:
        raise InvalidSilence("the silence ends in the past")
    if not everything and matches_everything(silence.matchers):
        raise InvalidSilence(
            "it would silence every alert; add a matcher that some alerts do not match,"
            " or say that everything is meant"
        )


def matches_everything(matchers: tuple[AlertMatcher, ...]) -> bool:
    """Whether an alert without any label, or one of whatever name, matches."""
    return all_match(matchers, {}) or all(all_match(matchers, name) for name in _ANY_NAMES)


def can_update(before: Silence, after: Silence, now_ms: int) -> bool:
    """Whether `after` may keep the id of `before`; else that one expires and a new one begins."""
    if _meaning(before) != _meaning(after):
        return False
    match before.state(now_ms):
        case SilenceState.ACTIVE:
            same_start = before.starts_at_ms // 1000 == after.starts_at_ms // 1000
            return same_start and after.ends_at_ms >= now_ms
        case SilenceState.PENDING:
            return after.starts_at_ms >= now_ms
        case SilenceState.EXPIRED:
            return False


def _meaning(silence: Silence) -> tuple[object, ...]:
    return frozenset(silence.matchers), frozenset(silence.except_matchers), silence.window


def expired(silence: Silence, now_ms: int) -> Silence:
    """The same, ending now; one that was still to begin never does."""
    starts_at_ms = min(silence.starts_at_ms, now_ms)
    return replace(silence, starts_at_ms=starts_at_ms, ends_at_ms=now_ms, updated_at_ms=now_ms)


def warns_at_ms(silence: Silence) -> int | None:
    """When its end is announced; not when it was set for no longer than that before its end."""
    if silence.warn_before_ms is None:
        return None
    at_ms = silence.ends_at_ms - silence.warn_before_ms
    return at_ms if at_ms > max(silence.updated_at_ms, silence.starts_at_ms) else None
