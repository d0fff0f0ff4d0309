"""After a restart: have alerts of the last run cleared, or are the samples lost that they stood on?

What was not on the disk when the last run ended is unknown, not clear. An alert that is no longer
in its rule's result has cleared only if samples show it: the store holds all that the last run had
seen (each evaluation writes the rule's alerts into the store's log, behind the samples that it
read), or new samples have come since. docs/store.md ("After a crash") says what is enough, and why.
"""

import asyncio
from collections.abc import Callable, Container
from functools import cache

from tocsin_alerting.promql.parser.ast import VectorSelector
from tocsin_alerting.rules.alert import Alert
from tocsin_alerting.rules.inputs import LOOK_BACK_MS
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.rules.state import RuleState
from tocsin_alerting.rules.unknown_alerts import (
    RULES_JOB,
    LastFiring,
    Reported,
    Sources,
    SourceStatus,
    concerning,
)
from tocsin_exporter.snapshot import Labels, Source

MAX_SECONDS = 0.1  # in which the store is asked about alerts, in one evaluation
SLICE_SECONDS = 0.005  # after which the loop turns: a page may have to go out


async def unproven_clears(
    progress: RuleState,
    rule: AlertingRule,
    present: Container[str],
    at_ms: int,
    sources: Sources,
    seconds: Callable[[], float],
) -> frozenset[str]:
    """The alerts of the last run (fingerprints) that have left the result of `rule`, which is that
    of `progress`, without a sample that shows why; `present` are those in the result.

    What is settled is forgotten in `progress.last_firing`. Whom there was no time to ask about
    comes first the next time. `seconds` is a monotonic clock.
    """
    if not progress.last_firing:
        return frozenset()
    for key in [key for key in progress.last_firing if key in present]:
        if _has_full_window(progress, at_ms):
            del progress.last_firing[key]
    left = [key for key in progress.last_firing if key not in present]
    for key in left:
        if _was_kept(progress.last_firing[key], progress):
            del progress.last_firing[key]
    all_spoke = _all_reported(progress, at_ms, sources)
    began = turned = seconds()
    for key in left:
        if (firing := progress.last_firing.pop(key, None)) is None:
            continue
        if not _is_proven(firing, progress, rule, at_ms, sources, all_spoke):
            progress.last_firing[key] = firing  # at the end
        now = seconds()
        if now - began >= MAX_SECONDS:
            break
        if now - turned >= SLICE_SECONDS:
            await asyncio.sleep(0)
            turned = seconds()
    return frozenset(key for key in left if key in progress.last_firing)


def _has_full_window(progress: RuleState, at_ms: int) -> bool:
    """Whether this run has held all samples for as long as the rule looks back."""
    return at_ms - (progress.restored_ms or 0) >= progress.reach_ms


def _was_kept(fired: LastFiring, progress: RuleState) -> bool:
    """Whether the store has all that was seen of it, and the restart took no time to speak of. Of
    what was unknown then nothing was seen that would show how it stands."""
    restored_ms, complete_ms = progress.restored_ms or 0, progress.complete_ms
    if fired.was_unknown or complete_ms is None or complete_ms < fired.at_ms:
        return False
    return 0 <= restored_ms - complete_ms <= progress.reach_ms // 2


def _is_proven(
    fired: LastFiring,
    progress: RuleState,
    rule: AlertingRule,
    at_ms: int,
    sources: Sources,
    all_spoke: Callable[[LastFiring], bool],
) -> bool:
    if at_ms <= fired.at_ms or at_ms - (progress.restored_ms or 0) < progress.window_ms:
        return False  # the clock was set back, or the windows are not filled yet
    return all_spoke(fired) or _has_newer_samples(fired, progress, rule, at_ms, sources)


def _has_newer_samples(
    fired: LastFiring, progress: RuleState, rule: AlertingRule, at_ms: int, sources: Sources
) -> bool:
    """Whether the very series of the alert have samples that are newer than it."""
    if progress.mixes_series or not progress.inputs:
        return False
    own = {"alertname", *dict(rule.labels)}
    labels: Labels = tuple(pair for pair in fired.alert.labels if pair[0] not in own)
    since_ms = max(fired.at_ms + 1, progress.restored_ms or 0, at_ms - LOOK_BACK_MS)
    return all(
        _is_plain(selector) and sources.has(selector, labels, since_ms, at_ms)
        for selector in progress.inputs
    )


def _is_plain(selector: VectorSelector) -> bool:
    return selector.offset == 0 and selector.at is None


def _all_reported(
    progress: RuleState, at_ms: int, sources: Sources
) -> Callable[[LastFiring], bool]:
    """Whether everyone who took part has said enough since; where it is not known who did, anyone
    whom the alert concerns; where there is nobody, as for the alerts of others, the rules of this
    run have. Each set of sources is asked once: there may be as many as alerts."""
    asks_nobody = not progress.measured and not progress.presence

    @cache
    def enough(source: Source, fired_ms: int) -> bool:
        is_stored = progress.complete_ms is not None and progress.complete_ms >= fired_ms
        reported, health = sources.said(source, fired_ms), sources.health(source)
        if reported is Reported.SOME:
            return health is SourceStatus.ALIVE and _has_full_window(progress, at_ms)
        if reported is Reported.ALL:  # of one that is dead, that it is
            return health is not SourceStatus.DEAD or not progress.measured
        return is_stored and health is SourceStatus.GONE

    @cache
    def theirs(taking_part: frozenset[Source]) -> Callable[[Alert], frozenset[Source]]:
        others = (source for source in taking_part if source.job != RULES_JOB)
        return concerning(others, progress.keeps_instance)

    @cache
    def touched() -> frozenset[Source]:
        return frozenset[Source]().union(*map(sources.touched, progress.inputs))

    @cache
    def spoke(asked: frozenset[Source], fired_ms: int, everyone: bool) -> bool:
        reported = (enough(source, fired_ms) for source in asked)
        return all(reported) if everyone else any(reported)

    def of(fired: LastFiring) -> bool:
        if took_part := theirs(fired.sources)(fired.alert):
            return spoke(took_part, fired.at_ms, True)
        if asked := theirs(touched())(fired.alert):
            return spoke(asked, fired.at_ms, False)
        return asks_nobody and _has_full_window(progress, at_ms)

    return of
