"""What the rules may know of the sources, from a real store."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from support.archives import Kept
from tocsin_alerting.loops.source_status import StoreSources
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.parser.ast import selectors
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.rules.unknown_alerts import RULES_JOB, Reported, SourceStatus
from tocsin_alerting.tsdb.store import HOUR_MS, Store
from tocsin_alerting.tsdb.values import STALE_BITS
from tocsin_exporter.snapshot import (
    Family,
    Labels,
    Layout,
    Series,
    Snapshot,
    Source,
    labels,
    unread,
)

STALE = float(np.array([STALE_BITS], np.int64).view(np.float64)[0])
ONE, TWO = Source("llm", "one"), Source("llm", "two")
LAYOUT = Layout((Series(Family("m", "gauge", ""), "m", labels(a="b")),))


def _store(**ok: bool) -> Store:
    store = Store()
    for instance, well in ok.items():
        source = Source("llm", instance)
        values = np.array([1.0]) if well else np.empty(0)
        layout = LAYOUT if well else Layout(())
        store.append(Snapshot(source, 1000, True, LAYOUT, np.array([1.0]), 0.1))
        store.append(Snapshot(source, 2000, well, layout, values, 0.1))
    return store


def test_a_query_touches_the_sources_that_have_such_series() -> None:
    sources = StoreSources(_store(one=True, two=False), list, lambda: True, lambda: 2000)
    every, one, none = selectors(parse('m + m{instance="one"} + nosuch'))
    assert sources.touched(every) == {ONE, TWO}
    assert sources.touched(one) == {ONE}
    assert sources.touched(none) == frozenset()


def test_health() -> None:
    sources = StoreSources(
        _store(one=True, two=False), lambda: [ONE, TWO], lambda: True, lambda: 10**9
    )
    assert sources.health(ONE) is SourceStatus.ALIVE
    assert sources.health(TWO) is SourceStatus.DEAD
    assert sources.health(Source("llm", "never heard of")) is SourceStatus.DEAD  # nobody removed it
    assert sources.health(Source(RULES_JOB, "f;g/A/0")) is SourceStatus.DEAD


async def test_a_source_that_we_could_not_ask_is_unknown_and_not_down(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.store.append(Snapshot(ONE, 1000, True, LAYOUT, np.array([1.0]), 0.1))
    kept.store.append(replace(unread(ONE, 2000), report=False))
    kept.disk.tick()
    for one in (kept, kept.again()):
        sources = StoreSources(one.store, lambda: [ONE], lambda: True, lambda: 3000)
        assert sources.health(ONE) is SourceStatus.DEAD and not sources.speaks(ONE)
        result = await QueryEngine(one.store).instant('{__name__=~"up|m"}', 3000)
        assert list(result.value) == []  # type: ignore[arg-type]
        one.disk.abandon_wal()


def test_who_is_down_speaks_and_who_is_silent_does_not() -> None:
    store, now = _store(one=True, two=False), 2000
    others = StoreSources(store, list, lambda: True, lambda: now)
    ours = StoreSources(store, lambda: [ONE, TWO], lambda: True, lambda: now)
    every = (ONE, TWO, Source("llm", "never heard of"))
    assert [others.speaks(one) for one in every] == [True, True, False]
    now += 300_000
    assert [others.speaks(one) for one in every] == [False, False, False]
    assert [ours.speaks(one) for one in every] == [True, True, False]


def test_a_source_that_is_no_longer_watched_is_gone() -> None:
    store = _store(two=False)
    sources = StoreSources(store, lambda: [ONE], lambda: True, lambda: 2000)
    assert sources.health(TWO) is SourceStatus.DEAD
    store.end_source(TWO, 3000)
    assert sources.health(TWO) is SourceStatus.GONE
    assert sources.health(ONE) is SourceStatus.DEAD  # watched, and not heard of yet


def test_a_source_is_gone_when_its_writer_or_the_configuration_says_so() -> None:
    store = Store()
    sources = StoreSources(store, list, lambda: True, lambda: 9 * HOUR_MS)
    far = labels(instance="two", job="llm")
    up = tuple(sorted((*far, ("__name__", "up"))))
    store.write([(up, 1000, 1.0)])
    store.expire(2000 + HOUR_MS)
    assert (store.last_seen(TWO), sources.health(TWO)) == (None, SourceStatus.DEAD)
    store.write([(up, 2 * HOUR_MS, STALE)])
    store.expire(4 * HOUR_MS)
    assert sources.health(TWO) is SourceStatus.GONE
    store.write([(up, 4 * HOUR_MS, 1.0)])
    store.expire(9 * HOUR_MS)
    assert sources.health(TWO) is SourceStatus.DEAD


def test_what_the_last_run_read_is_gone_if_this_one_reads_it_no_more(tmp_path: Path) -> None:
    snapshots = [Snapshot(ONE, at_ms, True, LAYOUT, np.array([1.0]), 0.1) for at_ms in (1000, 2000)]
    before = Kept(tmp_path)
    before.store.append(snapshots[0])
    before.disk.tick()
    after = before.again()
    store = after.store
    watched = [ONE]
    sources = StoreSources(store, lambda: watched, lambda: True, lambda: 3000)
    assert sources.health(ONE) is SourceStatus.DEAD  # not read yet
    watched.clear()
    assert sources.health(ONE) is SourceStatus.GONE
    store.append(snapshots[1])
    assert sources.health(ONE) is SourceStatus.ALIVE
    after.disk.abandon_wal()


class Asked(Store):
    """Counts who asks for series with certain labels."""

    questions = 0

    def series(self, *arguments: Any, **named: Any) -> list[Labels]:
        self.questions += 1
        return super().series(*arguments, **named)


def test_many_alerts_ask_for_their_series_at_once() -> None:
    store = Asked()
    sources = StoreSources(store, list, lambda: True, lambda: 2000)
    every = [labels(job="llm", instance="one", s=str(number)) for number in range(50)]
    series = [(*one, ("__name__", name)) for one in every for name in ("m", "n")]
    store.write([(tuple(sorted(one)), 1000, 1.0) for one in series])
    both = selectors(parse('m{s!="7"} + n'))
    shown = [[sources.has(one, alert, 500, 1500) for alert in every] for one in both]
    assert shown == [[alert[-1] != ("s", "7") for alert in every], [True] * 50]
    assert store.questions == 1  # for the one that is not there
    (m, n) = both
    assert sources.has(n, labels(s="7", job="llm", instance="one", other="x"), 500, 1500)
    assert not sources.has(n, every[7], 1001, 1500)
    store.write([(tuple(sorted((*every[7], ("__name__", "n")))), 1400, 1.0)])
    assert sources.has(n, every[7], 1002, 1500) and not sources.has(n, every[8], 1002, 1500)
    assert not sources.has(n, every[7], 500, 999)


def test_ready_is_what_the_agent_says() -> None:
    answers = iter((False, True))
    sources = StoreSources(Store(), list, lambda: next(answers), lambda: 0)
    assert [sources.ready(parse("m")), sources.ready(parse("m"))] == [False, True]


def test_a_source_of_others_is_dead_when_it_has_been_silent() -> None:
    store, now = _store(one=True), 2000
    sources = StoreSources(store, list, lambda: True, lambda: now)
    watched = StoreSources(store, lambda: [ONE], lambda: True, lambda: now)
    now = 2000 + 299_999
    assert sources.health(ONE) is SourceStatus.ALIVE
    now += 1
    assert sources.health(ONE) is SourceStatus.DEAD
    assert watched.health(ONE) is SourceStatus.ALIVE  # whoever reads it says so when it fails
    patient = StoreSources(store, list, lambda: True, lambda: now, silence_ms=600_000)
    assert patient.health(ONE) is SourceStatus.ALIVE
    store.append_rule_samples(Source(RULES_JOB, "f;g/A/0"), 1000, [])
    assert sources.health(Source(RULES_JOB, "f;g/A/0")) is SourceStatus.ALIVE  # its group is slow


def test_an_engine_whose_own_page_has_the_up_speaks_by_what_it_says_itself() -> None:
    """One that refuses its metrics is up: its alert on `llm_engine_up` is over, not unknown."""
    store = _store(one=True)
    refused = Snapshot(ONE, 3000, False, LAYOUT, np.array([1.0]), 0.1, report=False)
    store.append(refused)
    assert StoreSources(store, lambda: [ONE], lambda: True, lambda: 3000).speaks(ONE)


class OnDisk(Asked):
    """All that is asked of it may have to be read from the disk."""

    def reaches_disk(self, at_ms: int) -> bool:
        return True

    def select(self, *arguments: Any, **named: Any) -> NoReturn:
        raise AssertionError("the loop waits for the disk")


def test_for_what_is_on_the_disk_the_loop_does_not_wait() -> None:
    store = OnDisk()
    sources = StoreSources(store, list, lambda: True, lambda: 2000)
    (m,) = selectors(parse("m"))
    assert not sources.has(m, labels(job="llm", instance="one"), 500, 1500)
    assert store.questions == 0


def test_what_a_source_said_since_is_newer_than_that_moment() -> None:
    store = _store(two=False)  # heard of at 2000
    others = StoreSources(store, list, lambda: True, lambda: 2500)
    ours = StoreSources(store, lambda: [TWO], lambda: True, lambda: 2500)
    reported = [others.said(TWO, since_ms) for since_ms in (1999, 2000, 2001)]
    assert reported == [Reported.SOME, Reported.NOTHING, Reported.NOTHING]
    assert ours.said(TWO, 2001) is Reported.ALL
    assert others.said(Source("llm", "never heard of"), 0) is Reported.NOTHING
