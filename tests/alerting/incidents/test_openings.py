"""How often within 24 hours: told in messages, known after a restart, and forgotten after a day."""

from pathlib import Path

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS, Floor
from support.notifications import notification
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.errors import JournalDown
from tocsin_alerting.incidents.incident import IncidentState, Reason
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import JournalState
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.openings import DAY_MS, RecentOpenings
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.webhook.body import webhook_body

DOWN = alert("EngineDown", "P0", target="a")


async def _again(one: Floor, wait_ms: int = 2 * HOUR) -> int:
    """It fires, and is over; how often it has, by the message about it."""
    sent = len(one.sent)
    await one.hear(fires(DOWN, one.now))
    await one.advance(MINUTE)
    told = {m.times_in_24h for m in one.sent[sent:] if m.reason in (Reason.OPENED, Reason.REOPENED)}
    await one.hear(clears(DOWN, one.now))
    await one.advance(wait_ms - MINUTE)
    return told.pop()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_third_time_is_known_after_a_kill(kind: str, tmp_path: Path) -> None:
    journal = MemoryJournal() if kind == "memory" else SqliteJournal(tmp_path / "incidents.db")
    one = await Floor(config(), journal).open()
    assert await _again(one) == 1
    assert await _again(one, wait_ms=2 * MINUTE) == 2
    await one.restart()
    assert await _again(one) == 3, "it is the same incident, which opened again"
    await one.advance(DAY_MS)
    assert await _again(one) == 1
    (incident, *_) = await one.dispatcher.incidents([IncidentState.CLOSED])
    assert incident.times_in_24h == 1, "the journal keeps it"
    await one.dispatcher.close(one.now)


async def test_another_group_is_counted_for_itself() -> None:
    one = await Floor(config()).open()
    await _again(one)
    await one.hear(fires(alert("EngineDown", "P0", target="b"), one.now))
    assert one.sent[-1].times_in_24h == 1


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_what_is_raised_again_because_it_never_ended_is_no_other_time(
    kind: str, tmp_path: Path
) -> None:
    journal = MemoryJournal() if kind == "memory" else SqliteJournal(tmp_path / "incidents.db")
    one = await Floor(config(), journal).open()
    await one.hear(fires(DOWN, one.now))
    await one.act(Verb.RESOLVE, 1, "li")
    await one.advance(5 * HOUR)
    assert Reason.STILL_FIRING in {m.reason for m in one.sent}
    assert {m.times_in_24h for m in one.sent} == {1}
    await one.restart()
    await one.hear(clears(DOWN, one.now))
    await one.advance(2 * HOUR)
    assert await _again(one) == 2, "after a restart as before it"


async def test_a_journal_that_turns_up_late_is_counted_too() -> None:
    class Late(MemoryJournal):
        down = False

        async def load(self) -> JournalState:
            if self.down:
                raise JournalDown("locked")
            return await super().load()

    journal = Late()
    one = await Floor(config(), journal).open()
    await _again(one)
    journal.down = True
    await one.restart()
    journal.down = False
    await one.advance(MINUTE)
    assert one.dispatcher._reconnecting is not None
    await one.dispatcher._reconnecting
    assert await _again(one) == 2


def test_each_is_let_go_after_a_day() -> None:
    openings = RecentOpenings()
    openings.load([("a", 0), ("b", 1), ("a", 2)])
    assert openings.add("a", DAY_MS) == 3
    assert openings.add("a", DAY_MS + 1) == 3
    assert openings.add("b", DAY_MS + 3) == 1
    assert len(openings._times) == 3 and set(openings._counts) == {"a", "b"}


def test_what_the_journal_knows_comes_before_what_was_added_since() -> None:
    openings = RecentOpenings()
    assert openings.add("a", 10) == 1
    openings.load([("a", 1), ("a", 5)])
    assert [at for at, _ in openings._times] == [1, 5, 10]
    assert openings.add("a", DAY_MS + 6) == 2


def test_a_set_clock_moves_them() -> None:
    openings = RecentOpenings()
    openings.add("a", 0)
    openings.shift(HOUR)
    assert openings.add("a", DAY_MS + HOUR) == 2
    assert openings.add("a", DAY_MS + HOUR + 1) == 2


@pytest.mark.parametrize(
    ("language", "times", "words"),
    [
        ("en", 2, "2nd time in 24 h"),
        ("en", 3, "3rd time in 24 h"),
        ("en", 11, "11th time in 24 h"),
        ("en", 21, "21st time in 24 h"),
        ("zh", 3, "24 小时内第 3 次"),
    ],
)
def test_messages_say_it(language: str, times: int, words: str) -> None:
    templates = MessageTemplates(language)
    again = notification(times_in_24h=times)
    for text in (templates.text(again), templates.html(again), templates.line(again)):
        assert words in text
    once = notification(times_in_24h=1)
    over = notification(times_in_24h=times, status="resolved", reason=Reason.RESOLVED)
    for shown in (once, over):
        for text in (templates.text(shown), templates.html(shown), templates.line(shown)):
            assert "24 h" not in text and "24 小时" not in text
    assert webhook_body(again)["tocsin"]["timesIn24h"] == times


def test_the_first_page_says_nothing() -> None:
    assert notification().times_in_24h == 1 and START_MS > 0
