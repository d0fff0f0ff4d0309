"""What selectors chose is kept up to a weight."""

import threading

from tocsin_alerting.tsdb.head.aligned import AlignedHead
from tocsin_alerting.tsdb.head.unaligned import UnalignedHead
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import Matcher, MatchMemo, MatchOp
from tocsin_alerting.tsdb.query.head_selectors import HeadSelectorCache, HeadSelectors
from tocsin_alerting.tsdb.query.selection import ResolvedSelector
from tocsin_alerting.tsdb.series_index import NO_LIMIT, MatcherSets, SeriesIndex
from tocsin_exporter.snapshot import Source, labels


def selector(number: int) -> MatcherSets:
    return ((Matcher("n", MatchOp.EQUAL, str(number)),),)


def resolved(count: int) -> ResolvedSelector:
    series = LabelSets(tuple(labels(n=str(at)) for at in range(count)))
    return ResolvedSelector(series, {}, (), None)


def kept(choices: HeadSelectorCache) -> list[int]:
    return [number for number in range(20) if choices.get(selector(number))]


def test_what_was_chosen_longest_ago_goes() -> None:
    choices = HeadSelectorCache(least=400)
    for number in range(4):
        choices.put(selector(number), (1, resolved(84)), 0)  # 100 each, with its matcher
    choices.put(selector(0), (2, resolved(84)), 0)
    choices.put(selector(4), (1, resolved(84)), 0)
    assert kept(choices) == [0, 2, 3, 4]


def test_a_large_store_may_keep_more() -> None:
    choices = HeadSelectorCache(least=400)
    for number in range(20):
        choices.put(selector(number), (1, resolved(84)), 100)
    assert kept(choices) == list(range(4, 20))


def test_what_is_kept_anew_counts_once() -> None:
    choices = HeadSelectorCache(least=400)
    for generation in range(10):
        choices.put(selector(0), (generation, resolved(300)), 0)
    choices.put(selector(1), (1, resolved(68)), 0)
    assert kept(choices) == [0, 1]
    assert choices.get(selector(0)) is not None
    choices.put(selector(2), (1, resolved(1000)), 0)  # the last one stays, whatever its weight
    assert kept(choices) == [2]


def test_a_selector_of_thousands_of_matchers_is_not_kept() -> None:
    """To look for it among others takes as long as to find it."""
    tables: dict[Source, AlignedHead] = {}
    chooser = HeadSelectors(tables, threading.Lock())
    loose = UnalignedHead(SeriesIndex(NO_LIMIT, lambda: None))
    short = selector(1)
    long: MatcherSets = (tuple(Matcher("n", MatchOp.NOT_EQUAL, str(at)) for at in range(2000)),)
    kept = [chooser.resolve(sets, MatchMemo(), loose)[1] for sets in (short, short, long, long)]
    assert kept[0] is kept[1]
    assert kept[2] is not kept[3]


def test_what_was_found_is_nothing_of_another_a_moment_later() -> None:
    tables: dict[Source, AlignedHead] = {}
    chooser = HeadSelectors(tables, threading.Lock())
    rows = SeriesIndex(NO_LIMIT, chooser.on_change)
    tables[Source("j", "i")] = AlignedHead(rows)
    for number in (1, 2):
        rows.ensure(labels(n="1", number=str(number)))
    found = chooser.resolve(
        selector(1), MatchMemo(), UnalignedHead(SeriesIndex(NO_LIMIT, chooser.on_change))
    )
    rows.release([0])
    rows.ensure(labels(n="2"))
    assert chooser.current(found).series.labels == (labels(n="1", number="2"),)


def test_the_time_is_looked_at_before_each_matcher() -> None:
    looks: list[bool] = []
    rows = SeriesIndex(NO_LIMIT, lambda: None)
    rows.ensure(labels(n="1"))
    matchers = tuple(Matcher("n", MatchOp.NOT_EQUAL, str(at)) for at in range(2, 102))
    rows.select((matchers,), MatchMemo(lambda: looks.append(True)))
    assert len(looks) >= 100
