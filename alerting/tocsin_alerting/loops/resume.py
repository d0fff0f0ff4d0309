"""What the last run left is taken up: samples, incidents, and what collectors counted."""

import logging
from collections.abc import Collection, Iterable, Iterator

from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.result import InstantVector
from tocsin_alerting.strconv import quote
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import END_OF_TIME
from tocsin_exporter.clock import STEP_MS, Stamps, set_back_ms
from tocsin_exporter.snapshot import ClockShifted, LastSample, Resumable, Source

log = logging.getLogger(__name__)

LOOK_BACK = "1h"  # before a source's end: a GPU that hung until then has no newer samples


async def load_last_run(
    store: Store, dispatcher: Dispatcher, now_ms: int, stamps: Iterable[Stamps] = ()
) -> int:
    """Incidents and samples of the last run, by our clock: one that was set back meanwhile, or was
    ahead then, would have us refuse every new sample until it has caught up.

    `store` holds what the disk had, `stamps` other times of that run. Gives how far these moved, in
    milliseconds. Raises SchemaTooNew.
    """
    samples_ms = store.newest_own_ms()
    await dispatcher.start(now_ms, samples_ms)
    delta_ms = set_back_ms(now_ms, samples_ms, dispatcher.recovery.saved_ms)
    if delta_ms:
        store.shift_clock(delta_ms, END_OF_TIME)
    for stamp in stamps:
        stamp.move_earlier(delta_ms)
    if delta_ms <= -STEP_MS:
        log.warning(
            "clock is %.0f s behind the last run; moving its samples and timers back",
            -delta_ms / 1000,
        )
    return delta_ms


def newest_reading_ms(engine: QueryEngine, now_ms: int) -> int | None:
    """When the last run read its last sample, if that was a moment ago."""
    newest = engine.evaluate("max(timestamp(up))", now_ms).value
    assert isinstance(newest, InstantVector)
    return int(newest.values[0] * 1000) if len(newest) else None


def resume_collectors(
    store: Store,
    engine: QueryEngine,
    collectors: Iterable[tuple[Source, object]],
    moved_ms: int = 0,
) -> None:
    """A collector that cannot resume counts from zero: the pager starts, whatever is in the store.

    `moved_ms`: how far the times in the store moved since they were written; those that samples
    have as their values did not.
    """
    for source, collector in collectors:
        at_ms = store.newest_ms(source)
        if at_ms is None or not isinstance(collector, Resumable):
            continue
        try:
            collector.resume(
                _last_samples(engine, source, collector.remembered, at_ms), at_ms / 1000
            )
            if isinstance(collector, ClockShifted):
                collector.move(moved_ms / 1000)
        except Exception:  # why: see above
            log.exception(
                "failed to restore counters; counting from zero",
                extra={"collector": collector.name},
            )


def warn_of_lost_journal(
    dispatcher: Dispatcher, store: Store, collectors: Iterable[tuple[Source, object]], now_ms: int
) -> None:
    """A journal that is new beside a store that is not was lost, or moved away: the numbers in it
    are not given again, or a receiver would take new messages for old ones."""
    if dispatcher.recovery.journal_is_new and any(
        store.newest_ms(source) is not None for source, _ in collectors
    ):
        log.warning(
            "journal is new, but samples of an earlier run exist: its incidents are unknown;"
            " what still fires opens new incidents"
        )
        dispatcher.working.numbers.begin_apart(now_ms)
        dispatcher.working.heartbeats.expect_all()


def answered_seconds(
    engine: QueryEngine, source: Source, interval_seconds: float, now_ms: int
) -> float:
    """For how long an inference engine, read every so many seconds, answered in the last hour."""
    wanted = f"job={quote(source.job)}, instance={quote(source.instance)}"
    query = f"max(sum_over_time(llm_engine_up{{{wanted}}}[{LOOK_BACK}]))"
    vector = engine.evaluate(query, now_ms).value
    assert isinstance(vector, InstantVector)
    return interval_seconds * float(vector.values[0]) if len(vector) else 0.0


def _last_samples(
    engine: QueryEngine, source: Source, names: Collection[str], at_ms: int
) -> Iterator[LastSample]:
    """The last sample of each series of these names."""
    wanted = (
        f"__name__=~{quote('|'.join(sorted(names)))}",
        f"job={quote(source.job)}",
        f"instance={quote(source.instance)}",
    )
    query = f"last_over_time({{{', '.join(wanted)}}}[{LOOK_BACK}])"
    vector = engine.evaluate(query, at_ms).value
    assert isinstance(vector, InstantVector)
    for labels, value in vector:
        named = dict(labels)
        yield LastSample(named.pop("__name__"), named, float(value))
