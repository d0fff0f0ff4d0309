"""What rules read of each other, and whether that says anything yet.

A source that answers again is known at once; what is recorded of it is made by the next evaluation
of the rule that records, and what is recorded of that by the one after. Until then the series are
missing for want of an evaluation, and show nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import count

from tocsin_alerting.promql.parser.ast import Expr, VectorSelector
from tocsin_alerting.rules.alert import once_each
from tocsin_alerting.rules.inputs import (
    RangeWindow,
    Read,
    inputs,
    names_alerts,
    reads,
    reads_alert,
    recorded_by,
)
from tocsin_alerting.rules.rule import RecordingRule
from tocsin_alerting.rules.state import RuleHealth, RuleState, Run
from tocsin_alerting.rules.unknown_alerts import RULES_JOB, Sources, SourceStatus, alerts_of
from tocsin_exporter.slices import Work, at_once, parts
from tocsin_exporter.snapshot import Source

MOST_WINDOWS = 64
SLICE_RULES = 50  # some milliseconds
Recorded = Mapping[str, Sequence[RuleState]]


def connect(rules: Sequence[RuleState], turns: Iterator[int] | None = None) -> None:
    """As `connecting`, without a pause."""
    at_once(connecting(rules, turns))


def connecting(rules: Sequence[RuleState], turns: Iterator[int] | None = None) -> Work[None]:
    """Has each rule know the recording rules behind it, and whose alerts it may read. None is to be
    evaluated meanwhile."""
    recorded: dict[str, list[RuleState]] = defaultdict(list)
    for rule in rules:
        if isinstance(rule.rule, RecordingRule):
            recorded[rule.rule.name].append(rule)
    queries = {name: [maker.rule.query for maker in makers] for name, makers in recorded.items()}
    others, turns = {alerts_of(rule.source): rule for rule in rules}, turns or count(1)
    ordered = yield from _in_order(rules, recorded)
    for part in parts(ordered, SLICE_RULES):
        for rule in part:
            rule.alerting_rules, rule.turns = others, turns
            _read(rule, queries, recorded)
        yield


def _in_order(rules: Sequence[RuleState], recorded: Recorded) -> Work[Sequence[RuleState]]:
    """Each after those behind it, as far as they do not read each other in a circle: there is no
    first one then, and it begins with what one of them measures."""
    by_id = {id(rule): rule for rule in rules}
    graph: dict[int, set[int]] = {}
    for part in parts(rules, SLICE_RULES):
        for rule in part:
            makers = (m for read in reads(rule.rule.query) for m in _makers(read, recorded))
            graph[id(rule)] = {id(maker) for maker in makers} - {id(rule)}
        yield
    order = _sorted(graph)
    for reader in order:
        by_id[reader].behind = tuple(by_id[maker] for maker in graph[reader])
    return [by_id[reader] for reader in order]


def _sorted(graph: Mapping[int, set[int]]) -> list[int]:
    """In one pass, which takes from `graph` what closes a circle: rules that all read each other
    have as many as pairs, and to begin again after each would hold up the start."""
    order: list[int] = []
    open_now: dict[int, bool] = {}  # of those that were met
    for first in graph:
        waiting = [] if first in open_now else [(first, iter(tuple(graph[first])))]
        open_now.setdefault(first, True)
        while waiting:
            reader, left = waiting[-1]
            behind = next(left, None)
            if behind is None:
                open_now[reader] = False
                order.append(reader)
                waiting.pop()
            elif behind not in open_now:
                open_now[behind] = True
                waiting.append((behind, iter(tuple(graph[behind]))))
            elif open_now[behind]:
                graph[reader].discard(behind)
    return order


def _makers(read: Read, recorded: Recorded) -> Iterator[RuleState]:
    return (maker for name in recorded_by(read[0], recorded) for maker in recorded[name])


def _read(rule: RuleState, queries: Mapping[str, Iterable[Expr]], recorded: Recorded) -> None:
    now: dict[int, RuleState] = {}
    through: set[Read] = set()
    reach = {
        selector: window.reach_ms
        for selector, window in reads(rule.rule.query)
        if names_alerts(selector)
    }
    behind = {id(maker) for maker in rule.behind}
    for read in reads(rule.rule.query):
        for other in (maker for maker in _makers(read, recorded) if id(maker) in behind):
            if not read[1].reach_ms:
                now[id(other)] = other
                continue
            through |= _through(read[1], other)
            for selector, back_ms in _alerts_behind(other):
                far_ms = read[1].reach_ms + other.lag_ms + back_ms
                reach[selector] = max(far_ms, reach.get(selector, 0))
    if len(through) > MOST_WINDOWS:
        far_ms = max(window.reach_ms for _, window in through)
        through = {(selector, RangeWindow(far_ms, whole=True)) for selector, _ in through}
    rule.behind, rule.alert_reach = tuple(now.values()), tuple(reach.items())
    rule.lag_ms = rule.interval_ms + max((maker.lag_ms for maker in rule.behind), default=0)
    rule.reads(inputs(rule.rule.query, queries), frozenset(through))


def _alerts_behind(rule: RuleState) -> Iterator[tuple[VectorSelector, int]]:
    makers = {id(rule): rule}
    waiting = [rule]
    while waiting:
        maker = waiting.pop()
        yield from maker.alert_reach
        new = {id(other): other for other in maker.behind if id(other) not in makers}
        makers |= new
        waiting += new.values()


def _through(window: RangeWindow, behind: RuleState) -> set[Read]:
    """What a window on the series that a rule records shows of what that rule reads: its samples
    are as old as an interval, and more if it reads what others record."""
    lag_ms, windows = behind.lag_ms, set[Read]()
    for selector, own in behind.windows:
        offset_ms = window.offset_ms + own.offset_ms
        ends = {(selector, replace(own, offset_ms=offset_ms + more)) for more in (0, lag_ms)}
        if window.length_ms:
            for length_ms in (window.length_ms, window.length_ms + lag_ms + own.length_ms):
                long = replace(window, length_ms=length_ms, offset_ms=offset_ms)
                windows.add((selector, long))
            windows |= ends if own.length_ms else set()
        elif own.length_ms <= lag_ms:
            windows.add((selector, RangeWindow(lag_ms + own.length_ms, offset_ms, steady=True)))
        else:
            windows |= ends
    return windows


def chain(rule: RuleState, began: int) -> Iterator[tuple[RuleState, Run | None]]:
    """The evaluations whose results an evaluation of `rule` reads that began as the `began`th, and
    those whose results they had read; None for a rule that has none yet."""
    waiting, known = [(maker, began) for maker in rule.behind], set[tuple[int, int]]()
    while waiting:
        maker, before = waiting.pop()
        run = maker.run_before(before)
        key = id(maker), -1 if run is None else run.ended
        if key in known:
            continue
        known.add(key)
        yield maker, run
        if run is not None:
            waiting += [(other, run.began) for other in maker.behind]


def shown(rule: RuleState, began: int, sources: Sources) -> Callable[[Source], bool]:
    """Whether all that was recorded of a source that is alive was recorded since it is, and from
    windows that are filled. Who is behind is worked out once, when the first source is asked about:
    there may be very many."""
    touched = once_each(sources.touched)

    @cache
    def behind() -> list[tuple[frozenset[Source], RuleState, Run | None]]:
        return [
            (frozenset[Source]().union(*map(touched, maker.measured)), maker, run)
            for maker, run in chain(rule, began)
        ]

    def of(source: Source) -> bool:
        return all(
            run is not None and is_filled(maker, source, run.at_ms, sources, touched)
            for measured, maker, run in behind()
            if run is None or source in measured
        )

    return of


def is_filled(
    rule: RuleState,
    source: Source,
    at_ms: int,
    sources: Sources,
    touched: Callable[[VectorSelector], Collection[Source]],
) -> bool:
    """Whether the windows at `at_ms` have the samples of `source` that they should: those on series
    of its own, for others may come at another pace. `touched` is that of `sources`."""
    return all(
        sources.fills(source, window, at_ms)
        for selector, window in rule.windows
        if source in touched(selector)
    )


def just_settled(rule: RuleState, at_ms: int, began: int) -> frozenset[Source]:
    """By whose alerts, which were unknown until a moment ago, `rule` may have lost its own: what
    it read of them, itself or by what was recorded, is from the time before."""
    if not rule.alerts_read:
        return frozenset()
    readers = [(rule.alert_reach, at_ms, began)]
    readers += [
        (maker.alert_reach, run.at_ms, run.began) for maker, run in chain(rule, began) if run
    ]
    return frozenset(
        source
        for source, other in rule.alerting_rules.items()
        if other.settled and other is not rule and _is_behind(other, readers)
    )


def _is_behind(
    other: RuleState, readers: Iterable[tuple[Iterable[tuple[VectorSelector, int]], int, int]]
) -> bool:
    return any(
        (settled.ended > began or at_ms - settled.at_ms < far_ms)
        and reads_alert(selector, settled.alert)
        for reach, at_ms, began in readers
        for selector, far_ms in reach
        for settled in other.settled
    )


def unmade(rule: RuleState, began: int) -> frozenset[Source]:
    """The rules behind it that fail, or have not been evaluated yet: they record nothing."""
    return frozenset(
        maker.source for maker, run in chain(rule, began) if run is None or _fails(maker)
    )


def health_of(source: Source, rule: RuleState, sources: Sources) -> SourceStatus:
    """What a rule records that fails is as good as dead; of one that is no rule any more, or has
    another name now, nobody can tell."""
    if source.job != RULES_JOB or not rule.alerting_rules:
        return sources.health(source)
    other = rule.alerting_rules.get(alerts_of(source))
    if other is None or other is rule or not isinstance(other.rule, RecordingRule):
        return SourceStatus.ALIVE
    return SourceStatus.ALIVE if other.runs and not _fails(other) else SourceStatus.DEAD


def _fails(rule: RuleState) -> bool:
    return rule.health is RuleHealth.ERR
