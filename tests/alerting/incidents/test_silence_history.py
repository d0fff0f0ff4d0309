"""What the history says of a silence: set, extended, ends soon, ended by somebody, expired."""

from typing import Any

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import Floor
from support.policies import HOUR, MINUTE, config
from support.silences import silence
from tocsin_alerting.incidents.history_words import line_words

SLOW = alert("Slow", "P1", target="a")


async def floor() -> Floor:
    opened = await Floor(config()).open()
    await opened.hear(fires(SLOW))
    return opened


async def put(one: Floor, **changes: Any) -> None:
    wanted = silence(one.now, "alertname=Slow", warn_before_ms=15 * MINUTE, **changes)
    await one.dispatcher.silencing.put(wanted, "s1", one.now)


async def told(one: Floor) -> list[str]:
    """The lines of no incident that are about silences, in words."""
    entries = await one.journal.history(0)
    return [
        line_words(entry.event, entry.actor, entry.data, entry.at_ms)
        for entry in entries
        if entry.event.startswith("silence_")
    ]


@pytest.mark.parametrize("restart", [False, True])
async def test_it_ends_by_itself(restart: bool) -> None:
    one = await floor()
    await put(one)
    if restart:
        await one.restart()
        await one.reconcile(fires(SLOW))
    await one.advance(3 * HOUR)
    named = 'silence of alertname="Slow"'
    assert await told(one) == [
        f"{named} set for 1h by li: planned",
        f"{named} ends in 15m, and something fires under it",
        f"{named} expired",
    ]
    assert one.dispatcher.working.subject_timers == {}


async def test_it_is_extended_and_ended_by_somebody() -> None:
    one = await floor()
    await put(one)
    silencing = one.dispatcher.silencing
    await silencing.extend("s1", one.now + 2 * HOUR, "wang", one.now)
    await one.advance(MINUTE)
    await silencing.expire("s1", "wang", one.now)
    await one.advance(3 * HOUR)
    named = 'silence of alertname="Slow"'
    assert (await told(one))[1:] == [f"{named} now ends in 2h by wang", f"{named} ended by wang"]


async def test_its_expiry_is_that_of_the_time_it_was_extended_to() -> None:
    one = await floor()
    await put(one)
    await one.dispatcher.silencing.extend("s1", one.now + 2 * HOUR, "wang", one.now)
    await one.advance(2 * HOUR - 1)
    assert "expired" not in (await told(one))[-1]
    await one.advance(1)
    assert "expired" in (await told(one))[-1]


async def test_it_is_over() -> None:
    one = await floor()
    await put(one, until_resolved=True)
    await one.hear(clears(SLOW))
    await one.advance(3 * HOUR)
    named = 'silence of alertname="Slow"'
    assert await told(one) == [
        f"{named} set until it is over by li: planned",
        f"{named} ended: all that it muted is resolved",
    ]


async def test_a_window_is_named() -> None:
    one = await floor()
    await put(one, window="drivers")
    await one.advance(3 * HOUR)
    assert await told(one) == [
        'maintenance window "drivers" set for 1h by li: planned',
        'maintenance window "drivers" ends in 15m, and something fires under it',
        'maintenance window "drivers" expired',
    ]


async def test_a_step_of_the_clock_moves_its_expiry() -> None:
    one = await floor()
    await put(one)
    one.dispatcher.clock_jumped(HOUR, one.now + HOUR)
    one.now += HOUR
    await one.advance(HOUR - 1)
    assert "expired" not in (await told(one))[-1]
    await one.advance(1)
    assert "expired" in (await told(one))[-1]
