"""Somebody else takes a shift: it holds at once, over restarts, for a journal that came late."""

from pathlib import Path

import pytest

from support.alert_events import alert, fires
from support.dispatcher_setup import START_MS, Floor
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.incidents.calendar_times import TimeInterval
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.escalation_policy import (
    Addressee,
    EscalationPolicy,
    EscalationStep,
    Recipient,
)
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import Journal
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.oncall import CalendarShifts, Override, Schedule, Shift
from tocsin_alerting.incidents.roster import Contact, Roster
from tocsin_alerting.incidents.routing import IncidentConfig

LI = CalendarShifts((Shift(0, START_MS * 2, "li"),))
PEOPLE = {name: Contact({"mail": Addressee("mail", name)}) for name in ("li", "wang", "zhao")}
SWAP = Override(
    "primary", "wang", START_MS, START_MS + 2 * HOUR, "swap", START_MS, "zhao", "dentist"
)


def settings() -> IncidentConfig:
    step = EscalationStep((Recipient(schedule="primary"),), HOUR)
    policy = EscalationPolicy("P0", (step, step, step, step))
    roster = Roster(PEOPLE, {"primary": Schedule("primary", (LI,))}, {"P9": TimeInterval()})
    return config(policies={"P0": policy}, roster=roster)


def journal(name: str, folder: Path) -> Journal:
    return MemoryJournal() if name == "memory" else SqliteJournal(folder / "incidents.db")


@pytest.mark.parametrize("name", ["memory", "sqlite"])
async def test_it_holds_at_the_next_step_and_over_restarts(name: str, tmp_path: Path) -> None:
    one = await Floor(settings(), journal(name, tmp_path)).open()
    await one.hear(fires(alert("Down", "P0", target="a")))
    await one.dispatcher.override(SWAP, one.now)
    await one.advance(HOUR)
    await one.restart()
    await one.reconcile(fires(alert("Down", "P0", target="a")))
    assert one.dispatcher.working.overrides == {"swap": SWAP}
    await one.advance(HOUR + MINUTE)
    assert [who for _, _, who in one.told] == ["li", "wang", "li"]


@pytest.mark.parametrize("name", ["memory", "sqlite"])
async def test_a_removed_one_is_gone_at_once_and_after_a_restart(name: str, tmp_path: Path) -> None:
    one = await Floor(settings(), journal(name, tmp_path)).open()
    await one.dispatcher.override(SWAP, one.now)
    assert await one.dispatcher.remove_override("swap", "li", one.now)
    assert not await one.dispatcher.remove_override("swap", "li", one.now)
    await one.restart()
    assert not one.dispatcher.working.overrides
    await one.hear(fires(alert("Down", "P0", target="a")))
    assert one.told[0][2] == "li"


async def test_the_last_of_two_holds_and_one_of_the_same_id_is_replaced() -> None:
    one = await Floor(settings()).open()
    later = Override("primary", "zhao", START_MS, START_MS + HOUR, "b", START_MS + 1)
    await one.dispatcher.override(later, one.now)
    await one.dispatcher.override(SWAP, one.now)
    schedule = one.dispatcher.working.config.roster.schedules["primary"]
    assert schedule.on_call(START_MS) == "zhao", "by the time at which it was made"
    await one.dispatcher.override(Override("primary", "li", 0, 1, "b"), one.now)
    schedule = one.dispatcher.working.config.roster.schedules["primary"]
    assert schedule.on_call(START_MS) == "wang" and len(schedule.overrides) == 2


async def test_one_that_was_made_before_the_journal_could_be_read_stays(tmp_path: Path) -> None:
    """What the journal holds joins it; one that was removed meanwhile does not come back."""
    one = await Floor(settings(), SqliteJournal(tmp_path / "incidents.db")).open()
    await one.dispatcher.override(SWAP, one.now)
    saved = await one.journal.load()
    fresh = Floor(settings())
    await fresh.open()
    working = fresh.dispatcher.working
    other = Override("primary", "zhao", START_MS, START_MS + HOUR, "other", START_MS)
    working.put_override(other)
    working.load(saved, fresh.now)
    assert working.overrides == {"swap": SWAP, "other": other}
    working.remove_override("swap")
    working.load(saved, fresh.now)
    assert working.overrides == {"other": other}
    assert working.snapshot(fresh.now).overrides["swap"] is None or "swap" not in working.overrides


async def test_it_is_in_the_history_and_forgotten_when_it_is_long_over() -> None:
    one = await Floor(settings()).open()
    await one.dispatcher.override(SWAP, one.now)
    entries = [e for e in await one.journal.history(0) if e.event == "override_added"]
    assert [(e.actor, e.data["contact"], e.data["comment"]) for e in entries] == [
        ("zhao", "wang", "dentist")
    ]
    await one.dispatcher.prune(SWAP.end_ms, 0)
    assert one.dispatcher.working.overrides
    await one.dispatcher.prune(SWAP.end_ms + 1, 0)
    assert not one.dispatcher.working.overrides


async def test_a_slice_of_a_large_changeset_keeps_it() -> None:
    whole = Changeset(overrides={"swap": SWAP})
    assert whole and whole.split(1)[0].overrides == {"swap": SWAP}
