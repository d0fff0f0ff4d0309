"""Unknown is not resolved: what people are told when it cannot be known whether an alert holds.

The alert instances themselves resolve exactly as in Prometheus. A `Doubt` is kept beside them: an
alert that was firing when its source died or its rule broke, and has not been settled since.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from heapq import nsmallest
from typing import Protocol

from tocsin_alerting.promql.ast import Expr, VectorSelector
from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind, moved
from tocsin_alerting.rules.inputs import Window
from tocsin_exporter.snapshot import Labels, Source

UNKNOWN_MAX_MS = 24 * 3_600_000
MOST_NAMES = 10  # in a reason, of sources or rules
_STORE_JOB = "tocsin_store"
# Stands among the sources of an alert while the samples since a restart do not show how it stands.
HISTORY = Source(_STORE_JOB, "")
_ALERTS_JOB = "tocsin_alerts"
RULES_JOB = "tocsin_rules"


class Health(Enum):
    """How a source is: `gone` is removed from the configuration; of one that is `patchy` samples
    are missing that a rule's windows should hold: it is silent for longer than usual, or was."""

    ALIVE = "alive"
    PATCHY = "patchy"
    DEAD = "dead"
    GONE = "gone"


_KEEPS_DOUBT = frozenset((Health.DEAD, Health.PATCHY))


class Said(Enum):
    """What a source has said since a moment: `ALL` that it has to say, as when we have read it
    since the start, or `SOME` of it, as when a remote writer has sent a sample."""

    ALL = "all"
    SOME = "some"
    NOTHING = "nothing"


class Sources(Protocol):
    """What the rules ask about the sources of the samples."""

    def touched(self, selector: VectorSelector) -> frozenset[Source]:
        """The sources whose series it matches."""

    def health(self, source: Source) -> Health:
        """Whether it answered when it was last read."""

    def speaks(self, source: Source) -> bool:
        """Whether it still says of itself that it is up or down."""

    def fills(self, source: Source, window: Window, at_ms: int) -> bool:
        """Whether its samples up to `at_ms` come as often as usual at both ends of the window."""

    def ready(self, expr: Expr) -> bool:
        """Whether each source that `expr` may touch was read once or has missed its deadline."""

    def said(self, source: Source, since_ms: int) -> Said:
        """What it has said in this run, with times after `since_ms`."""

    def has(self, selector: VectorSelector, labels: Labels, t0_ms: int, t1_ms: int) -> bool:
        """Whether a series that it matches, and that has each of `labels` or lacks that name, has
        a sample in [t0_ms, t1_ms]."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """An alert of which nobody can say whether it still holds.

    `sources` must answer before it is settled; `over` means that it has been given up.
    """

    alert: Alert
    since_ms: int
    sources: frozenset[Source] = frozenset()
    reason: str = ""
    over: bool = False

    def shifted(self, delta_ms: int) -> "Doubt":
        """The same by a clock that reads `delta_ms` more."""
        alert = moved(self.alert, delta_ms)
        return replace(self, alert=alert, since_ms=self.since_ms + delta_ms)


@dataclass(frozen=True, slots=True)
class Fired:
    """An alert that the last run saw firing or in doubt, at `at_ms` for the last time; `sources`
    were alive and took part then."""

    alert: Alert
    at_ms: int
    sources: frozenset[Source] = frozenset()
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """`doubts` by the alert's fingerprint, and what people are told."""

    events: tuple[AlertEvent, ...]
    doubts: Mapping[str, Doubt]


def is_history(source: Source) -> bool:
    """An older journal has one for each alert."""
    return source.job == _STORE_JOB


def alerts_of(rule: Source) -> Source:
    """Stands among the sources of an alert whose rule reads ALERTS while those of `rule` that it
    reads are unknown themselves."""
    return Source(_ALERTS_JOB, rule.instance)


def is_alerts(source: Source) -> bool:
    return source.job == _ALERTS_JOB


def concerns(
    dead: Iterable[Source], own_instance: bool, always: frozenset[Source] = frozenset()
) -> Callable[[Alert], frozenset[Source]]:
    """Those of the dead sources whose silence may be why an alert left the result, and `always`.
    Alerts of the same sources share one set: there may be as many sources as alerts."""
    dead = frozenset(dead)
    everyone, own = dead | always, defaultdict[str, set[Source]](set)
    for source in dead if own_instance else ():
        own[source.instance].add(source)
    theirs = {instance: always.union(several) for instance, several in own.items()}

    def of(alert: Alert) -> frozenset[Source]:
        instance = dict(alert.labels).get("instance") if own_instance else None
        return everyone if instance is None else theirs.get(instance, always)

    return of


def settle(
    events: Iterable[AlertEvent],
    alerts: Mapping[str, Alert],
    doubts: Mapping[str, Doubt],
    dead: Callable[[Alert], frozenset[Source]],
    health: Callable[[Source], Health],
    now_ms: int,
    max_ms: int = UNKNOWN_MAX_MS,
    unproven: Callable[[str], bool] = lambda key: False,
) -> Verdict:
    """After an evaluation that succeeded: `events` of the step, with doubt where it is due.

    A clear becomes unknown while `dead(alert)` names sources, which are dead or patchy. An older
    doubt ends when its alert fires again, when its sources and these answer or are gone, or after
    `max_ms`.
    `unproven(fingerprint)`: whether the samples since a restart do not show yet how it stands.
    """
    open_doubts, waits = dict(doubts), Waits(health, unproven)
    shared = {one.sources: one.sources for one in doubts.values()}
    told: list[AlertEvent] = []
    for event in events:
        away = dead(event.alert)
        told.extend(_judged(event, open_doubts, shared.setdefault(away, away), waits, now_ms))
    for key, doubt in list(open_doubts.items()):
        if not doubt.sources:  # the rule failed then, and asked nobody
            doubt = replace(doubt, sources=dead(doubt.alert))
        elif not waits.holds(doubt) and (away := dead(doubt.alert)):  # others died meanwhile
            doubt = replace(doubt, sources=doubt.sources | away)
        ended = _ended(doubt, alerts.get(key), waits, now_ms, max_ms)
        told.extend(ended.events)
        open_doubts.pop(key)
        open_doubts.update(ended.doubts)
    return Verdict(tuple(told), open_doubts)


def doubt_all(
    alerts: Iterable[Alert],
    doubts: Mapping[str, Doubt],
    reason: str,
    now_ms: int,
    max_ms: int = UNKNOWN_MAX_MS,
) -> Verdict:
    """After an evaluation that failed: each firing alert is unknown, said once."""
    open_doubts = dict(doubts)
    told: list[AlertEvent] = []
    for alert in alerts:
        if alert.state is AlertState.FIRING and alert.fingerprint not in open_doubts:
            open_doubts[alert.fingerprint] = Doubt(alert, now_ms, frozenset(), reason)
            told.append(AlertEvent(EventKind.UNKNOWN, alert, now_ms, reason))
    for key, doubt in open_doubts.items():
        if _given_up(doubt, now_ms, max_ms):
            told.append(_give_up(doubt, now_ms, max_ms))
            open_doubts[key] = replace(doubt, over=True)
    return Verdict(tuple(told), open_doubts)


class Waits:
    """What may be said of the sources that alerts wait for, at one evaluation: worked out once for
    each set of them, for many alerts may wait for the same, and they may be many.

    `unproven(fingerprint)`: whether the samples since a restart do not show yet how it stands.
    """

    def __init__(self, health: Callable[[Source], Health], unproven: Callable[[str], bool]) -> None:
        self._health = cache(health)
        self._unproven = unproven
        self._is_silent = cache(self._any_silent)
        self.left = cache(self._left)
        self.outcome = cache(self._outcome)

    def holds(self, doubt: Doubt) -> bool:
        """Whether one of its sources keeps it in doubt."""
        silent, history = self._is_silent(doubt.sources)
        return silent or (history and self._unproven(doubt.alert.fingerprint))

    def _any_silent(self, sources: frozenset[Source]) -> tuple[bool, bool]:
        """Whether one is, and whether the samples since a restart are among them."""
        named = (source for source in sources if not is_history(source))
        silent = any(self._health(source) in _KEEPS_DOUBT for source in named)
        return silent, any(map(is_history, sources))

    def _left(self, dead: frozenset[Source]) -> str:
        """Why it is not known whether an alert has cleared."""
        if any(map(is_history, dead)):
            return "no longer in the result, but the samples since the restart cannot tell yet"
        if rules := {source for source in dead if is_alerts(source)}:
            return f"no longer in the result while alerts of {_rules(rules)} are unknown"
        if rules := {source for source in dead if source.job == RULES_JOB}:
            return f"no longer in the result while {_rules(rules)} records nothing"
        patchy = {source for source in dead if self._health(source) is Health.PATCHY}
        if patchy == dead:
            return f"no longer in the result, but samples of {_names(patchy)} are missing"
        return f"no longer in the result while {_names(dead - patchy)} is dead"

    def _outcome(self, sources: frozenset[Source]) -> tuple[EventKind, str]:
        """It has cleared; or nobody watches it any more, where a source was removed."""
        named = [source for source in sources if not is_history(source)]
        if gone := [source for source in named if self._health(source) is Health.GONE]:
            return EventKind.REMOVED, was_removed(gone)
        if rules := [source for source in named if is_alerts(source)]:
            return EventKind.CLEAR, f"alerts of {_rules(rules)} are known again"
        if named:
            return EventKind.CLEAR, f"{_names(named)} answers again"
        return EventKind.CLEAR, "the samples since the restart say so" if sources else ""


def _judged(
    event: AlertEvent,
    doubts: dict[str, Doubt],
    dead: frozenset[Source],
    waits: Waits,
    now_ms: int,
) -> Iterable[AlertEvent]:
    key = event.alert.fingerprint
    doubt = doubts.get(key)
    if event.kind is EventKind.CLEAR and event.alert.state is AlertState.INACTIVE and dead:
        reason = waits.left(dead)
        since = now_ms if doubt is None else doubt.since_ms
        doubts[key] = Doubt(event.alert, since, dead, reason, doubt is not None and doubt.over)
        if doubt is None:
            yield AlertEvent(EventKind.UNKNOWN, event.alert, now_ms, reason)
        return
    doubts.pop(key, None)
    if not (event.kind is EventKind.CLEAR and doubt is not None and doubt.over):
        yield event


def _ended(
    doubt: Doubt,
    alert: Alert | None,
    waits: Waits,
    now_ms: int,
    max_ms: int,
) -> Verdict:
    """What becomes of a doubt that this evaluation's events said nothing about."""
    key = doubt.alert.fingerprint
    if alert is not None and alert.state is AlertState.FIRING:
        return Verdict((AlertEvent(EventKind.FIRING, alert, now_ms, "known again"),), {})
    if (alert is None or alert.state is AlertState.INACTIVE) and not waits.holds(doubt):
        return Verdict(() if doubt.over else (_settled(doubt, waits, now_ms),), {})
    if _given_up(doubt, now_ms, max_ms):
        told = _give_up(doubt, now_ms, max_ms)
        return Verdict((told,), {key: replace(doubt, over=True)})
    return Verdict((), {key: doubt})


def _given_up(doubt: Doubt, now_ms: int, max_ms: int) -> bool:
    return not doubt.over and now_ms - doubt.since_ms >= max_ms


def _settled(doubt: Doubt, waits: Waits, now_ms: int) -> AlertEvent:
    alert = doubt.alert
    if alert.state is not AlertState.INACTIVE:
        alert = replace(alert, state=AlertState.INACTIVE, resolved_at_ms=now_ms)
    kind, reason = waits.outcome(doubt.sources)
    return AlertEvent(kind, alert, now_ms, reason)


def was_removed(sources: Iterable[Source]) -> str:
    return f"{_names(sources)} was removed"


def _give_up(doubt: Doubt, now_ms: int, max_ms: int) -> AlertEvent:
    reason = f"unknown for {max_ms / 3_600_000:.3g} h, given up: {doubt.reason}"
    return AlertEvent(EventKind.GIVEN_UP, doubt.alert, now_ms, reason)


def _names(sources: Iterable[Source]) -> str:
    return _some([f"{source.job} {source.instance}" for source in sources])


def _rules(sources: Iterable[Source]) -> str:
    return _some([source.instance for source in sources])


def _some(names: Sequence[str]) -> str:
    """A reason stands in messages, the journal and the API, of each alert."""
    more = len(names) - MOST_NAMES
    named = ", ".join(nsmallest(MOST_NAMES, names))
    return f"{named} and {more} more" if more > 0 else named
