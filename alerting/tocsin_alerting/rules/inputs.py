"""What a rule's query reads: which series, how far back, and what others record of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from tocsin_alerting.promql.parser.ast import (
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
from tocsin_alerting.rules.alert import Alert, AlertState
from tocsin_alerting.tsdb.matchers import MatchOp

LOOK_BACK_MS = 5 * 60_000
_UNRESOLVED_MS = 3_600_000  # a duration that is an expression
_SAYS_ABSENCE = frozenset(("absent", "absent_over_time"))
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


@dataclass(frozen=True, slots=True)
class RangeWindow:
    """The time that a selector looks at; one of no length is a moment. `two`: one sample in it
    gives no result; `whole`: every sample in it counts, not those at its ends alone; `steady`: none
    at all may be missing."""

    length_ms: int
    offset_ms: int = 0
    two: bool = False
    whole: bool = False
    steady: bool = False

    @property
    def reach_ms(self) -> int:
        return self.length_ms + self.offset_ms


Read = tuple[VectorSelector, RangeWindow]


def measured(expr: Expr) -> tuple[VectorSelector, ...]:
    """The selectors whose series end when their source dies, which then says nothing: not those
    that ask whether something is there, and know the answer when it is not."""
    return tuple(selector for selector in _asked(expr) if is_measured(selector))


def presence(expr: Expr) -> tuple[VectorSelector, ...]:
    """The selectors of what is said of a source that is down, too."""
    return tuple(selector for selector in _asked(expr) if _metric(selector) in _PRESENCE)


def alerts_read(expr: Expr) -> tuple[VectorSelector, ...]:
    """The selectors of what the alerts of rules are."""
    return tuple(selector for selector in _asked(expr) if names_alerts(selector))


def names(selector: VectorSelector, metrics: Iterable[str]) -> list[str]:
    """Those of `metrics` that it may select: by its name, or by what it demands of names."""
    return [
        metric
        for metric in metrics
        if any(
            all(matcher.matches(metric) for matcher in matchers if matcher.name == "__name__")
            for matchers in selector.matcher_sets
        )
    ]


def names_alerts(selector: VectorSelector) -> bool:
    return len(names(selector, _ALERTS)) > 0


def is_measured(selector: VectorSelector) -> bool:
    return _metric(selector) not in _PRESENCE | _ALERTS


def _asked(expr: Expr) -> Iterator[VectorSelector]:
    return (selector for selector, _ in reads(expr))


def keeps_instance(expr: Expr) -> bool:
    """Whether a result with an `instance` label was made from that instance's series alone."""
    return len(selectors(expr)) > 0 and not any(map(_mixes_instances, walk(expr)))


def mixes_series(expr: Expr) -> bool:
    """Whether a result may be made from several series of one selector."""
    return any(isinstance(node, AggregateExpr) for node in walk(expr))


def reads_alert(selector: VectorSelector, alert: Alert) -> bool:
    """Whether `selector`, of ALERTS, matches `alert` as it fires."""
    labels = {**dict(alert.labels), "alertstate": AlertState.FIRING.value}
    return any(
        all(
            matcher.matches(labels.get(matcher.name, ""))
            for matcher in matchers
            if matcher.name != "__name__"
        )
        for matchers in selector.matcher_sets
    )


def inputs(query: Expr, recorded: Mapping[str, Iterable[Expr]]) -> tuple[Expr, ...]:
    """`query` and the queries that record, by metric name, what it selects, directly or not."""
    queries = {query: None}
    waiting = [query]
    while waiting:
        for selector in selectors(waiting.pop()):
            makers = (recorded[name] for name in recorded_by(selector, recorded))
            new = [expr for exprs in makers for expr in exprs if expr not in queries]
            queries |= dict.fromkeys(new)
            waiting += new
    return tuple(queries)


def recorded_by(selector: VectorSelector, recorded: Mapping[str, object]) -> list[str]:
    """Those of the recorded metrics that it may select; most selectors give a name."""
    if selector.name:
        return [selector.name] if selector.name in recorded else []
    return names(selector, recorded)


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


def windows(expr: Expr) -> frozenset[RangeWindow]:
    """Those that the result is made from, of series that end when their source dies."""
    return frozenset(window for _, window in measured_reads(expr))


def measured_reads(expr: Expr) -> frozenset[Read]:
    """The same with the selectors that have them."""
    return frozenset(read for read in reads(expr) if is_measured(read[0]))


def reads(expr: Expr, two: bool = False, whole: bool = False) -> tuple[Read, ...]:
    """What it selects and over which time, but for what it asks to be absent: that is, while its
    source is dead."""
    match expr:
        case VectorSelector(offset=offset):
            return ((expr, RangeWindow(0, max(0, _whole(offset)))),)
        case MatrixSelector(vector=vector, range=length):
            own = RangeWindow(_whole(length), max(0, _whole(vector.offset)), two, whole)
            return ((vector, own),)
        case SubqueryExpr(expr=inner, range=length, offset=offset):
            return _stretched(reads(inner), _whole(length), max(0, _whole(offset)), two, whole)
        case Call(function=function):
            if function in _SAYS_ABSENCE:
                return ()
            two = function in _NEEDS_TWO
            whole = not two and function not in _NEEDS_AN_END
    child_reads = (read for child in children(expr) for read in reads(child, two, whole))
    return tuple(dict.fromkeys(child_reads))


def _stretched(
    inner: Iterable[Read], length_ms: int, offset_ms: int, two: bool, whole: bool
) -> tuple[Read, ...]:
    """As a subquery reads: at its last step, and over all of them."""
    moved = [(selector, replace(w, offset_ms=w.offset_ms + offset_ms)) for selector, w in inner]
    last = ((selector, w) for selector, w in moved if w.length_ms)
    long = (
        (selector, RangeWindow(w.length_ms + length_ms, w.offset_ms, two, whole))
        for selector, w in moved
    )
    return (*last, *long)


def _whole(duration: Duration) -> int:
    return duration if isinstance(duration, int) else _UNRESOLVED_MS


def _metric(selector: VectorSelector) -> str:
    """The one that it names; none where it demands something else of names."""
    demands = (m for matchers in selector.matcher_sets for m in matchers if m.name == "__name__")
    exact = (m.value for m in demands if m.op is MatchOp.EQUAL)
    return selector.name or next(exact, "")


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
