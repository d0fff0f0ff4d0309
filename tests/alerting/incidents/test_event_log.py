"""The agent's own log: a line for what happens to an incident, in words and in fields."""

import logging
from dataclasses import replace
from typing import Any

import pytest

from support.alert_events import alert, clears, fires, unknown
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.changeset import HistoryEntry
from tocsin_alerting.incidents.event_log import LOGGED_EVENTS, MAX_LINES, log_entries
from tocsin_alerting.incidents.outbox_message import Permanent
from tocsin_exporter.logs import fields

LOGGER = "tocsin.incident"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def _said(lines: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    told = [one for one in lines.records if one.name == LOGGER]
    return [(one.levelname, one.getMessage()) for one in told]


def _fields(lines: pytest.LogCaptureFixture, event: str) -> dict[str, Any]:
    found = (fields(one) for one in lines.records if one.name == LOGGER)
    return next(one for one in found if one["event"] == event)


async def _open() -> Floor:
    floor = await Floor(config()).open()
    await floor.reconcile()
    await floor.hear(fires(alert(target="a:1", at_ms=floor.now - 60_000), floor.now))
    return floor


async def test_from_its_opening_to_its_end(lines: pytest.LogCaptureFixture) -> None:
    floor = await _open()
    await floor.advance(1_000)
    await floor.act(Verb.ACK, note="on it")
    await floor.advance(60_000)
    await floor.hear(clears(alert(target="a:1", at_ms=START_MS - 60_000), floor.now))
    said = _said(lines)
    name = "#1 P0 EngineDown target=a:1"
    assert said[0] == ("WARNING", f"{name} opened: EngineDown fires")
    assert ("INFO", f"{name} acknowledged by li after 1s") in said
    assert said[-1] == ("INFO", f"{name} resolved after 2m1s")  # since its condition held
    acked = _fields(lines, "acked")
    assert (acked["incident"], acked["by"], acked["note"]) == (1, "li", "on it")
    assert acked["severity"] == "P0" and acked["after"] == "1s"
    assert _fields(lines, "resolved")["after"] == "1m1s"


async def test_what_nobody_can_tell_and_what_nobody_got(lines: pytest.LogCaptureFixture) -> None:
    floor = await Floor(config()).open()
    await floor.reconcile()
    for step in floor.settings.policies["P0"].steps:
        for target in step.notify:
            floor.answers[target.receiver] = lambda _: Permanent("550 no", final=True)
    await floor.hear(fires(alert(target="a:1"), floor.now))
    await floor.advance(60_000)
    await floor.hear(unknown(alert(target="a:1"), floor.now))
    said = [words for _, words in _said(lines)]
    assert any("notification failed permanently" in one for one in said)
    assert any("state unknown" in one for one in said)
    failed = _fields(lines, "delivery_failed")
    assert failed["error"] == "550 no" and failed["tries"] == 1
    await floor.advance(25 * HOUR)
    said = [words for _, words in _said(lines)]
    assert said[-1].startswith("#1 P0 EngineDown target=a:1 given up, state unknown")
    assert not any("resolved" in words for words in said)


async def test_a_journal_that_fails_is_said_once(lines: pytest.LogCaptureFixture) -> None:
    floor = await _open()
    floor.dispatcher.writer.mark_down("disk full", START_MS)
    floor.dispatcher.writer.mark_down("disk full", START_MS + 1)
    told = [one for one in lines.records if "not recorded" in one.getMessage()]
    assert [one.levelname for one in told] == ["ERROR"]
    assert "disk full" in told[0].getMessage()


def test_a_storm_has_a_last_line(lines: pytest.LogCaptureFixture) -> None:
    entries = [
        HistoryEntry(n, START_MS, n, "opened", "", {"severity": "P2"}) for n in range(1, 10_001)
    ]
    log_entries(entries, {})
    said = _said(lines)
    assert len(said) == MAX_LINES + 1
    assert said[-1][1].endswith(f": {10_000 - MAX_LINES} more incident events not logged")


@pytest.mark.parametrize("event", LOGGED_EVENTS)
def test_no_field_breaks_a_line(lines: pytest.LogCaptureFixture, event: str) -> None:
    odd = {"name": "x", "msg": "x", "args": (1,), "note": "two\nlines %s %d", "after_ms": 1_500}
    log_entries([HistoryEntry(1, START_MS, 7, event, "%s", odd)], {})
    (line,) = (one for one in lines.records if one.name == LOGGER)
    assert "by %s" in line.getMessage() and fields(line)["note"] == "two\nlines %s %d"


def test_the_history_s_own_business_is_no_line(lines: pytest.LogCaptureFixture) -> None:
    log_entries(
        [
            HistoryEntry(1, START_MS, 1, "step", "", {}),
            HistoryEntry(2, START_MS, 1, "joined", "", {}),
        ],
        {},
    )
    assert _said(lines) == []


@pytest.mark.parametrize(
    ("notes", "text"),
    [
        ({"description": "It is hot.\nVery.", "message": "Older."}, ": It is hot."),
        ({"message": "Older."}, ": Older."),
        ({"summary": " ", "description": "It is hot."}, ": It is hot."),
        ({"summary": "<error expanding template: x>", "description": "Hot."}, ": Hot."),
        ({}, ""),
    ],
)
async def test_the_opening_has_a_text_though_the_rule_has_no_summary(
    notes: dict[str, str], text: str, lines: pytest.LogCaptureFixture
) -> None:
    floor = await Floor(config()).open()
    await floor.reconcile()
    down = replace(alert(target="a:1"), annotations=tuple(notes.items()))
    await floor.hear(fires(down, floor.now))
    assert _said(lines)[0] == ("WARNING", f"#1 P0 EngineDown target=a:1 opened{text}")


async def test_a_number_is_a_field_though_it_is_zero(lines: pytest.LogCaptureFixture) -> None:
    floor = await _open()
    await floor.act(Verb.ESCALATE, step=0)
    assert _fields(lines, "escalated")["step"] == 0


async def test_closed_by_hand_is_not_resolved_and_says_who_closed_it(
    lines: pytest.LogCaptureFixture,
) -> None:
    floor = await _open()
    await floor.act(Verb.RESOLVE)
    line = next(words for _, words in _said(lines) if "closed by hand" in words)
    assert line.endswith("closed by hand by li after 0s; not resolved")
    assert _fields(lines, "closed_by_hand")["condition"] == "firing"
