"""An alert instance as Prometheus means it, and what the incident layer is told about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import TypeVar

from tocsin_exporter.snapshot import Labels

K = TypeVar("K")
V = TypeVar("V")
_FNV_OFFSET, _FNV_PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, 0xFFFFFFFFFFFFFFFF


def once_each(make: Callable[[K], V]) -> Callable[[K], V]:
    """`make`, asked once for each key: as functools.cache, which takes ten times as long to build.
    An evaluation builds a dozen."""
    known: dict[K, V] = {}

    def look(key: K) -> V:
        if key not in known:
            known[key] = make(key)
        return known[key]

    return look


class AlertState(StrEnum):
    """`inactive` is an alert that has resolved and is remembered for 15 minutes."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


@dataclass(slots=True)
class Alert:
    """One instance of an alerting rule; times are Unix milliseconds.

    Never change one: others hold it too. It is not frozen, because a frozen one takes four times
    as long to make, and each alert is made anew at each evaluation.

    `rule` is the rule's stable name, `group/alertname/n` with n counting equal names in a group.
    `labels` hold `alertname` and never `__name__`.
    """

    rule: str
    labels: Labels
    annotations: Labels
    state: AlertState
    value: float
    active_at_ms: int
    fired_at_ms: int | None = None
    resolved_at_ms: int | None = None
    keep_firing_since_ms: int | None = None

    @property
    def name(self) -> str:
        return dict(self.labels).get("alertname", "")

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.labels)


def firing_alert(
    labels: Mapping[str, str], annotations: Mapping[str, str], active_at_ms: int, fired_at_ms: int
) -> Alert:
    """One that no rule says, but the agent itself."""
    return Alert(
        rule="",
        labels=tuple(sorted(labels.items())),
        annotations=tuple(sorted(annotations.items())),
        state=AlertState.FIRING,
        value=0.0,
        active_at_ms=active_at_ms,
        fired_at_ms=fired_at_ms,
    )


class EventKind(StrEnum):
    """`unknown`: whether the alert still holds cannot be told; never a reason to resolve."""

    FIRING = "firing"
    CLEAR = "clear"
    UNKNOWN = "unknown"
    GIVEN_UP = "given_up"  # unknown for so long that nobody will tell any more
    REMOVED = "removed"  # its rule is gone, or says something else now, or its source is gone


UNCLEARED = frozenset((EventKind.GIVEN_UP, EventKind.REMOVED))
"""It ends, and nobody has seen that it is over."""


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """A change of one alert: sent when it begins to fire, clears, or becomes unknown, once each.

    `origin` names who says so. An alert that two origins say fires until both have cleared it.
    """

    kind: EventKind
    alert: Alert
    at_ms: int
    reason: str = ""
    origin: str = ""


RULES = "rules;"


def rules_origin(file: str, rule: str) -> str:
    """The origin of what the rule `rule` (its uid) of `file` says."""
    return f"{RULES}{file};{rule}"


@lru_cache(maxsize=32768)  # an alert is looked up by it at every evaluation
def fingerprint(labels: Labels) -> str:
    """FNV-1a 64 over sorted `name 0xff value 0xff`, as prometheus/common signs a label set."""
    digest = _FNV_OFFSET
    for name, value in sorted(labels):
        for byte in (*name.encode(errors="replace"), 0xFF, *value.encode(errors="replace"), 0xFF):
            digest = ((digest ^ byte) * _FNV_PRIME) & _MASK
    return f"{digest:016x}"


def moved(alert: Alert, delta_ms: int) -> Alert:
    """The alert with every time moved by `delta_ms`."""
    return replace(
        alert,
        active_at_ms=alert.active_at_ms + delta_ms,
        fired_at_ms=plus(alert.fired_at_ms, delta_ms),
        resolved_at_ms=plus(alert.resolved_at_ms, delta_ms),
        keep_firing_since_ms=plus(alert.keep_firing_since_ms, delta_ms),
    )


def plus(at_ms: int | None, delta_ms: int) -> int | None:
    """The time, if there is one, moved by `delta_ms`."""
    return None if at_ms is None else at_ms + delta_ms
