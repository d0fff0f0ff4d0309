"""When each source was last heard of, and whether it was well then."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

from tocsin_alerting.tsdb.values import NEVER_MS
from tocsin_exporter.snapshot import Source

# The usual interval is the second of these, by length: one outage does not change it, and the short
# ones between the samples of several senders do not either.
_INTERVALS = 5
_GAPS = 32
MOST_ENDED = 20_000


@dataclass(slots=True)
class Cadence:
    """When a source was heard and well: its newest intervals and gaps, in milliseconds.

    Several may send of one source, each at its own pace: a scraper, and rules that record. Their
    samples come in rounds. An interval reaches from the begin of a round (`round_ms`) to that of
    the next: what is heard within half of the usual one belongs to the round that is there.
    """

    last_ms: int
    intervals: tuple[int, ...] = ()
    gaps: tuple[tuple[int, int], ...] = ()
    round_ms: int = -1

    def __post_init__(self) -> None:
        self.round_ms = self.last_ms

    def observe(self, at_ms: int) -> None:
        silent_ms, interval = at_ms - self.last_ms, at_ms - self.round_ms
        if silent_ms <= 0:
            return
        if self.intervals.count(interval) == _INTERVALS:  # mostly: no new object for each source
            self.last_ms = self.round_ms = at_ms
            return
        usual_ms = self._usual_ms() if self.intervals else 0
        if silent_ms > 1.5 * usual_ms:
            self.gaps = (*self.gaps, (self.last_ms, at_ms))[-_GAPS:]
            if (pace_ms := self._usual_silence_ms()) > usual_ms:
                self.intervals = (pace_ms,) * _INTERVALS
        self.last_ms = at_ms
        if 2 * interval < usual_ms:
            return
        self.round_ms = at_ms
        same = next((known for known in self.intervals if known == interval), interval)
        self.intervals = (*self.intervals, same)[-_INTERVALS:]

    def covers(
        self, t0_ms: int, t1_ms: int, now_ms: int, at_least_twice: bool, throughout: bool
    ) -> bool:
        """Whether it was heard at both ends of [t0_ms, t1_ms], give or take 2.5 usual intervals, or
        a tenth of the window at its begin; twice within it, if `at_least_twice`, and all the time,
        if `throughout`, but for a tenth."""
        window_ms = t1_ms - t0_ms
        usual_ms = self._usual_ms() if self.intervals else window_ms
        most_ms = min(2.5 * usual_ms, window_ms / 2 if at_least_twice else window_ms)
        if at_least_twice and self.intervals and self._seen_once(t0_ms, t1_ms):
            return False
        silences = (*self.gaps, (self.last_ms, now_ms))
        lost_ms = max((end - t0_ms for start, end in self.gaps if start <= t0_ms < end), default=0)
        late_ms = max((t1_ms - start for start, end in silences if start < t1_ms <= end), default=0)
        if lost_ms > window_ms / 10 and lost_ms + late_ms > most_ms:
            return False  # each would do alone
        for start_ms, end_ms in silences:
            if end_ms - start_ms <= most_ms:
                continue
            silent_ms = min(end_ms, t1_ms) - max(start_ms, t0_ms)
            misses = silent_ms > window_ms / 10 and (throughout or start_ms <= t0_ms)
            if misses or start_ms + most_ms < t1_ms <= end_ms:
                return False
        return True

    def is_steady(self, t0_ms: int, t1_ms: int) -> bool:
        """Whether no gap that has ended touches [t0_ms, t1_ms]; it may begin or end there."""
        return not any(start < t1_ms and t0_ms < end for start, end in self.gaps)

    def _seen_once(self, t0_ms: int, t1_ms: int) -> bool:
        """Whether of its newest rounds, if they reach back so far, one at most is in the window."""
        rounds = list(
            accumulate((-interval for interval in reversed(self.intervals)), initial=self.last_ms)
        )
        return rounds[-1] <= t0_ms and sum(t0_ms < round_ms <= t1_ms for round_ms in rounds) < 2

    def shift_clock(self, delta_ms: int) -> None:
        self.last_ms += delta_ms
        self.round_ms += delta_ms
        self.gaps = tuple((start + delta_ms, end + delta_ms) for start, end in self.gaps)

    def _usual_ms(self) -> int:
        return sorted(self.intervals)[-2:][0]

    def _usual_silence_ms(self) -> int:
        """Who falls silent again and again, for a third of all the time, has that for a pace: the
        length of the shortest of its last three gaps, 0 if they are rarer."""
        lengths = [end_ms - start_ms for start_ms, end_ms in self.gaps[-3:]]
        if len(lengths) < 3 or 3 * sum(lengths) < self.gaps[-1][1] - self.gaps[-3][0]:
            return 0
        return min(lengths)


@dataclass(frozen=True, slots=True)
class LastSeen:
    """When a source last had a sample, whether it answered then, and whether it said so."""

    at_ms: int
    ok: bool
    reports: bool = True


class SourceHealth:
    """Of our own sources and of those that remote writers send."""

    def __init__(self) -> None:
        self._last: dict[Source, LastSeen] = {}
        self._ended_ms: dict[Source, int] = {}
        self._cadences: dict[Source, Cadence] = {}

    def get(self, source: Source) -> LastSeen | None:
        """None when nothing was ever heard of it."""
        return self._last.get(source)

    def has_ended(self, source: Source) -> bool:
        """Whether it was removed: of the others that are not known nobody said so."""
        return source in self._ended_ms

    def all(self) -> Mapping[Source, LastSeen]:
        return dict(self._last)

    def covers(
        self,
        source: Source,
        t0_ms: int,
        t1_ms: int,
        now_ms: int,
        at_least_twice: bool,
        throughout: bool,
    ) -> bool:
        """Whether it was heard, and well, as often as usual at both ends of [t0_ms, t1_ms], and in
        between, if `throughout`."""
        cadence = self._cadences.get(source)
        return cadence is None or cadence.covers(t0_ms, t1_ms, now_ms, at_least_twice, throughout)

    def is_steady(self, source: Source, t0_ms: int, t1_ms: int) -> bool:
        """Whether it was heard, and well, all the time from t0_ms to t1_ms, as far as that is over:
        whether it is silent now is another question."""
        pace = self._cadences.get(source)
        return pace is None or pace.is_steady(t0_ms, t1_ms)

    def set(self, source: Source, last: LastSeen) -> None:
        before, self._last[source] = self._last.get(source), last
        if self._ended_ms:
            self._ended_ms.pop(source, None)
        if last.ok:
            self._mark_well(source, last.at_ms, before is not None and not before.ok)

    def forget(self, source: Source) -> None:
        self._last.pop(source, None)
        self._ended_ms.pop(source, None)
        self._cadences.pop(source, None)

    def observe(self, source: Source, at_ms: int) -> None:
        """A remote writer sent a sample of it that is no stale marker."""
        before = self._last.get(source)
        if before is not None and at_ms <= before.at_ms:
            return
        if self._ended_ms:
            if at_ms <= self._ended_ms.get(source, NEVER_MS):
                return
            self._ended_ms.pop(source, None)
        ok = before is None or before.ok
        self._last[source] = LastSeen(at_ms, ok)
        if ok:
            self._mark_well(source, at_ms)

    def observe_up(self, source: Source, ok: bool) -> None:
        """The newest sample of its `observe_up` says so."""
        last = self._last.get(source)
        if last is not None and last.ok is not ok:
            self._last[source] = LastSeen(last.at_ms, ok)
            if ok:
                self._mark_well(source, last.at_ms, True)

    def mark_ended(self, source: Source, at_ms: int) -> None:
        """Its `observe_up` went stale, or we read it no longer: it was removed, and what comes for
        that time or an earlier one is no sign of life. Nothing, if a later sample of it is known.

        The newest MOST_ENDED removals are known for good.
        """
        last = self._last.get(source)
        if last is not None and last.at_ms > at_ms:
            return
        self._last.pop(source, None)
        self._ended_ms.pop(source, None)
        self._ended_ms[source] = at_ms
        if len(self._ended_ms) > MOST_ENDED:
            self.forget(next(iter(self._ended_ms)))

    def shift_clock(self, delta_ms: int, until_ms: int) -> None:
        """The wall clock was set: what was heard up to then was heard so much later."""
        for source, last in self._last.items():
            if last.at_ms <= until_ms:
                self._last[source] = replace(last, at_ms=last.at_ms + delta_ms)
                if source in self._cadences:
                    self._cadences[source].shift_clock(delta_ms)
        for source, at_ms in self._ended_ms.items():
            self._ended_ms[source] = at_ms + delta_ms

    def expire(self, before_ms: int) -> None:
        """How often those were heard that have ended before."""
        for source, at_ms in self._ended_ms.items():
            if at_ms < before_ms:
                self._cadences.pop(source, None)

    def _mark_well(self, source: Source, at_ms: int, was_down: bool = False) -> None:
        """`was_down`: it was heard, and was not well. How long it had been so when this run began
        is not known: nothing of the time before counts."""
        cadence = self._cadences.get(source)
        if cadence is None:
            gaps = ((NEVER_MS, at_ms),) if was_down else ()
            self._cadences[source] = Cadence(at_ms, gaps=gaps)
        else:
            cadence.observe(at_ms)
