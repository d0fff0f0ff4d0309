"""What selectors chose is kept up to a weight."""

import threading
import tracemalloc

from tocsin_alerting.tsdb.head.aligned import AlignedHead
from tocsin_alerting.tsdb.head.unaligned import UnalignedHead
from tocsin_alerting.tsdb.label_sets import LabelSets
from tocsin_alerting.tsdb.matchers import Matcher, MatchMemo, MatchOp
from tocsin_alerting.tsdb.query.selection import ResolvedSelector
from tocsin_alerting.tsdb.query.selector_cache import (
    BlockMatch,
    BlockSelectorCache,
    HeadSelectorCache,
    HeadSelectors,
)
from tocsin_alerting.tsdb.series_index import NO_LIMIT, MatcherSets, SeriesIndex
from tocsin_exporter.snapshot import Labels, Source, labels


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


HERE = Source("j", "i")
EVERY = ((Matcher("__name__", MatchOp.EQUAL, "m"),),)


def find(
    searches: BlockSelectorCache, rows: SeriesIndex, mine: tuple[Labels, ...], source: Source = HERE
) -> BlockMatch:
    looked = searches.match(source, rows, EVERY, MatchMemo())
    return searches.match_with_head(source, rows, EVERY, mine, looked)


def series(name: str) -> Labels:
    return labels(__name__="m", s=name)


def test_an_answer_lasts_until_the_series_change() -> None:
    rows, searches = SeriesIndex(NO_LIMIT, lambda: None), BlockSelectorCache()
    rows.ensure(series("a"))
    rows.ensure(series("b"))
    mine = (series("c"), series("b"))
    found = find(searches, rows, mine)
    assert found.labels == (*mine, series("a"))
    assert found.rows.tolist() == [-1, 1, 0]
    assert find(searches, rows, tuple(list(mine))) is found
    assert find(searches, rows, ()).labels == (series("a"), series("b"))
    rows.ensure(series("c"))
    assert find(searches, rows, mine).rows.tolist() == [2, 1, 0]
    rows.release([0])
    assert find(searches, rows, mine).labels == mine
    searches.forget(HERE)
    assert find(searches, SeriesIndex(NO_LIMIT, lambda: None), ()).labels == ()


def test_all_answers_together_have_a_limit() -> None:
    rows, searches = SeriesIndex(NO_LIMIT, lambda: None), BlockSelectorCache(most=100)
    for number in range(30):
        rows.ensure(series(str(number)))
    first = find(searches, rows, ())
    elsewhere = [find(searches, rows, (), Source("j", str(n))) for n in range(5)]
    assert find(searches, rows, (), Source("j", "4")) is elsewhere[4]
    again = find(searches, rows, ())
    assert again is not first
    assert again.labels == first.labels


def test_equal_series_are_one_set() -> None:
    searches = BlockSelectorCache()
    before = searches.label_sets(EVERY, (series("a"),))
    assert searches.label_sets(EVERY, (series("a"),)) is before
    assert searches.label_sets(EVERY, (series("b"),)) is not before


def test_what_was_found_in_a_volume_is_not_taken_for_that_of_the_next() -> None:
    gone, rows = SeriesIndex(NO_LIMIT, lambda: None), SeriesIndex(NO_LIMIT, lambda: None)
    gone.ensure(series("gone"))
    rows.ensure(series("here"))
    searches = BlockSelectorCache()
    looked = searches.match(HERE, gone, EVERY, MatchMemo())
    assert looked.labels == (series("gone"),)
    assert searches.match_with_head(HERE, rows, EVERY, (), looked).labels == ()
    assert find(searches, rows, ()).labels == (series("here"),)


def test_a_row_that_changed_hands_since_the_search_is_not_the_series_that_was_found() -> None:
    rows, searches = SeriesIndex(NO_LIMIT, lambda: None), BlockSelectorCache()
    gone, stays = rows.ensure(series("gone")), rows.ensure(series("stays"))
    match = searches.match(HERE, rows, EVERY, MatchMemo())
    rows.release([gone])
    assert rows.ensure(labels(__name__="another")) == gone
    joined = searches.match_with_head(HERE, rows, EVERY, (), match)
    assert joined.labels == (series("stays"),) and joined.rows.tolist() == [stays]


def test_a_name_that_no_series_has_any_more_costs_no_search_and_no_memory() -> None:
    """A remote writer can invent one after the other, for weeks."""
    rows, looks = SeriesIndex(NO_LIMIT, lambda: None), list[str]()
    rows.ensure(series("stays"))
    tracemalloc.start()
    try:
        for number in range(2000):
            rows.release([rows.ensure(labels(__name__=f"invented_{number}"))])
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    every = ((Matcher("__name__", MatchOp.NOT_EQUAL, ""),),)
    found, owners = rows.select(every, MatchMemo(lambda: looks.append("a name")))
    assert (found.tolist(), owners) == ([0], (series("stays"),))
    assert len(looks) < 10
    assert held < 50_000
