"""Unknown is not resolved: what people are told when it cannot be known whether an alert holds.

The alert instances themselves resolve exactly as in Prometheus. An `UnknownAlert` is kept beside
them: an alert that was firing when its source died or its rule broke, and is not settled yet.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from heapq import nsmallest
from typing import Protocol

from tocsin_alerting.promql.parser.ast import Expr, VectorSelector
from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind, moved, once_each
from tocsin_alerting.rules.inputs import RangeWindow
from tocsin_alerting.time_format import format_duration
from tocsin_exporter.snapshot import Labels, Source

UNKNOWN_MAX_MS = 24 * 3_600_000
MAX_NAMES = 10  # in a reason, of sources or rules
_STORE_JOB = "tocsin_store"
# Stands among the sources of an alert while the samples since a restart do not show how it stands.
HISTORY = Source(_STORE_JOB, "")
_ALERTS_JOB = "tocsin_alerts"
RULES_JOB = "tocsin_rules"


class SourceStatus(Enum):
    """How a source is: `gone` is removed from the configuration; of one that is `patchy` samples
    are missing that a rule's windows should hold: it is silent for longer than usual, or was."""

    ALIVE = "alive"
    PATCHY = "patchy"
    DEAD = "dead"
    GONE = "gone"


_KEEPS_UNKNOWN = frozenset((SourceStatus.DEAD, SourceStatus.PATCHY))


class Reported(Enum):
    """What a source has said since a moment: `ALL` that it has to say, as when we have read it
    since the start, or `SOME` of it, as when a remote writer has sent a sample."""

    ALL = "all"
    SOME = "some"
    NOTHING = "nothing"


class Sources(Protocol):
    """What the rules ask about the sources of the samples."""

    def touched(self, selector: VectorSelector) -> frozenset[Source]:
        """The sources whose series it matches."""
        ...

    def health(self, source: Source) -> SourceStatus:
        """Whether it answered when it was last read."""
        ...

    def speaks(self, source: Source) -> bool:
        """Whether it still says of itself that it is up or down."""
        ...

    def fills(self, source: Source, window: RangeWindow, at_ms: int) -> bool:
        """Whether its samples up to `at_ms` come as often as usual at both ends of the window."""
        ...

    def ready(self, expr: Expr) -> bool:
        """Whether each source that `expr` may touch was read once or has missed its deadline."""
        ...

    def said(self, source: Source, since_ms: int) -> Reported:
        """What it has said in this run, with times after `since_ms`."""
        ...

    def has(self, selector: VectorSelector, labels: Labels, t0_ms: int, t1_ms: int) -> bool:
        """Whether a series that it matches, and that has each of `labels` or lacks that name, has
        a sample in [t0_ms, t1_ms]."""
        ...


class AllAlive:
    """No source is dead, and nothing is missing: what a query answers is known. So it is in tests,
    and for an engine elsewhere, whose own affair it is whether its samples are all there."""

    def touched(self, selector: VectorSelector) -> frozenset[Source]:
        return frozenset()

    def health(self, source: Source) -> SourceStatus:
        return SourceStatus.ALIVE

    def speaks(self, source: Source) -> bool:
        return True

    def fills(self, source: Source, window: RangeWindow, at_ms: int) -> bool:
        return True

    def ready(self, expr: Expr) -> bool:
        return True

    def said(self, source: Source, since_ms: int) -> Reported:
        return Reported.ALL

    def has(self, selector: VectorSelector, labels: Labels, t0_ms: int, t1_ms: int) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class UnknownAlert:
    """An alert of which nobody can say whether it still holds.

    `sources` must answer before it is settled; `over` means that it has been given up.
    """

    alert: Alert
    since_ms: int
    sources: frozenset[Source] = frozenset()
    reason: str = ""
    over: bool = False

    def shifted(self, delta_ms: int) -> "UnknownAlert":
        """The same by a clock that reads `delta_ms` more."""
        alert = moved(self.alert, delta_ms)
        return replace(self, alert=alert, since_ms=self.since_ms + delta_ms)


@dataclass(frozen=True, slots=True)
class LastFiring:
    """An alert that the last run saw firing or unknown, at `at_ms` for the last time; `sources`
    were alive and took part then."""

    alert: Alert
    at_ms: int
    sources: frozenset[Source] = frozenset()
    was_unknown: bool = False


@dataclass(frozen=True, slots=True)
class UnknownResult:
    """`unknown_alerts` by the alert's fingerprint, and what people are told."""

    events: tuple[AlertEvent, ...]
    unknown_alerts: Mapping[str, UnknownAlert]


def is_history(source: Source) -> bool:
    """An older journal has one for each alert."""
    return source.job == _STORE_JOB


def alerts_of(rule: Source) -> Source:
    """Stands among the sources of an alert whose rule reads ALERTS while those of `rule` that it
    reads are unknown themselves."""
    return Source(_ALERTS_JOB, rule.instance)


def is_alerts(source: Source) -> bool:
    return source.job == _ALERTS_JOB


def concerning(
    dead: Iterable[Source], own_instance: bool, always: frozenset[Source] = frozenset()
) -> Callable[[Alert], frozenset[Source]]:
    """Those of the dead sources whose silence may be why an alert left the result, and `always`.
    Alerts of the same sources share one set: there may be as many sources as alerts."""
    dead = frozenset(dead)
    everyone, own = dead | always, defaultdict[str, set[Source]](set)
    for source in dead if own_instance else ():
        own[source.instance].add(source)
    by_instance = {
        instance: always.union(instance_sources) for instance, instance_sources in own.items()
    }

    def of(alert: Alert) -> frozenset[Source]:
        instance = dict(alert.labels).get("instance") if own_instance else None
        return everyone if instance is None else by_instance.get(instance, always)

    return of


def resolve_unknown(
    events: Iterable[AlertEvent],
    alerts: Mapping[str, Alert],
    unknown_alerts: Mapping[str, UnknownAlert],
    dead: Callable[[Alert], frozenset[Source]],
    health: Callable[[Source], SourceStatus],
    now_ms: int,
    max_ms: int = UNKNOWN_MAX_MS,
    unproven: Callable[[str], bool] = lambda key: False,
) -> UnknownResult:
    """After an evaluation that succeeded: `events` of the step, unknown where it is due.

    A clear becomes unknown while `dead(alert)` names sources, which are dead or patchy. An older
    unknown alert ends when it fires again, when its sources and these answer or are gone, or after
    `max_ms`.
    `unproven(fingerprint)`: whether the samples since a restart do not show yet how it stands.
    """
    open_unknown, waits = dict(unknown_alerts), UnknownCauses(health, unproven)
    shared = {
        unknown_alert.sources: unknown_alert.sources for unknown_alert in unknown_alerts.values()
    }
    kept_events: list[AlertEvent] = []
    for event in events:
        away = dead(event.alert)
        kept_events.extend(
            _with_unknown(event, open_unknown, shared.setdefault(away, away), waits, now_ms)
        )
    for key, unknown_alert in list(open_unknown.items()):
        if not unknown_alert.sources:  # the rule failed then, and asked nobody
            unknown_alert = replace(unknown_alert, sources=dead(unknown_alert.alert))
        elif not waits.holds(unknown_alert) and (
            away := dead(unknown_alert.alert)
        ):  # others died meanwhile
            unknown_alert = replace(unknown_alert, sources=unknown_alert.sources | away)
        ended = _ended(unknown_alert, alerts.get(key), waits, now_ms, max_ms)
        kept_events.extend(ended.events)
        open_unknown.pop(key)
        open_unknown.update(ended.unknown_alerts)
    return UnknownResult(tuple(kept_events), open_unknown)


def all_unknown(
    alerts: Iterable[Alert],
    unknown_alerts: Mapping[str, UnknownAlert],
    reason: str,
    now_ms: int,
    max_ms: int = UNKNOWN_MAX_MS,
) -> UnknownResult:
    """After an evaluation that failed: each firing alert is unknown, said once."""
    open_unknown = dict(unknown_alerts)
    new_events: list[AlertEvent] = []
    for alert in alerts:
        if alert.state is AlertState.FIRING and alert.fingerprint not in open_unknown:
            open_unknown[alert.fingerprint] = UnknownAlert(alert, now_ms, frozenset(), reason)
            new_events.append(AlertEvent(EventKind.UNKNOWN, alert, now_ms, reason))
    for key, unknown_alert in open_unknown.items():
        if _given_up(unknown_alert, now_ms, max_ms):
            new_events.append(_give_up(unknown_alert, now_ms, max_ms))
            open_unknown[key] = replace(unknown_alert, over=True)
    return UnknownResult(tuple(new_events), open_unknown)


class UnknownCauses:
    """What may be said of the sources that alerts wait for, at one evaluation: worked out once for
    each set of them, for many alerts may wait for the same, and they may be many.

    `unproven(fingerprint)`: whether the samples since a restart do not show yet how it stands.
    """

    def __init__(
        self, health: Callable[[Source], SourceStatus], unproven: Callable[[str], bool]
    ) -> None:
        self._health = once_each(health)
        self._unproven = unproven
        self._is_silent = once_each(self._any_silent)
        self.reason_left = once_each(self._left)
        self.outcome = once_each(self._outcome)

    def holds(self, unknown_alert: UnknownAlert) -> bool:
        """Whether one of its sources keeps it unknown."""
        silent, history = self._is_silent(unknown_alert.sources)
        return silent or (history and self._unproven(unknown_alert.alert.fingerprint))

    def _any_silent(self, sources: frozenset[Source]) -> tuple[bool, bool]:
        """Whether one is, and whether the samples since a restart are among them."""
        named = (source for source in sources if not is_history(source))
        silent = any(self._health(source) in _KEEPS_UNKNOWN for source in named)
        return silent, any(map(is_history, sources))

    def _left(self, dead: frozenset[Source]) -> str:
        """Why it is not known whether an alert has cleared."""
        if any(map(is_history, dead)):
            return "no longer in the result, but too few samples since the restart to decide"
        if rules := {source for source in dead if is_alerts(source)}:
            return f"no longer in the result while alerts of {_rules(rules)} are unknown"
        if rules := {source for source in dead if source.job == RULES_JOB}:
            return f"no longer in the result while {_rules(rules)} records nothing"
        patchy = {source for source in dead if self._health(source) is SourceStatus.PATCHY}
        if patchy == dead:
            return f"no longer in the result, but samples of {_names(patchy)} are missing"
        return f"no longer in the result while {_names(dead - patchy)} is dead"

    def _outcome(self, sources: frozenset[Source]) -> tuple[EventKind, str]:
        """It has cleared; or nobody watches it any more, where a source was removed."""
        named = [source for source in sources if not is_history(source)]
        if gone := [source for source in named if self._health(source) is SourceStatus.GONE]:
            return EventKind.REMOVED, was_removed(gone)
        if rules := [source for source in named if is_alerts(source)]:
            return EventKind.CLEAR, f"alerts of {_rules(rules)} are known again"
        if named:
            return EventKind.CLEAR, f"{_names(named)} answers again"
        return EventKind.CLEAR, "confirmed by the samples since the restart" if sources else ""


def _with_unknown(
    event: AlertEvent,
    unknown_alerts: dict[str, UnknownAlert],
    dead: frozenset[Source],
    waits: UnknownCauses,
    now_ms: int,
) -> Iterable[AlertEvent]:
    key = event.alert.fingerprint
    unknown_alert = unknown_alerts.get(key)
    if event.kind is EventKind.CLEAR and event.alert.state is AlertState.INACTIVE and dead:
        reason = waits.reason_left(dead)
        since = now_ms if unknown_alert is None else unknown_alert.since_ms
        unknown_alerts[key] = UnknownAlert(
            event.alert, since, dead, reason, unknown_alert is not None and unknown_alert.over
        )
        if unknown_alert is None:
            yield AlertEvent(EventKind.UNKNOWN, event.alert, now_ms, reason)
        return
    unknown_alerts.pop(key, None)
    if not (event.kind is EventKind.CLEAR and unknown_alert is not None and unknown_alert.over):
        yield event


def _ended(
    unknown_alert: UnknownAlert,
    alert: Alert | None,
    waits: UnknownCauses,
    now_ms: int,
    max_ms: int,
) -> UnknownResult:
    """What becomes of an unknown alert that this evaluation's events said nothing about."""
    key = unknown_alert.alert.fingerprint
    if alert is not None and alert.state is AlertState.FIRING:
        return UnknownResult((AlertEvent(EventKind.FIRING, alert, now_ms, "known again"),), {})
    if (alert is None or alert.state is AlertState.INACTIVE) and not waits.holds(unknown_alert):
        return UnknownResult(
            () if unknown_alert.over else (_end_event(unknown_alert, waits, now_ms),), {}
        )
    if _given_up(unknown_alert, now_ms, max_ms):
        event = _give_up(unknown_alert, now_ms, max_ms)
        return UnknownResult((event,), {key: replace(unknown_alert, over=True)})
    return UnknownResult((), {key: unknown_alert})


def _given_up(unknown_alert: UnknownAlert, now_ms: int, max_ms: int) -> bool:
    return not unknown_alert.over and now_ms - unknown_alert.since_ms >= max_ms


def _end_event(unknown_alert: UnknownAlert, waits: UnknownCauses, now_ms: int) -> AlertEvent:
    alert = unknown_alert.alert
    if alert.state is not AlertState.INACTIVE:
        alert = replace(alert, state=AlertState.INACTIVE, resolved_at_ms=now_ms)
    kind, reason = waits.outcome(unknown_alert.sources)
    return AlertEvent(kind, alert, now_ms, reason)


def was_removed(sources: Iterable[Source]) -> str:
    return f"{_names(sources)} was removed"


def _give_up(unknown_alert: UnknownAlert, now_ms: int, max_ms: int) -> AlertEvent:
    reason = f"unknown for {format_duration(max_ms)}, given up: {unknown_alert.reason}"
    return AlertEvent(EventKind.GIVEN_UP, unknown_alert.alert, now_ms, reason)


def _names(sources: Iterable[Source]) -> str:
    return _shortened([f"{source.job} {source.instance}" for source in sources])


def _rules(sources: Iterable[Source]) -> str:
    return _shortened([source.instance for source in sources])


def _shortened(names: Sequence[str]) -> str:
    """A reason stands in messages, the journal and the API, of each alert."""
    more = len(names) - MAX_NAMES
    named = ", ".join(nsmallest(MAX_NAMES, names))
    return f"{named} and {more} more" if more > 0 else named
