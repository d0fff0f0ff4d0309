"""One evaluation of one rule: ask, step, write what it says, and judge what is unknown."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

from tocsin_alerting.promql.ast import VectorSelector
from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind
from tocsin_alerting.rules.alerting import active, candidates, step
from tocsin_alerting.rules.dependencies import health_of, is_filled, just_settled, shown, unmade
from tocsin_alerting.rules.fair_share import FairShare
from tocsin_alerting.rules.journal import InstanceRow
from tocsin_alerting.rules.progress import RuleHealth, RuleProgress, Run, Settled
from tocsin_alerting.rules.proof import unproven
from tocsin_alerting.rules.query import Engine, query_at, rows
from tocsin_alerting.rules.recording import record
from tocsin_alerting.rules.restore import Restore, fits, restored
from tocsin_alerting.rules.rule import AlertingRule, Group, RecordingRule
from tocsin_alerting.rules.scope import Rows, Scope, Spending
from tocsin_alerting.rules.unknown import (
    HISTORY,
    UNKNOWN_MAX_MS,
    Doubt,
    Fired,
    Health,
    Sources,
    Verdict,
    Waits,
    concerns,
    doubt_all,
    is_alerts,
    is_history,
    settle,
    was_removed,
)
from tocsin_exporter.snapshot import Labels, Source

log = logging.getLogger(__name__)

LABELS_CHANGED = "the labels of its rule were changed"
Write = Callable[[Source, int, Sequence[tuple[Labels, float]]], object]


class LimitExceeded(ValueError):
    """More alerts or series than the group's `limit` allows; its alerts are dropped."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that an evaluation needs from outside.

    `write(source, at_ms, samples)` stores what a rule gave; a series of the last call for that
    source that is not among the samples goes stale. `seconds` is a monotonic clock.
    """

    engine: Engine
    write: Write
    sources: Sources
    seconds: Callable[[], float]
    external_labels: Mapping[str, str] = field(default_factory=dict)
    external_url: str = ""
    query_offset_ms: int = 0
    unknown_max_ms: int = UNKNOWN_MAX_MS
    restore: Restore = Restore.FULL


async def evaluate_rule(
    progress: RuleProgress, group: Group, at_ms: int, around: Surroundings, read_ms: int = 0
) -> tuple[AlertEvent, ...]:
    """The rule's events of this evaluation. Never raises: a failure is kept and counted.

    `read_ms` is until when samples are read, if that is later than `at_ms`.
    """
    if not progress.ready:
        progress.ready = around.sources.ready(progress.rule.query)
        if not progress.ready:
            return ()
    _restore(progress, at_ms, around)
    traced = log.isEnabledFor(logging.DEBUG)
    started, before = around.seconds(), _states(progress) if traced else {}
    try:
        events = await _evaluated(progress, group, at_ms, around, max(at_ms, read_ms))
        progress.good_ms = at_ms
    except Exception as error:  # why: whatever breaks a rule must be told, and not stop the others
        events = _failed(progress, error, at_ms, around)
    progress.evaluations += 1
    progress.evaluated_ms = at_ms
    progress.evaluation_seconds = around.seconds() - started
    if traced and (events or _states(progress) != before):
        _trace(progress, group, events)
    return () if progress.removed else events


def _states(progress: RuleProgress) -> Mapping[str, AlertState]:
    return {key: alert.state for key, alert in progress.alerts.items()}


def _trace(progress: RuleProgress, group: Group, events: Sequence[AlertEvent]) -> None:
    """An evaluation that changed something; the others, which are most, would bury it."""
    states = Counter(alert.state.value for alert in progress.alerts.values())
    told = {
        "group": group.name,
        "rule": progress.rule.name,
        "events": ",".join(event.kind.value for event in events),
        **states,
        "seconds": round(progress.evaluation_seconds, 6),
    }
    log.debug("a rule changed its alerts", extra=told)


async def _evaluated(
    progress: RuleProgress, group: Group, at_ms: int, around: Surroundings, read_ms: int
) -> tuple[AlertEvent, ...]:
    rule = progress.rule
    own_offset = group.query_offset_ms
    offset_ms = around.query_offset_ms if own_offset is None else own_offset
    written_ms = at_ms - offset_ms
    asked_ms, began = written_ms if offset_ms else read_ms, next(progress.turns)
    progress.began = began
    result = rows(await around.engine.instant(rule.query, asked_ms))
    if isinstance(rule, RecordingRule):
        samples = record(rule, result)
        _check_limit(group, len(samples), "series")
        _write(progress, written_ms, samples, around.write)
        progress.runs.append(Run(asked_ms, began, next(progress.turns)))
        progress.health, progress.last_error = RuleHealth.OK, ""
        return ()
    now = Run(asked_ms, began, began)
    verdict = await _alerted(progress, rule, group, result, at_ms, now, around)
    progress.health, progress.last_error = RuleHealth.OK, ""
    try:
        if not progress.removed:
            _write(progress, written_ms, progress.alert_samples(rule), around.write)
    except Exception as error:  # why: people must hear of the alerts all the same
        log.exception("the alerts of a rule could not be stored", extra={"rule": rule.uid})
        _count_failure(progress, error)
    return verdict.events


async def _alerted(
    progress: RuleProgress,
    rule: AlertingRule,
    group: Group,
    result: Rows,
    at_ms: int,
    now: Run,
    around: Surroundings,
) -> Verdict:
    ask, spending = query_at(around.engine, at_ms), Spending()

    def scope(labels: Mapping[str, str], value: float) -> Scope:
        return Scope(
            labels, value, at_ms, around.external_labels, around.external_url, ask, spending
        )

    vector = await candidates(rule, result, scope, progress.naming, FairShare(around.seconds))
    present = {one.key for one in vector}
    lost = await unproven(progress, rule, present, at_ms, around.sources, around.seconds)
    stepped = step(rule, vector, at_ms, progress.alerts)  # from here on nobody else has a turn
    if group.limit:
        _check_limit(group, active(stepped.alerts.values()), "alerts")
    told = any(event.kind is EventKind.CLEAR for event in stepped.events)
    asks = told or len(progress.doubts) > 0
    stale, unsure = _unsure(progress, now) if asks else (frozenset[Source](), frozenset[Source]())
    dead, gone = _lost_sources(progress, at_ms, around.sources)
    young, is_shown = progress.young(at_ms), shown(progress, now.began, around.sources)

    @cache
    def health(source: Source) -> Health:
        if is_alerts(source):  # one that is no rule's now may have been renamed
            known = not unsure or source in progress.others
            return Health.DEAD if source in unsure or not known else Health.ALIVE
        return _health(source, progress, now, around.sources, is_shown)

    def unproven_yet(key: str) -> bool:
        return young or key in lost

    patchy = {one for one in progress.seen if asks and health(one) is Health.PATCHY}
    proven = concerns(dead | patchy, progress.keeps_instance, unsure)
    doubtful = concerns(dead | patchy, progress.keeps_instance, unsure | {HISTORY})

    def behind(alert: Alert) -> frozenset[Source]:
        return doubtful(alert) if unproven_yet(alert.fingerprint) else proven(alert)

    verdict = settle(
        _or_removed(stepped.events, rule, progress, gone),
        stepped.alerts,
        progress.doubts,
        behind,
        health,
        at_ms,
        around.unknown_max_ms,
        unproven_yet,
    )
    _keep(progress, stepped.alerts, verdict.doubts, at_ms)
    progress.held = _held(progress, health, stale, unproven_yet)
    return verdict


def _unsure(progress: RuleProgress, now: Run) -> tuple[frozenset[Source], frozenset[Source]]:
    """The rules of which it is not known what they say or record; first those that have not said it
    since it is known, which is a matter of time."""
    stale = just_settled(progress, now.at_ms, now.began) | unmade(progress, now.began)
    return stale, stale | progress.unknown_alerts(partial(_is_held, progress))


def _held(
    progress: RuleProgress,
    health: Callable[[Source], Health],
    stale: frozenset[Source],
    unproven: Callable[[str], bool],
) -> frozenset[str]:
    """The doubts that anything keeps but alerts of others that are in doubt themselves."""

    def own_health(source: Source) -> Health:
        return Health.ALIVE if is_alerts(source) and source not in stale else health(source)

    waits = Waits(own_health, unproven)
    return frozenset(key for key, one in progress.doubts.items() if waits.holds(one))


def _keep(
    progress: RuleProgress, alerts: Mapping[str, Alert], doubts: Mapping[str, Doubt], at_ms: int
) -> None:
    """What the evaluation has made of them. An alert that fires again after a doubt was never over:
    it is active since it was."""
    settled = {key: one for key, one in progress.doubts.items() if key not in doubts}
    progress.alerts, progress.doubts = alerts, doubts
    for key, doubt in settled.items():
        progress.settled.append(Settled(doubt.alert, at_ms, next(progress.turns)))
        again = alerts.get(key)
        if again is not None and again.state is AlertState.FIRING and not doubt.over:
            since_ms = min(again.active_at_ms, doubt.alert.active_at_ms)
            progress.alerts = {**progress.alerts, key: replace(again, active_at_ms=since_ms)}


def _is_held(reader: RuleProgress, rule: RuleProgress, doubt: Doubt) -> bool:
    """Whether anything but what the alerts of others are kept an alert of `rule` in doubt when that
    was evaluated last; `reader` is evaluated now, and has not failed."""
    if rule.health is RuleHealth.ERR or not doubt.sources:
        return rule is not reader
    if doubt.alert.fingerprint in rule.held:
        return True
    causes = (rule.others[one] for one in doubt.sources if one in rule.others)
    return any(one.ended > rule.began for cause in causes for one in cause.settled)


def _or_removed(
    events: Iterable[AlertEvent],
    rule: AlertingRule,
    progress: RuleProgress,
    gone: frozenset[Source],
) -> Iterator[AlertEvent]:
    """An alert has not cleared that has labels which the rule no longer gives it, or whose source
    was removed: its own one, or all that took part."""
    theirs, reason = concerns(gone, progress.keeps_instance), cache(was_removed)
    all_gone = gone.issuperset({*progress.seen, *progress.spoke})
    for event in events:
        own = progress.keeps_instance and "instance" in dict(event.alert.labels)
        if event.kind is not EventKind.CLEAR:
            yield event
        elif not fits(rule, (event.alert,)):
            yield replace(event, kind=EventKind.REMOVED, reason=LABELS_CHANGED)
        elif (own or all_gone) and (removed := theirs(event.alert)):
            yield replace(event, kind=EventKind.REMOVED, reason=reason(removed))
        else:
            yield event


def _failed(
    progress: RuleProgress, error: Exception, at_ms: int, around: Surroundings
) -> tuple[AlertEvent, ...]:
    """State is held; what fires is unknown. Only a `limit` drops the alerts, as in Prometheus."""
    _count_failure(progress, error)
    reason = f"{progress.rule.name} could not be evaluated: {progress.last_error}"
    verdict = doubt_all(
        progress.alerts.values(), progress.doubts, reason, at_ms, around.unknown_max_ms
    )
    progress.doubts = verdict.doubts
    if isinstance(error, LimitExceeded):
        progress.alerts = {}
    return verdict.events


def _count_failure(progress: RuleProgress, error: Exception) -> None:
    progress.health, progress.last_error = RuleHealth.ERR, str(error) or type(error).__name__
    progress.failures += 1


def _restore(progress: RuleProgress, at_ms: int, around: Surroundings) -> None:
    """Puts the rows of the last run in place, once; those of a journal that came late beside what
    this run has found out since."""
    rows, progress.rows = progress.rows, ()
    if not rows or not isinstance(progress.rule, AlertingRule):
        return
    if progress.restored_ms is None:
        progress.restored_ms = at_ms
    firing = {k: one for k, one in progress.alerts.items() if one.state is AlertState.FIRING}
    before = restored(rows, progress.rule, at_ms, around.restore, progress.interval_ms)
    progress.alerts = {**progress.alerts, **before, **firing}
    progress.fired |= dict(_fired(row) for row in rows if row.holds)
    took_part = _took_part(rows, progress, around.sources)
    progress.doubts = _restored_doubts(rows, progress, took_part) | dict(progress.doubts)
    progress.good_ms = max(progress.good_ms or 0, *(row.seen_ms for row in rows))
    progress.seen = dict.fromkeys(took_part, progress.good_ms) | progress.seen


def _took_part(
    rows: Iterable[InstanceRow], progress: RuleProgress, sources: Sources
) -> frozenset[Source]:
    """The sources that the last run saw alive; where a crash took the row of an alert, each one
    that the rule measures may have been."""
    sets = {id(row.sources): row.sources for row in rows}  # rows of a rule share one, of any size
    seen = frozenset[Source]().union(*sets.values())
    if not any(row.holds and _names_nobody(row) for row in rows):
        return seen
    return seen.union(*map(sources.touched, progress.measured))


def _names_nobody(row: InstanceRow) -> bool:
    doubted = row.doubt.sources if row.doubt else ()
    return not row.sources and all(map(is_history, doubted))


def _restored_doubts(
    rows: Iterable[InstanceRow], progress: RuleProgress, took_part: frozenset[Source]
) -> dict[str, Doubt]:
    """Each ends only when the samples since show it; and one whose row a crash took, only when all
    answer whom it concerns."""
    waiting, concern = cache(_with_history), concerns(took_part, progress.keeps_instance)
    return {
        doubt.alert.fingerprint: replace(
            doubt, sources=waiting(concern(doubt.alert) if _names_nobody(row) else doubt.sources)
        )
        for row in rows
        if (doubt := row.doubt) is not None
    }


def _with_history(sources: frozenset[Source]) -> frozenset[Source]:
    return frozenset(source for source in sources if not is_history(source)) | {HISTORY}


def _fired(row: InstanceRow) -> tuple[str, Fired]:
    alert = row.doubt.alert if row.doubt is not None else row.alert
    assert alert is not None
    doubted = row.doubt is not None
    return alert.fingerprint, Fired(alert, row.seen_ms, row.sources, doubted)


def _lost_sources(
    progress: RuleProgress, at_ms: int, sources: Sources
) -> tuple[frozenset[Source], frozenset[Source]]:
    """Those of which a rule no longer knows what it asks: a dead one of what it measures, and of
    what tells whether it is up, one that is silent; and those that were removed."""

    def presence(source: Source) -> Health:
        return _presence(source, sources)

    def measured(source: Source) -> Health:
        return health_of(source, progress, sources)

    lost_ones, progress.seen = _lost(
        progress, progress.seen, progress.measured, sources.touched, measured, at_ms
    )
    said, progress.spoke = _lost(
        progress, progress.spoke, progress.presence, sources.touched, presence, at_ms
    )
    lost = {*lost_ones.items(), *said.items()}
    dead = frozenset(source for source, health in lost if health is Health.DEAD)
    return dead, frozenset(source for source, health in lost if health is Health.GONE) - dead


def _lost(
    progress: RuleProgress,
    seen: dict[Source, int],
    asked: Iterable[VectorSelector],
    touched: Callable[[VectorSelector], frozenset[Source]],
    health_of: Callable[[Source], Health],
    at_ms: int,
) -> tuple[dict[Source, Health], dict[Source, int]]:
    """What became of those, of the sources that took part in the last evaluation that succeeded or
    in the last one in whose result an alert stood that was kept firing until now, that are not
    alive; and when each was last seen."""
    health = {one: health_of(one) for one in frozenset[Source]().union(seen, *map(touched, asked))}
    if all(how is Health.ALIVE for how in health.values()):
        return {}, dict.fromkeys(health, at_ms)
    good_ms = progress.good_ms
    lost = {
        source: health[source]
        for source, seen_ms in seen.items()
        if health[source] in (Health.DEAD, Health.GONE)
        and good_ms is not None
        and good_ms - seen_ms <= progress.lasts_ms + progress.interval_ms  # it died later
    }
    alive = dict.fromkeys((one for one, how in health.items() if how is Health.ALIVE), at_ms)
    return lost, {source: seen[source] for source in lost} | alive


def _presence(source: Source, sources: Sources) -> Health:
    """Who is down and says so is no secret."""
    return Health.ALIVE if sources.speaks(source) else sources.health(source)


def _health(
    source: Source,
    progress: RuleProgress,
    now: Run,
    sources: Sources,
    is_shown: Callable[[Source], bool],
) -> Health:
    """What it means for a clear of this rule: a window with samples missing shows none, nor does
    what was recorded before they came."""
    if not progress.measured:
        return _presence(source, sources)
    health = health_of(source, progress, sources)
    if health is not Health.ALIVE:
        return health
    filled = is_filled(progress, source, now.at_ms, sources, sources.touched)
    return Health.ALIVE if filled and is_shown(source) else Health.PATCHY


def _check_limit(group: Group, count: int, what: str) -> None:
    if group.limit and count > group.limit:
        raise LimitExceeded(f"exceeded limit of {group.limit} with {count} {what}")


def _write(
    progress: RuleProgress, at_ms: int, samples: Sequence[tuple[Labels, float]], write: Write
) -> None:
    """Nothing to say and nothing said before leaves no trace in the store."""
    if samples or progress.written:
        write(progress.source, at_ms, samples)
        progress.written = True
