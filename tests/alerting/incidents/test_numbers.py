"""A number that anybody was told stands for one incident, whatever a kill loses."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import MINUTE, SECOND, config
from tocsin_alerting.incidents.changeset import RESERVED_NUMBER, Changeset
from tocsin_alerting.incidents.errors import JournalDown, JournalReplaced
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import FIRST_OF_TIME, JournalState
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.numbers import (
    BLIND_NUMBERS,
    BLOCK,
    LAST_NUMBER,
    IncidentNumbers,
)


class Disk(MemoryJournal):
    """It may be full, or not be readable."""

    writes = reads = True
    blank = replaced = False

    async def load(self) -> JournalState:
        if self.replaced:
            self.replaced = False
            raise JournalReplaced("broken")
        if not self.reads:
            raise JournalDown("locked", blank=self.blank)
        return await super().load()

    async def commit(self, changeset: Changeset) -> None:
        if not self.writes:
            raise JournalDown("full")
        await super().commit(changeset)


async def _told(one: Floor, count: int, names: Iterator[str]) -> list[int]:
    """The numbers of new incidents, in the messages."""
    sent = len(one.sent)
    await one.hear(*(fires(alert(target=next(names))) for _ in range(count)))
    return sorted({m.incident for m in one.sent[sent:] if m.reason is Reason.OPENED})


def _names() -> Iterator[str]:
    return (f"h{n}" for n in range(10**6))


async def _back(one: Floor) -> None:
    await one.advance(MINUTE)
    while one.dispatcher.writer.down:
        await asyncio.sleep(0)


async def test_what_was_told_while_the_disk_was_full_is_not_told_of_others() -> None:
    disk, names = Disk(), _names()
    one = await Floor(config(), disk).open()
    assert await _told(one, 2, names) == [1, 2]
    disk.writes = False
    told = await _told(one, 3, names)
    assert told == [3, 4, 5]
    await one.restart(SECOND)  # and it is full still
    while_full = await _told(one, 3, names)
    assert min(while_full) >= FIRST_OF_TIME
    await one.restart(SECOND)
    again = await _told(one, 3, names)
    assert min(again) > max(while_full)
    disk.writes = True
    await _back(one)
    assert await _told(one, 2, names) == [BLOCK + 1, BLOCK + 2]


@pytest.mark.parametrize("blank", [True, False])
async def test_without_a_journal_the_time_makes_them(blank: bool) -> None:
    """Two runs do not share it; when the journal is there they are short again."""
    disk, names = Disk(), _names()
    one = await Floor(config(), disk).open()
    before = [] if blank else await _told(one, 5, names)
    await one.dispatcher.close(one.now)
    if blank:
        disk = one.journal = Disk()
    disk.reads = disk.writes = False
    disk.blank = blank
    await one.restart(SECOND)
    told = await _told(one, 40, names)
    await one.restart(SECOND)
    more = await _told(one, 40, names)
    assert min(told) >= FIRST_OF_TIME
    assert min(more) > max(told)
    disk.reads = disk.writes = True
    await _back(one)
    assert await _told(one, 1, names) == [max(before, default=0) + 1]


@pytest.mark.parametrize("broken", [True, False])
async def test_a_journal_that_is_lost_while_it_cannot_be_read_has_its_own(broken: bool) -> None:
    """It is set aside when it can be read at last; or somebody took it away."""
    disk, names = Disk(), _names()
    one = await Floor(config(), disk).open()
    told = await _told(one, 3, names)
    disk.reads = disk.writes = False
    await one.restart(SECOND)
    told += await _told(one, 2, names)
    new = one.dispatcher.writer.journal = Disk()
    new.replaced = broken
    while one.dispatcher.writer.down:
        await one.advance(MINUTE)
        await asyncio.sleep(0)
    more = await _told(one, 2, names)
    assert not set(more) & set(told)
    assert all(BLIND_NUMBERS < number < FIRST_OF_TIME for number in more)


async def test_an_end_in_peace_skips_none() -> None:
    disk, names = Disk(), _names()
    one = await Floor(config(), disk).open()
    assert await _told(one, 3, names) == [1, 2, 3]
    await one.dispatcher.close(one.now)
    await one.restart()
    assert await _told(one, 1, names) == [4]


async def test_a_storm_on_a_disk_that_works_gets_short_ones(tmp_path: Path) -> None:
    """And those reserved are written before the thousands of rows that wait."""
    one = await Floor(config(), SqliteJournal(tmp_path / "incidents.db")).open()
    count = BLOCK + 500
    await one.dispatcher.handle([fires(alert(target=f"h{n}")) for n in range(count)], one.now)
    assert sorted(one.dispatcher.working.incidents) == list(range(1, count + 1))
    await one.dispatcher.close(one.now)


async def test_what_an_incident_of_the_time_says_is_taken_up() -> None:
    disk = Disk()
    disk.writes = False
    one = await Floor(config(), disk).open()
    (number,) = await _told(one, 1, _names())
    disk.writes = True
    await _back(one)
    await one.restart()
    assert (await one.dispatcher.incident(number)).is_open
    await one.hear(clears(alert(target="h0")))
    assert not await one.dispatcher.incidents()


STEPS = st.lists(
    st.sampled_from(["open", "open", "full", "room", "kill", "end", "locked", "lost"]), max_size=40
)


@settings(deadline=None, max_examples=60)
@given(STEPS)
@example(["lost", "kill", "open", "lost", "kill", "open"])
async def test_no_number_is_told_twice(steps: list[str]) -> None:
    disk, names, told = Disk(), _names(), list[int]()
    one = await Floor(config(), disk).open()
    for step in steps:
        match step:
            case "open":
                told += await _told(one, 3, names)
            case "full" | "room":
                disk.writes = step == "room"
            case "end":
                await one.dispatcher.close(one.now)
                await one.restart(SECOND)
            case "kill":
                await one.restart(SECOND)
            case "locked":
                disk.reads = False
                await one.restart(SECOND)
                told += await _told(one, 3, names)
                disk.reads = True
            case "lost":
                disk = one.journal = Disk()  # with room: of one never written nobody can know
                await one.restart(SECOND)
                one.dispatcher.working.numbers.begin_apart(one.now)
                await one.dispatcher.heartbeat(one.now)
        await one.advance(MINUTE)
    assert len(told) == len(set(told))


def test_they_are_reserved_ahead_and_once() -> None:
    numbers = IncidentNumbers()
    assert numbers.changes() == {}
    numbers.load(JournalState(last_number=7))
    asked = numbers.changes()
    assert asked == {LAST_NUMBER: "7", RESERVED_NUMBER: str(BLOCK)}
    assert numbers.changes() == {}
    assert numbers.give(START_MS) >= FIRST_OF_TIME
    numbers.recorded(asked)
    assert numbers.give(START_MS) == 8
    numbers.taken(BLOCK // 2)
    assert numbers.changes()[RESERVED_NUMBER] == str(2 * BLOCK)


def test_those_of_an_older_version_that_went_on_after_one_of_time_are_not_given_twice() -> None:
    numbers = IncidentNumbers()
    numbers.load(JournalState(meta={LAST_NUMBER: str(2 * FIRST_OF_TIME)}, last_number=5))
    numbers.recorded(dict(numbers.changes()))
    for number in (6, 7):
        assert numbers.give(START_MS) == number
        numbers.taken(number)


def test_a_lost_journal_has_its_own() -> None:
    numbers = IncidentNumbers()
    numbers.begin()
    numbers.recorded(numbers.changes())
    numbers.begin_apart(START_MS)
    numbers.recorded(numbers.changes())
    assert BLIND_NUMBERS < numbers.give(START_MS) < FIRST_OF_TIME


class Run:
    """The numbers of one run of an agent and of the next, with the journal between them."""

    def __init__(self) -> None:
        self.now_ms, self.meta = START_MS, dict[str, str]()
        self.numbers = IncidentNumbers()
        self.numbers.begin_apart(START_MS)
        self.note()

    def note(self) -> None:
        self.meta |= self.numbers.changes()
        self.numbers.recorded(self.meta)

    def again(self, lost: bool) -> None:
        self.now_ms += SECOND
        self.meta = {} if lost else self.meta
        self.numbers = IncidentNumbers()
        self.numbers.load(JournalState(meta=self.meta))
        if lost:
            self.numbers.begin_apart(self.now_ms)
        self.note()

    def give(self, count: int) -> Iterator[int]:
        for _ in range(count):
            number = self.numbers.give(self.now_ms)
            self.numbers.taken(number)
            self.note()
            yield number


OPENED_EACH_MS = 10  # more than any agent does
RUNS = st.lists(
    st.one_of(st.booleans(), st.integers(1, 200), st.just(5_000), st.just(10**5)), max_size=30
)


@settings(deadline=None, max_examples=100)
@given(RUNS)
@example([1, False, 1, False, 1, True, 1])
@example([9_000, True, 9_000])
@example([False, 5_000, 1, 5_000, False, 5_000])
def test_lost_journals_share_none_however_soon_the_next_is_lost(steps: list[int]) -> None:
    """True: it is lost again, a second later; False: a kill; a count: as long as that takes."""
    run, told = Run(), list[int]()
    for step in steps:
        if isinstance(step, bool):
            run.again(step)
        elif step > 10_000:
            run.now_ms += step
        else:
            told += run.give(step)
            run.now_ms += step // OPENED_EACH_MS + 1  # no agent opens more in the time
    assert len(told) == len(set(told))


def test_after_a_loss_and_kills_they_are_short_again_when_the_clock_has_passed_them() -> None:
    run = Run()
    assert all(number < FIRST_OF_TIME for number in run.give(5))
    assert min(run.give(1)) > FIRST_OF_TIME
    for _ in range(10):
        run.again(lost=False)
    assert min(run.give(1)) > FIRST_OF_TIME
    run.now_ms += 2 * MINUTE
    assert all(number < FIRST_OF_TIME for number in run.give(20))
