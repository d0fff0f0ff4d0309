"""Unknown is not resolved: what people are told when it cannot be known whether an alert holds.

The alert instances themselves resolve exactly as in Prometheus. A `Doubt` is kept beside them: an
alert that was firing when its source died or its rule broke, and has not been settled since.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from tocsin_alerting.promql.ast import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Duration,
    Expr,
    MatrixSelector,
    SubqueryExpr,
    VectorSelector,
    children,
    selectors,
    walk,
)
from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind, moved
from tocsin_exporter.snapshot import Labels, Source

UNKNOWN_MAX_MS = 24 * 3_600_000
LOOK_BACK_MS = 5 * 60_000
_UNRESOLVED_MS = 3_600_000  # a duration that is an expression
_SAYS_ABSENCE = frozenset(("absent", "absent_over_time"))
_STORE_JOB = "tocsin_store"
_ALERTS_JOB = "tocsin_alerts"
# Of a target that is down, or an engine that hides its other series, these are said all the same.
_PRESENCE = frozenset(("up", "llm_engine_up", "tocsin_build_info"))
_ALERTS = frozenset(("ALERTS", "ALERTS_FOR_STATE"))
_NEEDS_TWO = frozenset(
    ("rate", "irate", "increase", "delta", "idelta", "deriv", "predict_linear")
    + ("double_exponential_smoothing", "holt_winters")
)
_NEEDS_AN_END = frozenset(
    ("last_over_time", "present_over_time", "first_over_time")
    + ("ts_of_last_over_time", "ts_of_first_over_time")
)
_LOSES_INSTANCE = frozenset(("scalar", "label_replace", "label_join"))


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


@dataclass(frozen=True, slots=True)
class Window:
    """The time that a range selector looks at; `two`: one sample in it gives no result; `whole`:
    every sample in it counts, not those at its ends alone."""

    length_ms: int
    offset_ms: int = 0
    two: bool = False
    whole: bool = False


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """`doubts` by the alert's fingerprint, and what people are told."""

    events: tuple[AlertEvent, ...]
    doubts: Mapping[str, Doubt]


def measured(expr: Expr) -> tuple[VectorSelector, ...]:
    """The selectors whose series end when their source dies, which then says nothing: not those
    that ask whether something is there, and know the answer when it is not."""
    named = (one for one in _asked(expr) if _metric(one) not in _PRESENCE | _ALERTS)
    return tuple(named)


def presence(expr: Expr) -> tuple[VectorSelector, ...]:
    """The selectors of what is said of a source that is down, too."""
    return tuple(one for one in _asked(expr) if _metric(one) in _PRESENCE)


def alerts_read(expr: Expr) -> tuple[VectorSelector, ...]:
    """The selectors of what the alerts of rules are."""
    return tuple(one for one in _asked(expr) if _metric(one) in _ALERTS)


def _asked(expr: Expr) -> Iterator[VectorSelector]:
    """All but what is asked to be absent: that is, while its source is dead."""
    if isinstance(expr, VectorSelector):
        yield expr
    elif not (isinstance(expr, Call) and expr.function in _SAYS_ABSENCE):
        for child in children(expr):
            yield from _asked(child)


def keeps_instance(expr: Expr) -> bool:
    """Whether a result with an `instance` label was made from that instance's series alone."""
    return len(selectors(expr)) > 0 and not any(map(_mixes_instances, walk(expr)))


def mixes_series(expr: Expr) -> bool:
    """Whether a result may be made from several series of one selector."""
    return any(isinstance(node, AggregateExpr) for node in walk(expr))


def history_of(key: str) -> Source:
    """Stands among the sources of the alert with that fingerprint while the samples since a
    restart do not show whether it holds."""
    return Source(_STORE_JOB, key)


def is_history(source: Source) -> bool:
    return source.job == _STORE_JOB


def alerts_of(rule: Source) -> Source:
    """Stands among the sources of an alert whose rule reads ALERTS while those of `rule` that it
    reads are unknown themselves."""
    return Source(_ALERTS_JOB, rule.instance)


def is_alerts(source: Source) -> bool:
    return source.job == _ALERTS_JOB


def reads_alert(selector: VectorSelector, alert: Alert) -> bool:
    """Whether `selector`, of ALERTS, matches `alert` as it fires."""
    labels = {**dict(alert.labels), "alertstate": AlertState.FIRING.value}
    return any(
        all(one.matches(labels.get(one.name, "")) for one in several if one.name != "__name__")
        for several in selector.matcher_sets
    )


def inputs(query: Expr, recorded: Mapping[str, Iterable[Expr]]) -> tuple[Expr, ...]:
    """`query` and the queries that record, by metric name, what it selects, directly or not."""
    found = {query: None}
    waiting = [query]
    while waiting:
        for selector in selectors(waiting.pop()):
            new = [one for one in recorded.get(_metric(selector), ()) if one not in found]
            found |= dict.fromkeys(new)
            waiting += new
    return tuple(found)


def reach_ms(expr: Expr) -> int:
    """How far before its evaluation a sample may lie that still has a part in the result."""
    match expr:
        case VectorSelector(offset=offset):
            return LOOK_BACK_MS + max(0, _whole(offset))
        case MatrixSelector(vector=vector, range=window):
            return _whole(window) + max(0, _whole(vector.offset))
        case SubqueryExpr(expr=inner, range=window, offset=offset):
            return reach_ms(inner) + _whole(window) + max(0, _whole(offset))
        case _:
            return max(map(reach_ms, children(expr)), default=0)


def window_ms(expr: Expr) -> int:
    """How long a history the result is made from: its longest range, and none for a moment's."""
    match expr:
        case MatrixSelector(range=window):
            return _whole(window)
        case SubqueryExpr(expr=inner, range=window):
            return window_ms(inner) + _whole(window)
        case _:
            return max(map(window_ms, children(expr)), default=0)


def windows(expr: Expr, two: bool = False, whole: bool = False) -> frozenset[Window]:
    """Those that the result is made from, of series that end when their source dies."""
    if not measured(expr):
        return frozenset()
    match expr:
        case MatrixSelector(vector=vector, range=length):
            own = Window(_whole(length), max(0, _whole(vector.offset)), two, whole)
            return frozenset((own,))
        case SubqueryExpr(expr=inner, range=length, offset=offset):
            length_ms = window_ms(inner) + _whole(length)
            return windows(inner) | {Window(length_ms, max(0, _whole(offset)), two, whole)}
        case Call(function=function):
            two = function in _NEEDS_TWO
            whole = not two and function not in _NEEDS_AN_END
    return frozenset[Window]().union(*(windows(child, two, whole) for child in children(expr)))


def concerned(alert: Alert, dead: Iterable[Source], own_instance: bool) -> frozenset[Source]:
    """Those of the dead sources whose silence may be why the alert left the result."""
    instance = dict(alert.labels).get("instance")
    if not own_instance or instance is None:
        return frozenset(dead)
    return frozenset(source for source in dead if source.instance == instance)


def settle(
    events: Iterable[AlertEvent],
    alerts: Mapping[str, Alert],
    doubts: Mapping[str, Doubt],
    dead: Callable[[Alert], frozenset[Source]],
    health: Callable[[Source], Health],
    now_ms: int,
    max_ms: int = UNKNOWN_MAX_MS,
) -> Verdict:
    """After an evaluation that succeeded: `events` of the step, with doubt where it is due.

    A clear becomes unknown while `dead(alert)` names sources, which are dead or patchy. An older
    doubt ends when its alert fires again, when its sources answer or are gone, or after `max_ms`.
    """
    open_doubts = dict(doubts)
    told: list[AlertEvent] = []
    for event in events:
        told.extend(_judged(event, open_doubts, dead(event.alert), health, now_ms))
    for key, doubt in list(open_doubts.items()):
        ended = _ended(doubt, alerts.get(key), health, now_ms, max_ms)
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


def _judged(
    event: AlertEvent,
    doubts: dict[str, Doubt],
    dead: frozenset[Source],
    health: Callable[[Source], Health],
    now_ms: int,
) -> Iterable[AlertEvent]:
    key = event.alert.fingerprint
    doubt = doubts.get(key)
    if event.kind is EventKind.CLEAR and event.alert.state is AlertState.INACTIVE and dead:
        reason = _left(dead, health)
        since = now_ms if doubt is None else doubt.since_ms
        doubts[key] = Doubt(event.alert, since, dead, reason, doubt is not None and doubt.over)
        if doubt is None:
            yield AlertEvent(EventKind.UNKNOWN, event.alert, now_ms, reason)
        return
    doubts.pop(key, None)
    if not (event.kind is EventKind.CLEAR and doubt is not None and doubt.over):
        yield event


def _left(dead: frozenset[Source], health: Callable[[Source], Health]) -> str:
    if any(map(is_history, dead)):
        return "no longer in the result, but the samples since the restart cannot tell yet"
    if rules := {source for source in dead if is_alerts(source)}:
        return f"no longer in the result while alerts of {_rules(rules)} are unknown"
    patchy = {source for source in dead if health(source) is Health.PATCHY}
    if patchy == dead:
        return f"no longer in the result, but samples of {_names(patchy)} are missing"
    return f"no longer in the result while {_names(dead - patchy)} is dead"


def _ended(
    doubt: Doubt,
    alert: Alert | None,
    health: Callable[[Source], Health],
    now_ms: int,
    max_ms: int,
) -> Verdict:
    """What becomes of a doubt that this evaluation's events said nothing about."""
    key = doubt.alert.fingerprint
    if alert is not None and alert.state is AlertState.FIRING:
        return Verdict((AlertEvent(EventKind.FIRING, alert, now_ms, "known again"),), {})
    silent = {source for source in doubt.sources if health(source) in _KEEPS_DOUBT}
    if not silent and (alert is None or alert.state is AlertState.INACTIVE):
        return Verdict(() if doubt.over else (_settled(doubt, health, now_ms),), {})
    if _given_up(doubt, now_ms, max_ms):
        told = _give_up(doubt, now_ms, max_ms)
        return Verdict((told,), {key: replace(doubt, over=True)})
    return Verdict((), {key: doubt})


def _given_up(doubt: Doubt, now_ms: int, max_ms: int) -> bool:
    return not doubt.over and now_ms - doubt.since_ms >= max_ms


def _settled(doubt: Doubt, health: Callable[[Source], Health], now_ms: int) -> AlertEvent:
    """It has cleared; or nobody watches it any more, where a source was removed."""
    alert = doubt.alert
    if alert.state is not AlertState.INACTIVE:
        alert = replace(alert, state=AlertState.INACTIVE, resolved_at_ms=now_ms)
    sources = [source for source in doubt.sources if not is_history(source)]
    if gone := [source for source in sources if health(source) is Health.GONE]:
        return AlertEvent(EventKind.REMOVED, alert, now_ms, was_removed(gone))
    return AlertEvent(EventKind.CLEAR, alert, now_ms, _known_again(doubt, sources))


def was_removed(sources: Iterable[Source]) -> str:
    return f"{_names(sources)} was removed"


def _known_again(doubt: Doubt, sources: Sequence[Source]) -> str:
    if rules := [source for source in sources if is_alerts(source)]:
        return f"alerts of {_rules(rules)} are known again"
    if sources:
        return f"{_names(sources)} answers again"
    return "the samples since the restart say so" if doubt.sources else ""


def _give_up(doubt: Doubt, now_ms: int, max_ms: int) -> AlertEvent:
    reason = f"unknown for {max_ms / 3_600_000:.3g} h, given up: {doubt.reason}"
    return AlertEvent(EventKind.GIVEN_UP, doubt.alert, now_ms, reason)


def _names(sources: Iterable[Source]) -> str:
    return ", ".join(sorted(f"{source.job} {source.instance}" for source in sources))


def _rules(sources: Iterable[Source]) -> str:
    return ", ".join(sorted(source.instance for source in sources))


def _whole(duration: Duration) -> int:
    return duration if isinstance(duration, int) else _UNRESOLVED_MS


def _metric(selector: VectorSelector) -> str:
    named = (m.value for one in selector.matcher_sets for m in one if m.name == "__name__")
    return selector.name or next(named, "")


def _mixes_instances(node: Expr) -> bool:
    match node:
        case AggregateExpr(grouping=grouping, without=without):
            return ("instance" in grouping) == without
        case BinaryExpr(matching=matching) if matching is not None:
            return ("instance" in matching.labels) != matching.on
        case Call(function=function):
            return function in _LOSES_INSTANCE
        case _:
            return False
