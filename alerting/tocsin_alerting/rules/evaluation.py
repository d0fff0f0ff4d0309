"""One evaluation of one rule: ask, step, write what it says, and judge what is unknown."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tocsin_alerting.promql.parser.ast import VectorSelector
from tocsin_alerting.rules.alert import Alert, AlertEvent, AlertState, EventKind, once_each
from tocsin_alerting.rules.alerting import Candidate, candidates, count_active, update_alerts
from tocsin_alerting.rules.cleared_or_lost import unproven_clears
from tocsin_alerting.rules.dependencies import health_of, is_filled, just_settled, shown, unmade
from tocsin_alerting.rules.fair_share import FairShare
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.instant_query import InstantQuerier, query_at, rows
from tocsin_alerting.rules.recording import record
from tocsin_alerting.rules.restore import RestoreMode, may_be_alerts_of, restore_alerts
from tocsin_alerting.rules.rule import AlertingRule, RecordingRule, RuleGroup
from tocsin_alerting.rules.state import MakeRoom, RuleHealth, RuleState, Run, Settled, no_room
from tocsin_alerting.rules.template_data import QueryRows, TemplateBudget, TemplateData
from tocsin_alerting.rules.unknown_alerts import (
    HISTORY,
    UNKNOWN_MAX_MS,
    LastFiring,
    Sources,
    SourceStatus,
    UnknownAlert,
    UnknownCauses,
    UnknownResult,
    all_unknown,
    concerning,
    is_alerts,
    is_history,
    resolve_unknown,
    was_removed,
)
from tocsin_exporter.slices import at_once
from tocsin_exporter.snapshot import Labels, Source

log = logging.getLogger(__name__)

LABELS_CHANGED = "the labels of its rule were changed"
WriteSamples = Callable[[Source, int, Sequence[tuple[Labels, float]]], object]
Unproven = Callable[[RuleState, Collection[str], int], Awaitable[frozenset[str]]]


class LimitExceeded(ValueError):
    """More alerts or series than the group's `limit` allows; its alerts are dropped."""


@dataclass(frozen=True, slots=True)
class EvaluationDeps:
    """All that an evaluation needs from outside.

    `write(source, at_ms, samples)` stores what a rule gave; a series of the last call for that
    source that is not among the samples goes stale. `make_room(source, samples)` comes before it
    where there are others than the last time, and may take turns. `seconds` is a monotonic clock.
    `remote`: the samples are somebody else's, and no restart of ours makes a gap in them.
    `unproven(progress, present, asked_ms)` gives the alerts (fingerprints) that are not present in
    the result, though nothing shows that they are over: they stay as they are.
    """

    engine: InstantQuerier
    write: WriteSamples
    sources: Sources
    seconds: Callable[[], float]
    external_labels: Mapping[str, str] = field(default_factory=dict)
    external_url: str = ""
    query_offset_ms: int = 0
    unknown_max_ms: int = UNKNOWN_MAX_MS
    restore: RestoreMode = RestoreMode.FULL
    make_room: MakeRoom = no_room
    remote: bool = False
    unproven: Unproven | None = None


async def evaluate_rule(
    progress: RuleState, group: RuleGroup, at_ms: int, deps: EvaluationDeps, read_ms: int = 0
) -> tuple[AlertEvent, ...]:
    """The rule's events of this evaluation. Never raises: a failure is kept and counted.

    `read_ms` is until when samples are read, if that is later than `at_ms`.
    """
    if not progress.ready:
        progress.ready = deps.sources.ready(progress.rule.query)
        if not progress.ready:
            return ()
    _restore(progress, at_ms, deps)
    traced = log.isEnabledFor(logging.DEBUG)
    started, before = deps.seconds(), _alert_states(progress) if traced else {}
    try:
        events = await _evaluate(progress, group, at_ms, deps, max(at_ms, read_ms))
        progress.last_success_ms = at_ms
    except Exception as error:  # why: whatever breaks a rule must be told, and not stop the others
        events = _failed(progress, error, at_ms, deps)
    progress.evaluations += 1
    progress.evaluated_ms = at_ms
    progress.evaluation_seconds = deps.seconds() - started
    if traced and (events or _alert_states(progress) != before):
        _trace(progress, group, events)
    return () if progress.removed else events


def _alert_states(progress: RuleState) -> Mapping[str, AlertState]:
    return {key: alert.state for key, alert in progress.alerts.items()}


def _trace(progress: RuleState, group: RuleGroup, events: Sequence[AlertEvent]) -> None:
    """An evaluation that changed something; the others, which are most, would bury it."""
    states = Counter(alert.state.value for alert in progress.alerts.values())
    fields = {
        "group": group.name,
        "rule": progress.rule.name,
        "events": ",".join(event.kind.value for event in events),
        **states,
        "seconds": round(progress.evaluation_seconds, 6),
    }
    log.debug("rule changed its alerts", extra=fields)


async def _evaluate(
    progress: RuleState, group: RuleGroup, at_ms: int, deps: EvaluationDeps, read_ms: int
) -> tuple[AlertEvent, ...]:
    rule = progress.rule
    own_offset = group.query_offset_ms
    offset_ms = deps.query_offset_ms if own_offset is None else own_offset
    written_ms = at_ms - offset_ms
    asked_ms, began = written_ms if offset_ms else read_ms, next(progress.turns)
    progress.began = began
    result = rows(await deps.engine.instant(rule.query, asked_ms))
    if isinstance(rule, RecordingRule):
        samples = record(rule, result)
        _check_limit(group, len(samples), "series")
        _write(progress, written_ms, samples, deps.write)
        progress.runs.append(Run(asked_ms, began, next(progress.turns)))
        progress.succeed()
        return ()
    now = Run(asked_ms, began, began)
    verdict = await _evaluate_alerts(progress, rule, group, result, at_ms, now, deps)
    try:
        if not progress.removed:
            _write(progress, written_ms, progress.alert_samples(rule), deps.write)
        progress.succeed()
    except Exception as error:  # why: people must hear of the alerts all the same
        log.exception("failed to store the alerts of a rule", extra={"rule": rule.uid})
        progress.fail(error, at_ms)
    return verdict.events


async def _candidates(
    progress: RuleState,
    rule: AlertingRule,
    result: QueryRows,
    at_ms: int,
    deps: EvaluationDeps,
) -> list[Candidate]:
    """The alerts that the result is, with their labels and annotations."""
    ask, spending = query_at(deps.engine, at_ms), TemplateBudget()

    def scope(labels: Mapping[str, str], value: float) -> TemplateData:
        return TemplateData(
            labels, value, at_ms, deps.external_labels, deps.external_url, ask, spending
        )

    return await candidates(rule, result, scope, progress.naming, FairShare(deps.seconds))


async def _evaluate_alerts(
    progress: RuleState,
    rule: AlertingRule,
    group: RuleGroup,
    result: QueryRows,
    at_ms: int,
    now: Run,
    deps: EvaluationDeps,
) -> UnknownResult:
    vector = await _candidates(progress, rule, result, at_ms, deps)
    before, share = progress.alerts, FairShare(deps.seconds)
    stepped = await progress.step(rule, vector, at_ms, share, deps.make_room)
    lost, held = await _unproven(progress, rule, {one.key for one in vector}, at_ms, now, deps)
    # From here on nobody else has a turn.
    if progress.alerts is not before:  # the clock was set meanwhile
        stepped = at_once(update_alerts(rule, vector, at_ms, progress.alerts))
    if group.limit:
        _check_limit(group, count_active(stepped.alerts.values()), "alerts")
    clears = any(event.kind is EventKind.CLEAR for event in stepped.events)
    asks = clears or len(progress.unknown_alerts) > 0
    stale, unsure = _unsure(progress, now) if asks else (frozenset[Source](), frozenset[Source]())
    dead, gone = _lost_sources(progress, at_ms, deps.sources)
    young, is_shown = progress.young(at_ms), shown(progress, now.began, deps.sources)
    touched = once_each(deps.sources.touched)  # there may be ten thousand sources to ask it for

    @once_each
    def health(source: Source) -> SourceStatus:
        if is_alerts(source):  # one that is no rule's now may have been renamed
            known = not unsure or source in progress.alerting_rules
            return SourceStatus.DEAD if source in unsure or not known else SourceStatus.ALIVE
        return _status_for_clear(source, progress, now, deps.sources, touched, is_shown)

    def unproven_yet(key: str) -> bool:
        return young or key in lost

    patchy = {
        source
        for source in progress.measured_seen
        if asks and health(source) is SourceStatus.PATCHY
    }
    proven = concerning(dead | patchy, progress.keeps_instance, unsure)
    unknown_by = concerning(dead | patchy, progress.keeps_instance, unsure | {HISTORY})

    def behind(alert: Alert) -> frozenset[Source]:
        return unknown_by(alert) if unproven_yet(alert.fingerprint) else proven(alert)

    verdict = resolve_unknown(
        _clear_or_removed(stepped.events, rule, progress, gone),
        stepped.alerts,
        progress.unknown_alerts,
        behind,
        health,
        at_ms,
        deps.unknown_max_ms,
        unproven_yet,
    )
    kept = {key: progress.alerts[key] for key in held & progress.alerts.keys()}
    _keep(progress, {**stepped.alerts, **kept}, verdict.unknown_alerts, at_ms)
    progress.held = _held(progress, health, stale, unproven_yet)
    return verdict


async def _unproven(
    progress: RuleState,
    rule: AlertingRule,
    present: Collection[str],
    at_ms: int,
    now: Run,
    deps: EvaluationDeps,
) -> tuple[frozenset[str], frozenset[str]]:
    """The alerts that are not present without it being known that they are over; those of them that
    stay as they are, because it is the engine that has yet to look."""
    lost = await unproven_clears(progress, rule, present, at_ms, deps.sources, deps.seconds)
    held = await deps.unproven(progress, present, now.at_ms) if deps.unproven else frozenset()
    return lost | held, held


def _unsure(progress: RuleState, now: Run) -> tuple[frozenset[Source], frozenset[Source]]:
    """The rules of which it is not known what they say or record; first those that have not said it
    since it is known, which is a matter of time."""
    stale = just_settled(progress, now.at_ms, now.began) | unmade(progress, now.began)
    return stale, stale | progress.unknown_inputs(partial(_is_held, progress))


def _held(
    progress: RuleState,
    health: Callable[[Source], SourceStatus],
    stale: frozenset[Source],
    unproven: Callable[[str], bool],
) -> frozenset[str]:
    """The alerts that anything keeps unknown but alerts of others that are unknown themselves."""

    def own_health(source: Source) -> SourceStatus:
        return SourceStatus.ALIVE if is_alerts(source) and source not in stale else health(source)

    waits = UnknownCauses(own_health, unproven)
    return frozenset(
        key for key, unknown_alert in progress.unknown_alerts.items() if waits.holds(unknown_alert)
    )


def _keep(
    progress: RuleState,
    alerts: Mapping[str, Alert],
    unknown_alerts: Mapping[str, UnknownAlert],
    at_ms: int,
) -> None:
    """What the evaluation has made of them. An alert that fires again after it was unknown was
    never over: it is active since it was."""
    settled = {
        key: before for key, before in progress.unknown_alerts.items() if key not in unknown_alerts
    }
    progress.alerts, progress.unknown_alerts = alerts, unknown_alerts
    for key, unknown_alert in settled.items():
        progress.settled.append(Settled(unknown_alert.alert, at_ms, next(progress.turns)))
        again = alerts.get(key)
        if again is not None and again.state is AlertState.FIRING and not unknown_alert.over:
            since_ms = min(again.active_at_ms, unknown_alert.alert.active_at_ms)
            progress.alerts = {**progress.alerts, key: replace(again, active_at_ms=since_ms)}


def _is_held(reader: RuleState, rule: RuleState, unknown_alert: UnknownAlert) -> bool:
    """Whether anything but what the alerts of others are kept an alert of `rule` unknown when that
    was evaluated last; `reader` is evaluated now, and has not failed."""
    if rule.health is RuleHealth.ERR or not unknown_alert.sources:
        return rule is not reader
    if unknown_alert.alert.fingerprint in rule.held:
        return True
    causes = (
        rule.alerting_rules[source]
        for source in unknown_alert.sources
        if source in rule.alerting_rules
    )
    return any(settled.ended > rule.began for cause in causes for settled in cause.settled)


def _clear_or_removed(
    events: Iterable[AlertEvent],
    rule: AlertingRule,
    progress: RuleState,
    gone: frozenset[Source],
) -> Iterator[AlertEvent]:
    """An alert has not cleared that has labels which the rule no longer gives it, or whose source
    was removed: its own one, or all that took part."""
    gone_of, reason = concerning(gone, progress.keeps_instance), once_each(was_removed)
    all_gone = gone.issuperset({*progress.measured_seen, *progress.presence_seen})
    for event in events:
        own = progress.keeps_instance and "instance" in dict(event.alert.labels)
        if event.kind is not EventKind.CLEAR:
            yield event
        elif not may_be_alerts_of(rule, (event.alert,)):
            yield replace(event, kind=EventKind.REMOVED, reason=LABELS_CHANGED)
        elif (own or all_gone) and (removed := gone_of(event.alert)):
            yield replace(event, kind=EventKind.REMOVED, reason=reason(removed))
        else:
            yield event


def _failed(
    progress: RuleState, error: Exception, at_ms: int, deps: EvaluationDeps
) -> tuple[AlertEvent, ...]:
    """State is held; what fires is unknown. Only a `limit` drops the alerts, as in Prometheus."""
    progress.fail(error, at_ms)
    reason = f"{progress.rule.name} could not be evaluated: {progress.last_error}"
    verdict = all_unknown(
        progress.alerts.values(), progress.unknown_alerts, reason, at_ms, deps.unknown_max_ms
    )
    progress.unknown_alerts = verdict.unknown_alerts
    if isinstance(error, LimitExceeded):
        progress.alerts = {}
    return verdict.events


def _restore(progress: RuleState, at_ms: int, deps: EvaluationDeps) -> None:
    """Puts the rows of the last run in place, once; those of a journal that came late beside what
    this run has found out since."""
    rows, progress.rows = progress.rows, ()
    if not rows or not isinstance(progress.rule, AlertingRule):
        return
    if progress.restored_ms is None and not deps.remote:
        progress.restored_ms = at_ms
    firing = {k: alert for k, alert in progress.alerts.items() if alert.state is AlertState.FIRING}
    before = restore_alerts(rows, progress.rule, at_ms, deps.restore, progress.interval_ms)
    progress.alerts = {**progress.alerts, **before, **firing}
    progress.take_gaps(rows)
    if not deps.remote:
        progress.last_firing |= dict(_last_firing(row) for row in rows if row.holds)
    took_part = _took_part(rows, progress, deps.sources)
    unknown_alerts = _restored_unknowns(rows, progress, took_part)
    progress.unknown_alerts = {**unknown_alerts, **progress.unknown_alerts}
    progress.last_success_ms = max(progress.last_success_ms or 0, *(row.seen_ms for row in rows))
    progress.measured_seen = (
        dict.fromkeys(took_part, progress.last_success_ms) | progress.measured_seen
    )


def _took_part(
    rows: Iterable[InstanceRow], progress: RuleState, sources: Sources
) -> frozenset[Source]:
    """The sources that the last run saw alive; where a crash took the row of an alert, each one
    that the rule measures may have been."""
    sets = {id(row.sources): row.sources for row in rows}  # rows of a rule share one, of any size
    seen = frozenset[Source]().union(*sets.values())
    if not any(row.holds and _has_no_sources(row) for row in rows):
        return seen
    return seen.union(*map(sources.touched, progress.measured))


def _has_no_sources(row: InstanceRow) -> bool:
    was_unknown = row.unknown_alert.sources if row.unknown_alert else ()
    return not row.sources and all(map(is_history, was_unknown))


def _restored_unknowns(
    rows: Iterable[InstanceRow], progress: RuleState, took_part: frozenset[Source]
) -> dict[str, UnknownAlert]:
    """Each ends only when the samples since show it; and one whose row a crash took, only when all
    answer whom it concerns."""
    waiting, concern = once_each(_with_history), concerning(took_part, progress.keeps_instance)
    return {
        unknown_alert.alert.fingerprint: replace(
            unknown_alert,
            sources=waiting(
                concern(unknown_alert.alert) if _has_no_sources(row) else unknown_alert.sources
            ),
        )
        for row in rows
        if (unknown_alert := row.unknown_alert) is not None
    }


def _with_history(sources: frozenset[Source]) -> frozenset[Source]:
    return frozenset(source for source in sources if not is_history(source)) | {HISTORY}


def _last_firing(row: InstanceRow) -> tuple[str, LastFiring]:
    alert = row.unknown_alert.alert if row.unknown_alert is not None else row.alert
    assert alert is not None
    was_unknown = row.unknown_alert is not None
    return alert.fingerprint, LastFiring(alert, row.seen_ms, row.sources, was_unknown)


def _lost_sources(
    progress: RuleState, at_ms: int, sources: Sources
) -> tuple[frozenset[Source], frozenset[Source]]:
    """Those of which a rule no longer knows what it asks: a dead one of what it measures, and of
    what tells whether it is up, one that is silent; and those that were removed."""

    def presence(source: Source) -> SourceStatus:
        return _presence_status(source, sources)

    def measured(source: Source) -> SourceStatus:
        return health_of(source, progress, sources)

    lost_ones, progress.measured_seen = _lost_of(
        progress, progress.measured_seen, progress.measured, sources.touched, measured, at_ms
    )
    silent, progress.presence_seen = _lost_of(
        progress, progress.presence_seen, progress.presence, sources.touched, presence, at_ms
    )
    lost = {*lost_ones.items(), *silent.items()}
    dead = frozenset(source for source, health in lost if health is SourceStatus.DEAD)
    return dead, frozenset(source for source, health in lost if health is SourceStatus.GONE) - dead


def _lost_of(
    progress: RuleState,
    seen: dict[Source, int],
    asked: Iterable[VectorSelector],
    touched: Callable[[VectorSelector], frozenset[Source]],
    health_of: Callable[[Source], SourceStatus],
    at_ms: int,
) -> tuple[dict[Source, SourceStatus], dict[Source, int]]:
    """What became of those, of the sources that took part in the last evaluation that succeeded or
    in the last one in whose result an alert stood that was kept firing until now, that are not
    alive; and when each was last seen."""
    health = {
        source: health_of(source)
        for source in frozenset[Source]().union(seen, *map(touched, asked))
    }
    if all(how is SourceStatus.ALIVE for how in health.values()):
        return {}, dict.fromkeys(health, at_ms)
    good_ms = progress.last_success_ms
    lost = {
        source: health[source]
        for source, seen_ms in seen.items()
        if health[source] in (SourceStatus.DEAD, SourceStatus.GONE)
        and good_ms is not None
        and good_ms - seen_ms <= progress.lasts_ms + progress.interval_ms  # it died later
    }
    alive = dict.fromkeys(
        (source for source, how in health.items() if how is SourceStatus.ALIVE), at_ms
    )
    return lost, {source: seen[source] for source in lost} | alive


def _presence_status(source: Source, sources: Sources) -> SourceStatus:
    """Who is down and says so is no secret."""
    return SourceStatus.ALIVE if sources.speaks(source) else sources.health(source)


def _status_for_clear(
    source: Source,
    progress: RuleState,
    now: Run,
    sources: Sources,
    touched: Callable[[VectorSelector], frozenset[Source]],
    is_shown: Callable[[Source], bool],
) -> SourceStatus:
    """What it means for a clear of this rule: a window with samples missing shows none, nor does
    what was recorded before they came."""
    if not progress.measured:
        return _presence_status(source, sources)
    health = health_of(source, progress, sources)
    if health is not SourceStatus.ALIVE:
        return health
    filled = is_filled(progress, source, now.at_ms, sources, touched)
    return SourceStatus.ALIVE if filled and is_shown(source) else SourceStatus.PATCHY


def _check_limit(group: RuleGroup, count: int, what: str) -> None:
    if group.limit and count > group.limit:
        raise LimitExceeded(f"exceeded limit of {group.limit} with {count} {what}")


def _write(
    progress: RuleState, at_ms: int, samples: Sequence[tuple[Labels, float]], write: WriteSamples
) -> None:
    """Nothing to say and nothing said before leaves no trace in the store."""
    if samples or progress.written:
        write(progress.source, at_ms, samples)
        progress.written = True
