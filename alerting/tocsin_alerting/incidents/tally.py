"""Counts of incidents and pages since the journal began: a restart does not turn them back.

They are folded from the history as it is written. Where the fold has come to is kept in the journal
now and then, so that a start reads what came after that and no more, and history that is pruned
stays counted. A journal that is read for the first time is read whole, a page at a time.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from tocsin_alerting.incidents.changeset import HistoryEntry
from tocsin_alerting.incidents.errors import JournalError
from tocsin_alerting.incidents.journal.protocol import Journal, JournalState
from tocsin_alerting.incidents.journal.questions import PAGE, EntryQuery
from tocsin_alerting.incidents.journal.writer import JournalWriter
from tocsin_alerting.incidents.statistics import (
    CLOCK_JUMPED,
    COUNTED_EVENTS,
    Histogram,
    IncidentStatistics,
    Lifetime,
    RuleStatistics,
)
from tocsin_alerting.incidents.working_set import WorkingSet

log = logging.getLogger(__name__)

TALLY = "tally"  # its key among what the journal remembers
SAVE_EVERY_MS = 600_000
_EVENTS = (*sorted(COUNTED_EVENTS), CLOCK_JUMPED)
_COUNTS = "opened reopened resolved unanswered breaches escalations pages failed".split()
_TIMES = "ack_seconds duration_seconds latency_seconds".split()


class IncidentTally:
    """`counted` is None until all that the journal holds is in it."""

    def __init__(self) -> None:
        self._counted = IncidentStatistics(keep_spread=False)
        self._through = 0  # all lines of the history up to this number are counted
        self._saved_through = 0
        self._saved_ms: int | None = None
        self._read_to: int | None = None  # the last line of earlier runs; None: not known yet
        self._waiting: list[HistoryEntry] = []
        self._ready = False
        self._reading: asyncio.Task[None] | None = None

    @property
    def counted(self) -> IncidentStatistics | None:
        return self._counted if self._ready else None

    def begin(self, saved: JournalState) -> None:
        """The journal was read: go on from where an earlier run came to."""
        self._read_to = saved.last_entry
        try:
            if text := saved.meta.get(TALLY, ""):
                self._counted, self._through = restored(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("counts of incidents unreadable, counting the history again: %s", error)
        self._saved_through = self._through
        self._become_ready()

    def take(self, entries: Sequence[HistoryEntry]) -> None:
        """These are on the disk now."""
        if self._ready:
            self._take(entries)
        else:
            self._waiting += (entry for entry in entries if entry.event in _EVENTS)

    def _take(self, entries: Sequence[HistoryEntry]) -> None:
        self._counted.take(entries)
        self._through = max([self._through, *(entry.seq for entry in entries)])

    def follow(self, journal: Journal) -> None:
        """Begin to read what earlier runs wrote, where that has yet to be done."""
        idle = self._reading is None or self._reading.done()
        if not self._ready and self._read_to is not None and idle:
            self._reading = asyncio.create_task(self.read(journal))

    async def read(self, journal: Journal) -> None:
        """A page at a time; a journal that fails is asked again when `follow` is called."""
        try:
            while not self._ready:
                query = EntryQuery(
                    limit=PAGE,
                    events=_EVENTS,
                    after=(0, self._through),
                    before=(0, (self._read_to or 0) + 1),
                    by_number=True,
                )
                page = await journal.entries(query)
                self._take(page)
                if len(page) < PAGE:
                    self._through = max(self._through, self._read_to or 0)
                    self._become_ready()
                await asyncio.sleep(0)
        except JournalError:
            return

    def _become_ready(self) -> None:
        if self._read_to is not None and self._through >= self._read_to:
            waiting, self._waiting, self._ready = self._waiting, [], True
            self._take(waiting)

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def keep(
        self, working: WorkingSet, writer: JournalWriter, now_ms: int, *, at_once: bool = False
    ) -> bool:
        """Have the next transaction keep it, if it is time; whether it will."""
        all_written = not (writer.unwritten or writer.down)
        saved = self.to_save(now_ms, all_written=all_written, at_once=at_once)
        if saved:
            working.changes().meta[TALLY] = saved
        return bool(saved)

    def to_save(self, now_ms: int, *, all_written: bool, at_once: bool = False) -> str:
        """What the journal is to remember, "" while that is nothing new. Only when all that was
        noted is on the disk does the number of a line say that those before it are counted."""
        since_ms = SAVE_EVERY_MS if self._saved_ms is None else abs(now_ms - self._saved_ms)
        news = self._through > self._saved_through
        if not (self._ready and all_written and news and (at_once or since_ms >= SAVE_EVERY_MS)):
            return ""
        self._saved_ms, self._saved_through = now_ms, self._through
        return json.dumps(as_saved(self._counted, self._through), separators=(",", ":"))


def as_saved(counted: IncidentStatistics, through: int) -> dict[str, Any]:
    """What `restored` reads."""
    counts = {name: [[*_parts(key), n] for key, n in _counter(counted, name).items()]
              for name in _COUNTS}  # fmt: skip
    times = {
        name: {key: [*one.bounds_s, one.sum, *one.buckets, one.count] for key, one in rows.items()}
        for name, rows in ((name, _histograms(counted, name)) for name in _TIMES)
    }
    lifetimes = {str(number): astuple(life) for number, life in counted.lifetimes.items()}
    return {"through": through, **counts, **times, "lifetimes": lifetimes}


def restored(saved: dict[str, Any]) -> tuple[IncidentStatistics, int]:
    """The counts, and the number of the line of the history up to which they go."""
    counted = IncidentStatistics(keep_spread=False)
    for name in _COUNTS:
        for *key, n in saved.get(name, ()):
            _counter(counted, name)[tuple(key) if len(key) > 1 else key[0]] = int(n)
    for name in _TIMES:
        for key, numbers in saved.get(name, {}).items():
            _histograms(counted, name)[key] = _histogram(numbers)
    for number, life in saved["lifetimes"].items():
        counted.lifetimes[int(number)] = Lifetime(*life)
    counted.rules = {alert: RuleStatistics() for alert, _ in counted.opened}
    return counted, int(saved["through"])


def _histogram(numbers: list[float]) -> Histogram:
    size = len(numbers) // 2 - 1
    one = Histogram(numbers[:size])
    one.sum = float(numbers[size])
    *one.buckets, one.count = (int(n) for n in numbers[size + 1 :])
    return one


def _counter(counted: IncidentStatistics, name: str) -> Counter[Any]:
    counts: Counter[Any] = getattr(counted, name)
    return counts


def _histograms(counted: IncidentStatistics, name: str) -> dict[str, Histogram]:
    times: dict[str, Histogram] = getattr(counted, name)
    return times


def _parts(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key
