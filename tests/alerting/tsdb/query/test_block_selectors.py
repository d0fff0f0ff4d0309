"""A search is done again when the series changed, and not before."""

import tracemalloc

from tocsin_alerting.tsdb.matchers import Matcher, MatchMemo, MatchOp
from tocsin_alerting.tsdb.query.block_selectors import BlockMatch, BlockSelectorCache
from tocsin_alerting.tsdb.series_index import NO_LIMIT, SeriesIndex
from tocsin_exporter.snapshot import Labels, Source, labels

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
