"""Counts of incidents: what the history says, whatever ends in between, and never less than before.

Each story is counted twice: by an agent that lived through it, and by one that reads its journal.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, SECOND, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.changeset import Changeset, HistoryEntry
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import JournalState
from tocsin_alerting.incidents.journal.questions import EntryQuery
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.outbox_message import Delivered, Permanent, RetryAt
from tocsin_alerting.incidents.statistics import MAX_ALERTS, OTHER, IncidentStatistics
from tocsin_alerting.incidents.tally import (
    SAVE_EVERY_MS,
    TALLY,
    IncidentTally,
    as_saved,
    restored,
)

DOWN, SLOW = alert("EngineDown", "P0", target="a"), alert("Slow", "P1", target="b")


def _whole(counted: IncidentStatistics | None) -> dict[str, Any]:
    assert counted is not None, "the journal is not read yet"
    return as_saved(counted, 0)


async def _story(one: Floor) -> None:
    """One that somebody answers and that comes again, and one that nobody answers."""
    await one.hear(fires(DOWN, one.now), fires(SLOW, one.now))
    await one.advance(5 * MINUTE)
    await one.act(Verb.ACK, 1, "li")
    await one.advance(5 * MINUTE)
    await one.hear(clears(DOWN, one.now), clears(SLOW, one.now))
    await one.advance(MINUTE)
    await one.hear(fires(DOWN, one.now))
    await one.advance(MINUTE)


async def test_a_story_in_counts() -> None:
    one = await Floor(config()).open()
    await _story(one)
    counted = one.dispatcher.tally.counted
    assert counted is not None
    assert counted.opened == {("EngineDown", "P0"): 1, ("Slow", "P1"): 1}
    assert counted.reopened == {"EngineDown": 1}
    assert +counted.unanswered == {("Slow", "P1"): 1}
    assert counted.ack_seconds["P0"].sum == 300
    assert counted.duration_seconds["P0"].sum == counted.duration_seconds["P1"].sum == 600
    pages = sum(counted.pages.values())
    asked = [n for _, n in one.arrived if n.reason not in ("acked", "resolved")]
    assert pages == len(asked) > 3 and {severity for _, severity in counted.pages} == {"P0", "P1"}
    told = sum(times.count for times in counted.latency_seconds.values())
    assert told == len(one.arrived)
    assert not counted.people and not counted.page_times, "they would grow for ever"


async def test_a_message_that_is_given_up_is_counted_as_failed() -> None:
    one = Floor(config())
    one.answers["mail"] = lambda _: Permanent("no such mailbox")
    await one.open()
    await one.hear(fires(DOWN, one.now))
    await one.advance(HOUR)
    counted = one.dispatcher.tally.counted
    assert counted is not None and counted.failed["mail"] > 0


async def test_how_long_a_message_waited() -> None:
    refusals = iter([True, False])
    one = Floor(config())
    one.answers["mail"] = lambda _: RetryAt("busy") if next(refusals, False) else Delivered("")
    await one.open()
    await one.hear(fires(SLOW, one.now))
    await one.advance(HOUR)
    counted = one.dispatcher.tally.counted
    assert counted is not None and counted.latency_seconds["mail"].sum > 0


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_killed_agent_counts_on(kind: str, tmp_path: Path) -> None:
    journal = MemoryJournal() if kind == "memory" else SqliteJournal(tmp_path / "incidents.db")
    one = await Floor(config(), journal).open()
    await _story(one)
    before = _whole(one.dispatcher.tally.counted)
    await one.restart(down_ms=HOUR)
    tally = one.dispatcher.tally
    await tally.read(journal)
    assert _whole(tally.counted) == before
    await one.reconcile(fires(DOWN, one.now))
    await one.act(Verb.ACK, 1, "li")
    counted = tally.counted
    assert counted is not None and counted.ack_seconds["P0"].count == 2
    await one.dispatcher.close(one.now)


async def test_what_was_kept_is_not_read_again() -> None:
    journal = MemoryJournal()
    one = await Floor(config(), journal).open()
    await _story(one)
    before = _whole(one.dispatcher.tally.counted)
    await one.dispatcher.due(one.now + SAVE_EVERY_MS)
    one.dispatcher = one._dispatcher()
    await one.dispatcher.prune(one.now, 0)
    saved = json.loads((await journal.load()).meta[TALLY])
    assert saved["through"] > 5
    asked: list[EntryQuery] = []
    entries = journal.entries

    async def watched(query: EntryQuery) -> list[HistoryEntry]:
        asked.append(query)
        return await entries(query)

    tally = IncidentTally()
    tally.begin(await journal.load())
    await tally.read(_Watched(journal, watched))  # type: ignore[arg-type]
    assert _whole(tally.counted) == before
    assert all(query.after and query.after[1] >= saved["through"] for query in asked)


class _Watched:
    def __init__(self, journal: MemoryJournal, entries: Any) -> None:
        self.journal, self.entries = journal, entries


async def test_history_that_is_pruned_stays_counted() -> None:
    journal = MemoryJournal()
    one = await Floor(config(), journal).open()
    await _story(one)
    await one.hear(clears(DOWN, one.now))
    await one.advance(2 * HOUR)
    before = _whole(one.dispatcher.tally.counted)
    assert await one.dispatcher.prune(one.now + HOUR, HOUR) == 2
    await one.restart()
    await one.dispatcher.tally.read(journal)
    assert _whole(one.dispatcher.tally.counted) == before


async def test_nothing_is_pruned_before_it_is_counted() -> None:
    journal = MemoryJournal()
    one = await Floor(config(), journal).open()
    await _story(one)
    await one.hear(clears(DOWN, one.now))
    await one.advance(2 * HOUR)
    await journal.commit(Changeset(meta={TALLY: ""}))
    await one.restart()
    assert one.dispatcher.tally.counted is None
    assert await one.dispatcher.prune(one.now + HOUR, HOUR) == 0
    await one.dispatcher.tally.read(journal)
    assert await one.dispatcher.prune(one.now + HOUR, HOUR) == 2


async def test_what_comes_while_the_journal_is_read_is_counted_once() -> None:
    journal = MemoryJournal()
    one = await Floor(config(), journal).open()
    await _story(one)
    await journal.commit(Changeset(meta={TALLY: ""}))  # as by an older version
    await one.restart()
    await one.hear(fires(alert("New", "P1", target="c"), one.now))
    assert one.dispatcher.tally.counted is None
    await one.dispatcher.tally.read(journal)
    counted = one.dispatcher.tally.counted
    assert counted is not None and sum(counted.opened.values()) == 3


async def test_a_journal_that_does_not_answer_is_asked_again() -> None:
    class Down(MemoryJournal):
        down = False

        async def entries(self, query: EntryQuery) -> list[HistoryEntry]:
            if self.down:
                raise JournalDown("no")
            return await super().entries(query)

    journal = Down()
    one = await Floor(config(), journal).open()
    await _story(one)
    await journal.commit(Changeset(meta={TALLY: ""}))  # as by an older version
    await one.restart()
    journal.down = True
    await one.dispatcher.tally.read(journal)
    assert one.dispatcher.tally.counted is None
    journal.down = False
    one.dispatcher.tally.follow(journal)
    await one.dispatcher.tally.read(journal)
    counted = one.dispatcher.tally.counted
    assert counted is not None and sum(counted.opened.values()) == 2
    await one.dispatcher.tally.close()


def test_it_is_kept_only_when_all_before_it_is_on_the_disk() -> None:
    tally = IncidentTally()
    assert tally.to_save(0, all_written=True, at_once=True) == "", "nothing is known yet"
    tally.begin(JournalState())
    tally.take([HistoryEntry(1, 0, 1, "opened", "", {"alert": "A", "severity": "P0"})])
    assert tally.to_save(0, all_written=False, at_once=True) == ""
    assert tally.to_save(0, all_written=True) != ""
    assert tally.to_save(0, all_written=True, at_once=True) == "", "that is no news"
    tally.take([HistoryEntry(2, 0, 1, "acked", "li", {})])
    assert tally.to_save(SAVE_EVERY_MS - 1, all_written=True) == ""
    assert tally.to_save(SAVE_EVERY_MS, all_written=True) != ""
    tally.take([HistoryEntry(3, 0, 1, "acked", "li", {})])
    assert tally.to_save(SAVE_EVERY_MS + 1, all_written=True, at_once=True) != ""


def test_what_cannot_be_read_is_counted_again(caplog: pytest.LogCaptureFixture) -> None:
    for text in ("{", "[]", '{"through": 5}', '{"through": "x", "lifetimes": {}}'):
        tally = IncidentTally()
        tally.begin(JournalState(meta={TALLY: text}, last_entry=5))
        assert tally.counted is None
    assert "unreadable" in caplog.text


def test_a_set_clock_makes_nothing_longer() -> None:
    counted = IncidentStatistics(keep_spread=False)
    counted.take(
        [
            HistoryEntry(1, 0, 1, "opened", "", {"alert": "A", "severity": "P0"}),
            HistoryEntry(2, HOUR, 0, "clock_jumped", "", {"delta_ms": HOUR}),
            HistoryEntry(3, HOUR + 60 * SECOND, 1, "acked", "li", {}),
        ]
    )
    assert counted.ack_seconds["P0"].sum == 60


def test_names_that_senders_make_up_have_an_end() -> None:
    counted = IncidentStatistics(keep_spread=False)
    counted.take(
        HistoryEntry(n, 0, n, "opened", "", {"alert": f"A{n}", "severity": "P2"})
        for n in range(1, MAX_ALERTS + 11)
    )
    again, _ = restored(json.loads(json.dumps(as_saved(counted, 7))))
    more = HistoryEntry(0, 0, 9_999, "opened", "", {"alert": "Late", "severity": "P2"})
    for one in (counted, again):
        one.take([more])
        assert len(one.opened) == MAX_ALERTS + 1 and one.opened[OTHER, "P2"] == 11


def test_causes_are_those_that_are_known() -> None:
    counted = IncidentStatistics(keep_spread=False)
    for number, cause in enumerate(("oom", "the cat", ""), 1):
        counted.take(
            [
                HistoryEntry(1, 0, number, "opened", "", {"alert": "A", "severity": "P0"}),
                HistoryEntry(2, 0, number, "closed_by_hand", "li", {"cause": cause}),
            ]
        )
    assert {cause for *_, cause in counted.resolved} == {"oom", OTHER, ""}


def test_a_message_about_no_incident_counts_as_a_page() -> None:
    counted = IncidentStatistics(keep_spread=False)
    data = {"receiver": "mail", "reason": "silence_ends", "severity": "P2", "waited_ms": 400}
    counted.take([HistoryEntry(1, START_MS, 0, "delivered", "", data)])
    assert counted.pages == {("mail", "P2"): 1}
    assert counted.latency_seconds["mail"].buckets[1:3] == [0, 1]


def test_a_changeset_keeps_it_with_what_it_holds() -> None:
    first, rest = Changeset(meta={TALLY: "{}"}).split(1)
    assert (first.meta | rest.meta)[TALLY] == "{}"
