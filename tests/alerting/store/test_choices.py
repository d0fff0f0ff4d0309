"""What selectors chose is kept up to a weight."""

import threading

from tocsin_alerting.store.choices import Choices, Chooser
from tocsin_alerting.store.loose import Loose
from tocsin_alerting.store.matchers import Matcher, MatchOp, Verdicts
from tocsin_alerting.store.rows import NO_LIMIT, MatcherSets, Rows
from tocsin_alerting.store.selection import Resolved
from tocsin_alerting.store.series import SeriesSet
from tocsin_alerting.store.table import Table
from tocsin_exporter.snapshot import Source, labels


def selector(number: int) -> MatcherSets:
    return ((Matcher("n", MatchOp.EQUAL, str(number)),),)


def resolved(count: int) -> Resolved:
    series = SeriesSet(tuple(labels(n=str(at)) for at in range(count)))
    return Resolved(series, {}, (), None)


def kept(choices: Choices) -> list[int]:
    return [number for number in range(20) if choices.get(selector(number))]


def test_what_was_chosen_longest_ago_goes() -> None:
    choices = Choices(least=400)
    for number in range(4):
        choices.keep(selector(number), (1, resolved(84)), 0)  # 100 each, with its matcher
    choices.keep(selector(0), (2, resolved(84)), 0)
    choices.keep(selector(4), (1, resolved(84)), 0)
    assert kept(choices) == [0, 2, 3, 4]


def test_a_large_store_may_keep_more() -> None:
    choices = Choices(least=400)
    for number in range(20):
        choices.keep(selector(number), (1, resolved(84)), 100)
    assert kept(choices) == list(range(4, 20))


def test_what_is_kept_anew_counts_once() -> None:
    choices = Choices(least=400)
    for generation in range(10):
        choices.keep(selector(0), (generation, resolved(300)), 0)
    choices.keep(selector(1), (1, resolved(68)), 0)
    assert kept(choices) == [0, 1]
    assert choices.get(selector(0)) is not None
    choices.keep(selector(2), (1, resolved(1000)), 0)  # the last one stays, whatever its weight
    assert kept(choices) == [2]


def test_a_selector_of_thousands_of_matchers_is_not_kept() -> None:
    """To look for it among others takes as long as to find it."""
    tables: dict[Source, Table] = {}
    chooser = Chooser(tables, threading.Lock())
    loose = Loose(Rows(NO_LIMIT, lambda: None))
    short = selector(1)
    long: MatcherSets = (tuple(Matcher("n", MatchOp.NOT_EQUAL, str(at)) for at in range(2000)),)
    kept = [chooser.search(sets, Verdicts(), loose)[1] for sets in (short, short, long, long)]
    assert kept[0] is kept[1]
    assert kept[2] is not kept[3]


def test_what_was_found_is_nothing_of_another_a_moment_later() -> None:
    tables: dict[Source, Table] = {}
    chooser = Chooser(tables, threading.Lock())
    rows = Rows(NO_LIMIT, chooser.changed)
    tables[Source("j", "i")] = Table(rows)
    for number in (1, 2):
        rows.take(labels(n="1", number=str(number)))
    found = chooser.search(selector(1), Verdicts(), Loose(Rows(NO_LIMIT, chooser.changed)))
    rows.release([0])
    rows.take(labels(n="2"))
    assert chooser.still(found).series.labels == (labels(n="1", number="2"),)


def test_the_time_is_looked_at_before_each_matcher() -> None:
    looks: list[bool] = []
    rows = Rows(NO_LIMIT, lambda: None)
    rows.take(labels(n="1"))
    matchers = tuple(Matcher("n", MatchOp.NOT_EQUAL, str(at)) for at in range(2, 102))
    rows.search((matchers,), Verdicts(lambda: looks.append(True)))
    assert len(looks) >= 100
