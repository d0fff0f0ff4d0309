"""What remote writers may bring, and who must make room: no sender shuts out the others."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.archives import Kept
from support.snapshots import snapshot
from tocsin_alerting.tsdb.head.remote_limits import (
    OVER_SERIES,
    OVER_SOURCES,
    PER_SENDER,
    PER_SOURCE,
    SeriesLimits,
)
from tocsin_alerting.tsdb.senders import Sender
from tocsin_alerting.tsdb.store import HOUR_MS, Store
from tocsin_alerting.tsdb.values import Ints
from tocsin_exporter.snapshot import Family, Labels, Sample, labels

NOW = 1_700_000_000_000
MINUTE_MS = 60_000
FAMILY = Family("m", "gauge", "", "")
READ = snapshot([Sample(FAMILY, number, labels(i=str(number))) for number in range(5)])
A, B, C, D, E = (Sender(f"10.0.0.{number}", "x") for number in range(1, 6))


def sources(first: int, count: int) -> list[Labels]:
    return [one(instance=str(number)) for number in range(first, first + count)]


def one(instance: str = "i", **others: str) -> Labels:
    return labels(__name__="m", job="j", instance=instance, **others)


class Site:
    """A store in which at most 100 sources have places, and its senders."""

    def __init__(self, most: SeriesLimits | None = None, store: Store | None = None) -> None:
        self.store = store or Store(limits=most or SeriesLimits(sources=100))
        self.now = NOW
        self.store.expire(NOW)

    def send(self, sender: Sender, series: Sequence[Labels]) -> list[int]:
        """One sample of each, as a request has them; why some of them were refused."""
        epoch, numbers = self.store.register(series, sender)
        taken = numbers[numbers >= 0]
        written = self._write(epoch, taken)
        if written is None:
            return self.send(sender, series)
        assert written == len(taken)
        return [int(number) for number in numbers if number < 0]

    def _write(self, epoch: int, numbers: Ints) -> int | None:
        times, values = np.full(len(numbers), self.now), np.ones(len(numbers))
        written = self.store.write_refs(epoch, numbers, times, values, self.now)
        return None if written is None else written.accepted

    def passes(self, ms: int) -> None:
        self.now += ms
        self.store.expire(self.now)

    def renew(self) -> None:
        """All numbers are given anew."""
        epoch, _ = self.store.register([])
        self.store.append(replace(READ, at_ms=self.now))
        self.store.end_source(READ.source, self.now + 1)
        assert self.store.register([])[0] > epoch

    def refused(self) -> dict[str, int]:
        return {name: count for name, count in self.store.stats().series_refused.items() if count}


def test_a_sender_with_too_many_sources_shuts_out_nobody(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    assert site.send(A, sources(0, 120)) == [PER_SENDER] * 70
    assert site.send(B, sources(1000, 25)) == []
    assert site.send(A, sources(0, 120)) == [PER_SENDER] * 70  # those it has, it keeps
    assert site.refused() == {"per_sender": 140}
    assert caplog.text.count("10.0.0.1 (x) rejected: per_sender") == 1
    assert site.store.stats().remote_sources == 75


def test_there_are_not_more_sources_in_all_than_allowed() -> None:
    site = Site(SeriesLimits(sources=8))
    for first, (sender, count) in enumerate(((A, 4), (B, 2), (C, 1), (D, 1)), 1):
        assert site.send(sender, sources(100 * first, count)) == []
    assert site.send(E, sources(0, 2)) == [OVER_SOURCES] * 2
    assert site.refused() == {"over_sources": 2}


def test_series_are_limited_in_all_and_for_each_sender() -> None:
    site = Site(SeriesLimits(series=16))
    assert site.send(A, [one(i=str(number)) for number in range(10)]) == [PER_SENDER] * 2
    for first, (sender, count) in enumerate(((B, 4), (C, 2), (D, 1), (E, 1)), 1):
        assert site.send(sender, sources(100 * first, count)) == []
    assert site.send(Sender("10.0.0.9", ""), sources(0, 1)) == [OVER_SERIES]


def test_what_the_agent_itself_has_leaves_less_for_others() -> None:
    site = Site(SeriesLimits(series=16))
    assert site.store.append(replace(READ, at_ms=NOW))
    site.store.expire(NOW)
    assert site.send(A, [one(i=str(number)) for number in range(10)]) == [PER_SENDER] * 6


def test_series_that_memory_has_no_more_count_no_longer() -> None:
    site = Site(SeriesLimits(series=16))
    assert site.send(A, [one(i=str(number)) for number in range(8)]) == []
    site.passes(2 * HOUR_MS)
    assert site.send(A, [one(j=str(number)) for number in range(8)]) == []


def test_who_sends_what_nobody_brought_has_brought_it() -> None:
    site = Site(SeriesLimits(sources=4))
    site.store.write([(series, NOW - 1, 1.0) for series in sources(0, 2)])
    assert site.send(A, [one(instance=str(number), i="new") for number in range(2)]) == []
    assert site.send(A, sources(10, 1)) == [PER_SENDER]


def test_a_series_with_long_labels_counts_as_several() -> None:
    site = Site(SeriesLimits(series=16))
    series = [one(i=str(number), long="x" * 3 * 1024) for number in range(10)]
    assert site.send(A, series) == [PER_SENDER] * 8
    site.store.expire(site.now)
    assert site.send(A, series[2:]) == [PER_SENDER] * 8
    assert site.send(A, series[:2]) == []


def fresh(name: str, count: int, instance: str = "i") -> list[Labels]:
    return [one(instance, **{name: str(number)}) for number in range(count)]


def test_what_a_sender_has_in_memory_counts_when_all_numbers_are_given_anew() -> None:
    """A sender brings that about at will: it writes to a series that it let go of before."""
    site = Site(SeriesLimits(series=1000))
    assert len(site.send(A, fresh("a", 600))) == 100
    for turn in range(8):
        site.passes(MINUTE_MS)
        site.renew()
        assert len(site.send(A, fresh(f"b{turn}", 100))) == 100
    assert site.send(B, fresh("c", 200)) == []


@pytest.mark.parametrize("off_ms", [0, 7])
def test_what_left_memory_is_held_for_nobody(off_ms: int) -> None:
    """In columns, or loose."""
    site = Site(SeriesLimits(series=1000))
    for turn in range(4):
        site.send(B, [one("clock")])
        site.now -= off_ms
        assert len(site.send(A, fresh(f"a{turn}", 600, "clock"))) in (100, 101)
        site.passes(2 * HOUR_MS)
    assert site.store.stats().series == 0


def test_series_that_were_never_written_count_until_their_numbers_are_given_up() -> None:
    site = Site(SeriesLimits(series=1000))
    _, numbers = site.store.register(fresh("a", 600), A)
    assert np.count_nonzero(numbers < 0) == 100
    assert len(site.send(A, fresh("b", 10))) == 10
    site.send(A, fresh("a", 500))
    assert len(site.send(A, fresh("b", 10))) == 10


@pytest.mark.parametrize("loose", [False, True])
def test_after_a_restart_series_count_for_whoever_sends_of_them_again(
    tmp_path: Path, loose: bool
) -> None:
    """One of a source in columns is enough; of those with times of their own it is each."""
    kept = Kept(tmp_path, most=SeriesLimits(series=1000))
    site = Site(store=kept.store)
    if loose:
        site.send(B, [one("i", clock="")])
        site.now -= 7
    refused = site.send(A, fresh("a", 510))
    kept.disk.tick()
    again = kept.again()
    site = Site(store=again.store)
    assert site.send(A, fresh("a", 500 if loose else 1)) == []
    assert len(refused) >= 10 and len(site.send(A, fresh("b", 10))) == 10
    assert site.send(B, fresh("c", 200)) == []
    again.disk.abandon_wal()


def test_a_series_in_columns_that_becomes_loose_has_two_rows_until_both_are_gone() -> None:
    site = Site(SeriesLimits(series=1000))
    for ms, name in ((0, "a"), (2000, "clock"), (-1000, "a")):
        site.now += ms
        site.send(A, [one(name=name)])
    assert site.store.stats().unaligned == 1
    assert site.store._appender.refs.usage.used_by(A) == 3
    site.passes(3 * HOUR_MS)
    assert site.store._appender.refs.usage.used_by(A) == 0


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["register", "send", "late", "renew", "evict"]),
            st.sampled_from([A, B]),
            st.sets(st.integers(0, 5), min_size=1),
            st.sampled_from("ik"),
        ),
        max_size=12,
    )
)
def test_who_has_nothing_left_is_held_for_nothing(
    script: list[tuple[str, Sender, set[int], str]],
) -> None:
    site = Site(SeriesLimits(series=1000, sources=2))
    site.send(B, [one("clock")])
    for what, sender, some, instance in script:
        site.now += 1000
        series = [one(instance, i=str(number)) for number in some]
        if what == "renew":
            site.renew()
        elif what == "register":
            site.store.register(series, sender)
        elif what == "evict":  # there is no place for a third source
            site.now += HOUR_MS + MINUTE_MS
            site.store.register([one("x")], sender)
        else:
            site.now -= 1500 * (what == "late")
            epoch, numbers = site.store.register(series, sender)
            site._write(epoch, numbers[numbers >= 0])
    site.passes(5 * HOUR_MS)
    site.renew()
    site.passes(5 * HOUR_MS)
    assert site.store.stats().series == 0
    assert site.store._appender.refs.usage.total == 0


def test_what_the_agent_takes_over_is_no_senders_any_more() -> None:
    site = Site(SeriesLimits(series=1000))
    here = READ.source
    own = {"job": here.job, "instance": here.instance}
    theirs = [labels(__name__="m", i=str(number), **own) for number in range(500)]
    assert site.send(A, theirs) == []
    assert site.store.append(replace(READ, at_ms=NOW + 1))
    site.store.expire(NOW + 1)
    assert site.send(A, fresh("a", 100)) == []


def test_another_sender_fills_at_most_half_of_a_source() -> None:
    site = Site(SeriesLimits(per_source=10))
    assert site.send(A, [one(i="a")]) == []
    assert site.send(B, [one(i=str(number)) for number in range(10)]) == [PER_SOURCE] * 6
    assert site.send(A, [one(j=str(number)) for number in range(10)]) == [PER_SOURCE] * 5
    assert site.refused() == {"per_source": 11}


def test_the_silent_make_room_and_come_back_when_there_is_some() -> None:
    site = Site(store=Store(3 * HOUR_MS, limits=SeriesLimits(sources=100)))
    site.send(A, sources(0, 50))
    site.passes(HOUR_MS - MINUTE_MS)
    site.send(A, sources(0, 10))
    assert site.send(A, sources(100, 1)) == [PER_SENDER]
    site.passes(MINUTE_MS + 1)
    assert site.send(A, sources(100, 40)) == []
    size = site.store.stats()
    assert (size.remote_sources, size.evicted) == (50, 40)
    assert site.send(A, sources(0, 11)) == [PER_SENDER]
    assert site.store.stats().series == 90  # what they had is still there
    assert site.send(B, sources(10, 5)) == []


def test_who_writes_is_not_evicted_though_its_samples_are_late() -> None:
    site = Site(SeriesLimits(sources=4))
    site.passes(-2 * HOUR_MS)
    site.store.write([(series, site.now, 1.0) for series in sources(0, 1)])
    assert site.store.stats().remote_sources == 1
    site.passes(2 * HOUR_MS)
    site.send(A, sources(0, 1))
    site.send(A, sources(10, 4))
    assert site.store.stats().evicted == 0


def test_sources_that_memory_has_no_more_give_up_their_places() -> None:
    site = Site()
    site.send(A, sources(0, 50))
    site.store.expire(NOW + 2 * HOUR_MS)
    assert site.store.stats().remote_sources == 0
    site.passes(2 * HOUR_MS)
    assert site.send(A, sources(100, 50)) == []
    assert site.store.stats().evicted == 0


def test_no_remote_writer_takes_the_room_of_what_the_agent_itself_reads() -> None:
    site = Site(SeriesLimits(per_source=10, sources=4, series=20))
    here = READ.source
    own = {"job": here.job, "instance": here.instance}
    theirs = [labels(__name__="theirs", i=str(number), **own) for number in range(12)]
    assert site.send(A, theirs) == [PER_SOURCE] * 2
    for second in range(1, 3):
        assert site.store.append(replace(READ, at_ms=NOW + second))
    assert site.refused() == {"per_source": 2}
    assert site.store.last_seen(here) is not None
    assert site.store.stats().series == 18


def test_after_a_restart_sources_belong_to_whoever_sends_them_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    site = Site(store=kept.store)
    site.send(A, sources(0, 3))
    kept.disk.tick()
    again = kept.again()
    assert again.store.stats().remote_sources == 3
    site = Site(store=again.store)
    assert site.send(B, sources(0, 3)) == []
    site.passes(MINUTE_MS)
    assert site.send(B, sources(0, 4)) == []
    assert again.store.stats().remote_sources == 4
    again.disk.abandon_wal()
