"""What the store and the configuration say of the sources behind a rule."""

import numpy as np
import pytest

from support.rule_texts import alerting, recording
from tocsin_alerting.promql.parser import parse
from tocsin_alerting.rules.progress import RuleProgress
from tocsin_alerting.rules.stored_sources import SILENT_MS, StoredSources
from tocsin_alerting.rules.unknown import Health
from tocsin_alerting.store.store import Store
from tocsin_exporter.snapshot import Family, Layout, Series, Snapshot, Source, labels

ONE, TWO, REMOTE = Source("llm", "e:1"), Source("llm", "e:2"), Source("their", "h:9")
LAYOUT = Layout((Series(Family("m", "gauge", "help"), "m", ()),))
NOW = 1_700_000_000_000


def snapshot(source: Source, at_ms: int = NOW, ok: bool = True) -> Snapshot:
    return Snapshot(source, at_ms, ok, LAYOUT, np.array([1.0]))


class Box:
    """A store, a configuration and a clock."""

    def __init__(self) -> None:
        self.store, self.now_ms = Store(), NOW
        self.expected = {ONE: NOW + 5_000, TWO: NOW + 5_000}
        self.rules: dict[Source, RuleProgress] = {}
        self.sources = StoredSources(
            self.store, lambda: self.expected, lambda: self.rules, lambda: self.now_ms
        )

    def add(self, progress: RuleProgress) -> RuleProgress:
        self.rules[progress.source] = progress
        return progress


def test_a_rule_touches_the_sources_that_its_selectors_match() -> None:
    box = Box()
    for source in (ONE, TWO):
        box.store.append(snapshot(source))
    assert box.sources.touched(parse("sum(rate(m[5m])) > 1")) == {ONE, TWO}
    assert box.sources.touched(parse('m{instance="e:1"}')) == {ONE}
    assert box.sources.touched(parse("nothing or vector(1)")) == frozenset()


def test_a_recorded_series_stands_for_what_it_was_made_from() -> None:
    box = Box()
    box.store.append(snapshot(ONE))
    first = box.add(RuleProgress("f", "g", recording("r:m", "sum(m)")))
    second = box.add(RuleProgress("f", "g", recording("r:r", "r:m or r:r")))
    for progress in (first, second):
        named = labels(__name__=progress.rule.name)
        box.store.append_rules(progress.source, NOW, [(named, 1.0)])
    assert box.sources.touched(alerting("r:r > 0").query) == {ONE}


def test_a_source_is_alive_dead_or_gone() -> None:
    box = Box()
    assert box.sources.health(ONE) is Health.DEAD  # configured and never read
    assert box.sources.health(REMOTE) is Health.GONE
    box.store.append(snapshot(ONE))
    assert box.sources.health(ONE) is Health.ALIVE
    box.store.append(snapshot(ONE, NOW + 1000, ok=False))
    assert box.sources.health(ONE) is Health.DEAD
    del box.expected[ONE]
    box.store.end(ONE, NOW + 2000)
    assert box.sources.health(ONE) is Health.GONE


def test_who_writes_to_us_is_dead_when_silent() -> None:
    box = Box()
    box.store.write([(labels(__name__="x", job="their", instance="h:9"), NOW, 1.0)])
    box.now_ms = NOW + SILENT_MS
    assert box.sources.health(REMOTE) is Health.ALIVE
    box.now_ms += 1
    assert box.sources.health(REMOTE) is Health.DEAD


@pytest.mark.parametrize(
    ("read", "later_ms", "ready"),
    [((), 0, False), ((ONE,), 0, False), ((ONE, TWO), 0, True), ((ONE,), 5_000, True)],
)
def test_rules_wait_until_each_source_was_read_or_is_late(
    read: tuple[Source, ...], later_ms: int, ready: bool
) -> None:
    box = Box()
    for source in read:
        box.store.append(snapshot(source, ok=False))
    box.now_ms += later_ms
    assert box.sources.ready(parse("m")) is ready
