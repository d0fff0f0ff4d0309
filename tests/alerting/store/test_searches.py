"""A search is done again when the series changed, and not before."""

import tracemalloc

from tocsin_alerting.store.matchers import Matcher, MatchOp, Verdicts
from tocsin_alerting.store.rows import NO_LIMIT, Rows
from tocsin_alerting.store.searches import Search, Searches
from tocsin_exporter.snapshot import Labels, Source, labels

HERE = Source("j", "i")
EVERY = ((Matcher("__name__", MatchOp.EQUAL, "m"),),)


def find(searches: Searches, rows: Rows, mine: tuple[Labels, ...], source: Source = HERE) -> Search:
    looked = searches.look(source, rows, EVERY, Verdicts())
    return searches.find(source, rows, EVERY, mine, looked)


def series(name: str) -> Labels:
    return labels(__name__="m", s=name)


def test_an_answer_lasts_until_the_series_change() -> None:
    rows, searches = Rows(NO_LIMIT, lambda: None), Searches()
    rows.take(series("a"))
    rows.take(series("b"))
    mine = (series("c"), series("b"))
    found = find(searches, rows, mine)
    assert found.labels == (*mine, series("a"))
    assert found.rows.tolist() == [-1, 1, 0]
    assert find(searches, rows, tuple(list(mine))) is found
    assert find(searches, rows, ()).labels == (series("a"), series("b"))
    rows.take(series("c"))
    assert find(searches, rows, mine).rows.tolist() == [2, 1, 0]
    rows.release([0])
    assert find(searches, rows, mine).labels == mine
    searches.forget(HERE)
    assert find(searches, Rows(NO_LIMIT, lambda: None), ()).labels == ()


def test_all_answers_together_have_a_limit() -> None:
    rows, searches = Rows(NO_LIMIT, lambda: None), Searches(most=100)
    for number in range(30):
        rows.take(series(str(number)))
    first = find(searches, rows, ())
    elsewhere = [find(searches, rows, (), Source("j", str(n))) for n in range(5)]
    assert find(searches, rows, (), Source("j", "4")) is elsewhere[4]
    again = find(searches, rows, ())
    assert again is not first
    assert again.labels == first.labels


def test_equal_series_are_one_set() -> None:
    searches = Searches()
    before = searches.series(EVERY, (series("a"),))
    assert searches.series(EVERY, (series("a"),)) is before
    assert searches.series(EVERY, (series("b"),)) is not before


def test_what_was_found_in_a_volume_is_not_taken_for_that_of_the_next() -> None:
    gone, rows = Rows(NO_LIMIT, lambda: None), Rows(NO_LIMIT, lambda: None)
    gone.take(series("gone"))
    rows.take(series("here"))
    searches = Searches()
    looked = searches.look(HERE, gone, EVERY, Verdicts())
    assert looked.labels == (series("gone"),)
    assert searches.find(HERE, rows, EVERY, (), looked).labels == ()
    assert find(searches, rows, ()).labels == (series("here"),)


def test_a_name_that_no_series_has_any_more_costs_no_search_and_no_memory() -> None:
    """A remote writer can invent one after the other, for weeks."""
    rows, looks = Rows(NO_LIMIT, lambda: None), list[str]()
    rows.take(series("stays"))
    tracemalloc.start()
    try:
        for number in range(2000):
            rows.release([rows.take(labels(__name__=f"invented_{number}"))])
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    every = ((Matcher("__name__", MatchOp.NOT_EQUAL, ""),),)
    found, owners = rows.search(every, Verdicts(lambda: looks.append("a name")))
    assert (found.tolist(), owners) == ([0], (series("stays"),))
    assert len(looks) < 10
    assert held < 50_000
