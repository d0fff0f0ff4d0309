"""What people ask of the journal: both of them give the same answers, and the right ones."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.alert_matcher import parse_matcher
from tocsin_alerting.incidents.changeset import Changeset, HistoryEntry
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import Journal
from tocsin_alerting.incidents.journal.questions import PAGE, EntryQuery, IncidentFilter
from tocsin_alerting.incidents.journal.schema import add_missing, migrate
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.rules.severity import Severity

ALL = tuple(IncidentState)
Make = Callable[[Path], Journal]
JOURNALS: dict[str, Make] = {
    "sqlite": lambda folder: SqliteJournal(folder / "i.db"),
    "memory": lambda folder: MemoryJournal(),
}


@pytest.fixture(params=JOURNALS)
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    return JOURNALS[request.param](tmp_path)


async def _week(journal: Journal) -> Floor:
    """#1 P0 EngineDown a, acknowledged by li, over and closed. #2 P1 Slow b, handed to wang. #3 P1
    Slow c, untouched."""
    one = await Floor(config(), journal).open()
    down = alert("EngineDown", "P0", target="a")
    await one.hear(fires(down, one.now))
    await one.act(Verb.ACK, 1, "li")
    await one.advance(HOUR)
    await one.hear(clears(down, one.now))
    await one.advance(2 * HOUR)
    await one.hear(fires(alert("Slow", "P1", target="b", gpu="7"), one.now))
    await one.act(Verb.ASSIGN, 2, "li", to="wang")
    await one.advance(HOUR)
    await one.hear(fires(alert("Slow", "P1", target="c"), one.now))
    return one


async def _numbers(journal: Journal, **wanted: object) -> list[int]:
    asked = IncidentFilter(**wanted)  # type: ignore[arg-type]
    return [one.number for one in await journal.incidents(ALL, 10, wanted=asked)]


async def test_incidents_by_severity_rule_label_and_text(journal: Journal) -> None:
    await _week(journal)
    assert await _numbers(journal) == [3, 2, 1]
    assert await _numbers(journal, severities=(Severity.P0,)) == [1]
    assert await _numbers(journal, severities=(Severity.P0, Severity.P1)) == [3, 2, 1]
    assert await _numbers(journal, rule="Slow") == [3, 2]
    assert await _numbers(journal, matchers=(parse_matcher('target=~"a|c"'),)) == [3, 1]
    both = (parse_matcher('target=~"b|c"'), parse_matcher('gpu="7"'))
    assert await _numbers(journal, matchers=both) == [2]
    assert await _numbers(journal, text="ENGINEDOWN FIRES") == [1]
    assert await _numbers(journal, text="no such thing") == []
    assert await _numbers(journal, only=frozenset({1, 3})) == [3, 1]


async def test_incidents_by_the_time_in_which_they_were_open(journal: Journal) -> None:
    await _week(journal)
    assert await _numbers(journal, until_ms=START_MS - 1) == []
    assert await _numbers(journal, until_ms=START_MS) == [1]
    assert await _numbers(journal, since_ms=START_MS + HOUR) == [3, 2, 1]
    assert await _numbers(journal, since_ms=START_MS + HOUR + 1) == [3, 2]
    within = {"since_ms": START_MS + HOUR + 1, "until_ms": START_MS + 3 * HOUR}
    assert await _numbers(journal, **within) == [2]


async def test_people_and_openings(journal: Journal) -> None:
    await _week(journal)
    assert await journal.answered_by("li") == {1, 2}
    assert await journal.answered_by("wang") == {2}  # his acknowledgement expired
    assert await journal.answered_by("chen") == set() == await journal.answered_by("")
    keys = {one.number: one.key for one in await journal.incidents(ALL, 10)}
    later = START_MS + 3 * HOUR
    assert await journal.openings(later) == [(keys[2], later), (keys[3], later + HOUR)]


async def test_a_page_of_incidents_goes_on_until_it_has_enough(journal: Journal) -> None:
    one = await Floor(config(), journal).open()
    some = [alert("Slow", "P2", target=f"{number}") for number in range(2 * PAGE)]
    odd = alert("Odd", "P2", target="x")
    await one.hear(fires(odd, one.now))
    await one.hear(*(fires(each, one.now) for each in some))
    (found,) = await journal.incidents(ALL, 5, wanted=IncidentFilter(rule="Odd"))
    assert found.number == 1
    assert len(await journal.incidents(ALL, PAGE + 50)) == PAGE + 50


ENTRIES = [
    HistoryEntry(seq, at_ms, number, event, actor, {})
    for seq, (at_ms, number, event, actor) in enumerate(
        [
            (1000, 0, "started", ""),
            (2000, 1, "opened", ""),
            (2000, 2, "opened", ""),
            (3000, 1, "acked", "li"),
            (2500, 1, "commented", "li"),  # the clock was set back
            (3000, 2, "acked", "wang"),
            (4000, 1, "resolved", ""),
        ],
        1,
    )
]
optional_time = st.none() | st.integers(900, 4100)
places = st.none() | st.tuples(st.integers(900, 4100), st.integers(0, 8))
QUERIES = st.builds(
    EntryQuery,
    limit=st.integers(1, 9),
    since_ms=optional_time,
    until_ms=optional_time,
    incidents=st.none() | st.frozensets(st.integers(0, 3), min_size=1),
    actor=st.sampled_from(["", "li", "wang", "nobody"]),
    events=st.sampled_from([(), ("opened",), ("acked", "resolved")]),
    after=places,
    before=places,
    newest=st.booleans(),
    by_number=st.booleans(),
)


@settings(max_examples=10, deadline=None)
@given(queries=st.lists(QUERIES, min_size=30, max_size=30))
def test_lines_are_those_that_match_in_their_order(
    queries: list[EntryQuery], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Against a plain reading of the question, on both journals."""
    asyncio.run(_check_lines(queries, tmp_path_factory.mktemp("journal")))


async def _check_lines(queries: list[EntryQuery], folder: Path) -> None:
    for make in JOURNALS.values():
        journal = make(folder)
        await journal.load()
        await journal.commit(Changeset(history=list(ENTRIES)))
        for query in queries:
            assert await journal.entries(query) == _asked_for(query), query
        await journal.close()


def _asked_for(query: EntryQuery) -> list[HistoryEntry]:
    def is_asked(entry: HistoryEntry) -> bool:
        place = (entry.at_ms, entry.seq)
        after, before = query.after, query.before
        if query.by_number:
            place = (0, entry.seq)
            after = after and (0, after[1])
            before = before and (0, before[1])
        return all(
            (
                after is None or place > after,
                before is None or place < before,
                query.since_ms is None or entry.at_ms >= query.since_ms,
                query.until_ms is None or entry.at_ms <= query.until_ms,
                query.incidents is None or entry.incident in query.incidents,
                query.actor in ("", entry.actor),
                not query.events or entry.event in query.events,
            )
        )

    ordered = sorted(ENTRIES, key=lambda e: e.seq if query.by_number else (e.at_ms, e.seq))
    matching = list(filter(is_asked, ordered))
    return matching[-query.limit :] if query.newest else matching[: query.limit]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (EntryQuery(10, since_ms=5), "history_time"),
        (EntryQuery(10, until_ms=5, newest=True), "history_time"),
        (EntryQuery(10, after=(5, 5)), "history_time"),
        (EntryQuery(10, actor="li", since_ms=5), "history_actor"),
        (EntryQuery(10, incidents=(1,)), "history_incident"),
    ],
)
def test_a_question_reads_what_it_asks_for_and_no_more(query: EntryQuery, index: str) -> None:
    from tocsin_alerting.incidents.journal.questions_sql import entries_where

    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, "x")
    add_missing(connection)
    where, values = entries_where(query)
    plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT * FROM history {where}", values)
    steps = " ".join(row[3] for row in plan)
    assert f"INDEX {index}" in steps, steps
    connection.close()


async def test_a_file_without_the_indexes_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "i.db"
    await _week(SqliteJournal(path))
    with sqlite3.connect(path) as other:
        for name in ("history_time", "history_actor", "incidents_opened"):
            other.execute(f"DROP INDEX {name}")
    other.close()
    journal = SqliteJournal(path)
    assert await journal.answered_by("li") == {1, 2}
    with sqlite3.connect(path) as other:
        names = {name for (name,) in other.execute("SELECT name FROM sqlite_master")}
    other.close()
    assert {"history_time", "history_actor", "incidents_opened"} <= names


async def test_what_is_not_on_the_disk_yet_is_answered_too(tmp_path: Path) -> None:
    from tocsin_alerting.incidents.errors import JournalDown

    class Full(MemoryJournal):
        full = False

        async def commit(self, changeset: Changeset) -> None:
            if self.full:
                raise JournalDown("full")
            await super().commit(changeset)

    journal = Full()
    one = await Floor(config(), journal).open()
    await one.hear(fires(alert("Slow", "P1", target="b"), one.now))
    journal.full = True
    await one.act(Verb.ACK, 1, "li")
    page = await one.dispatcher.records.history(EntryQuery(50, actor="li"))
    assert [entry.event for entry in page.entries] == ["acked"]
    assert page.incidents[1].owner == "li"
    wanted = IncidentFilter(person="li")
    assert [i.number for i in await one.dispatcher.records.incidents(wanted=wanted)] == [1]
    await one.advance(MINUTE)
