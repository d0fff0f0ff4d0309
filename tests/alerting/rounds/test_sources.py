"""What the rules may know of the sources, from a real store."""

import numpy as np

from tocsin_alerting.promql.ast import selectors
from tocsin_alerting.promql.parser import parse
from tocsin_alerting.rounds.sources import StoreSources
from tocsin_alerting.rules.progress import RULES_JOB
from tocsin_alerting.rules.unknown import Health
from tocsin_alerting.store.store import Store
from tocsin_exporter.snapshot import Family, Layout, Series, Snapshot, Source, labels

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
    assert sources.health(ONE) is Health.ALIVE
    assert sources.health(TWO) is Health.DEAD
    assert sources.health(Source("llm", "never heard of")) is Health.GONE
    assert sources.health(Source(RULES_JOB, "f;g/A/0")) is Health.DEAD


def test_a_source_that_is_no_longer_watched_is_gone() -> None:
    store = _store(two=False)
    sources = StoreSources(store, lambda: [ONE], lambda: True, lambda: 2000)
    assert sources.health(TWO) is Health.DEAD
    store.end(TWO, 3000)
    assert sources.health(TWO) is Health.GONE
    assert sources.health(ONE) is Health.DEAD  # watched, and not heard of yet


def test_ready_is_what_the_agent_says() -> None:
    answers = iter((False, True))
    sources = StoreSources(Store(), list, lambda: next(answers), lambda: 0)
    assert [sources.ready(parse("m")), sources.ready(parse("m"))] == [False, True]


def test_a_source_of_others_is_dead_when_it_has_been_silent() -> None:
    store, now = _store(one=True), 2000
    sources = StoreSources(store, list, lambda: True, lambda: now)
    watched = StoreSources(store, lambda: [ONE], lambda: True, lambda: now)
    now = 2000 + 299_999
    assert sources.health(ONE) is Health.ALIVE
    now += 1
    assert sources.health(ONE) is Health.DEAD
    assert watched.health(ONE) is Health.ALIVE  # whoever reads it says so when it fails
    patient = StoreSources(store, list, lambda: True, lambda: now, silence_ms=600_000)
    assert patient.health(ONE) is Health.ALIVE
    store.append_rules(Source(RULES_JOB, "f;g/A/0"), 1000, [])
    assert sources.health(Source(RULES_JOB, "f;g/A/0")) is Health.ALIVE  # its group is slow
