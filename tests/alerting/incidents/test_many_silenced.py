"""A silence of thousands: no turn of the loop gets long, and nobody is paged meanwhile."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from support.alert_events import alert, fires
from support.dispatcher_setup import Floor
from support.policies import MINUTE, SECOND, config
from support.silences import silence
from tocsin_alerting.incidents.correlation import MAX_JUDGED

MANY = 3_000
TURN_S = 0.6  # of processor time, on a machine that others use too


async def floor(severity: str = "P2", count: int = MANY) -> Floor:
    opened = await Floor(config()).open()
    every = [fires(alert("Hot", severity, target=str(number))) for number in range(count)]
    await opened.dispatcher.handle(every, opened.now)
    return opened


async def turns(asked: Awaitable[Any]) -> list[float]:
    """The processor time of each turn of the loop until it is done, in seconds."""
    asking, took, last = asyncio.ensure_future(asked), list[float](), time.thread_time()
    while not asking.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        took.append(now - last)
        last = now
    await asking
    return took


def muted(one: Floor) -> int:
    return sum(bool(each.muted_by) for each in one.dispatcher.working.incidents.values())


def put(one: Floor, *matchers: str, everything: bool = False) -> Awaitable[Any]:
    wanted = silence(one.now, *matchers)
    return one.dispatcher.silencing.put(wanted, "s1", one.now, everything=everything)


async def test_it_is_set_and_ends_in_turns() -> None:
    one = await floor()
    took = await turns(put(one, "alertname=Hot"))
    assert muted(one) == MANY
    assert len(took) >= MANY / MAX_JUDGED
    assert max(took) < TURN_S
    took = await turns(one.dispatcher.silencing.expire("s1", "li", one.now))
    assert muted(one) == 0
    assert not one.dispatcher.working.unjudged
    assert len(took) >= MANY / MAX_JUDGED
    assert max(took) < TURN_S


async def test_one_that_ends_by_itself_does_so_in_turns() -> None:
    one = await floor()
    await one.dispatcher.silencing.put(
        silence(one.now, "alertname=Hot", for_ms=MINUTE, warn_before_ms=None), "s1", one.now
    )
    one.now += MINUTE
    took = await turns(one.dispatcher.due(one.now))
    silenced = [each for each in one.dispatcher.working.incidents.values() if each.silenced]
    assert silenced == []
    assert len(took) >= MANY / MAX_JUDGED
    assert max(took) < TURN_S


async def test_what_is_due_when_it_is_set_pages_nobody() -> None:
    one = await floor(count=MAX_JUDGED * 3)
    one.now += 31 * SECOND  # all group waits are over, and none has run
    await put(one, "alertname=Hot")
    await one.deliver()
    assert one.sent == []
    events = [
        entry.event for n in range(1, 3 * MAX_JUDGED) for entry in await one.journal.history(n)
    ]
    assert "step" not in events, "those that have something to do are judged first"
    assert events.count("suppressed") == 3 * MAX_JUDGED - 1


async def test_those_that_have_something_to_do_are_judged_first() -> None:
    one = await floor("P2", count=MAX_JUDGED * 2)
    late = [fires(alert("Late", "P1", target=str(number))) for number in range(100)]
    await one.dispatcher.handle(late, one.now)
    one.now += 20 * SECOND  # only the last that came have waited long enough
    await put(one, 'alertname=~".+"', everything=True)
    numbers = range(MAX_JUDGED * 2 + 1, MAX_JUDGED * 2 + 101)
    events = {entry.event for number in numbers for entry in await one.journal.history(number)}
    assert events == {"opened", "muted", "suppressed"}


async def test_a_second_silence_of_the_same_is_named_too() -> None:
    one = await floor(count=MAX_JUDGED + 1)
    await put(one, "alertname=Hot")
    await one.dispatcher.silencing.put(silence(one.now, "severity=P2"), "s2", one.now)
    names = {each.muted_by for each in one.dispatcher.working.incidents.values()}
    assert names == {frozenset(("silence:s1", "silence:s2"))}
    await one.dispatcher.silencing.expire("s1", "li", one.now)
    names = {each.muted_by for each in one.dispatcher.working.incidents.values()}
    assert names == {frozenset(("silence:s2",))}


async def test_pages_that_wait_do_not_go_before_it_is_known_whether_they_are_silenced() -> None:
    one = await floor("P0", count=30)  # fewer than wait for a turn, so more are made due below
    working = one.dispatcher.working
    assert working.outbox.next_due_ms(one.now, lambda _: 0) is not None
    working.unjudged = set(working.incidents)
    assert await one.dispatcher.claim(one.now) == []
    await one.dispatcher.due(one.now)
    assert not working.unjudged
    assert await one.dispatcher.claim(one.now) != []


async def test_what_is_until_it_is_over_waits_until_all_is_known() -> None:
    one = await floor(count=MAX_JUDGED * 2)
    wanted = silence(one.now, "alertname=Hot", until_resolved=True)
    setting = asyncio.ensure_future(one.dispatcher.silencing.put(wanted, "s1", one.now))
    await asyncio.sleep(0)
    assert one.dispatcher.working.unjudged
    assert one.dispatcher.silencing.get("s1").active_at(one.now)
    await setting
    held = one.dispatcher.silencing.get("s1")
    assert (held.has_matched, held.active_at(one.now)) == (True, True)


async def test_others_are_left_alone() -> None:
    one = await floor()
    await one.dispatcher.handle([fires(alert("Cold", "P0", target="x"))], one.now)
    await put(one, "alertname=Hot")
    cold = await one.dispatcher.incident(MANY + 1)
    assert cold.muted_by == frozenset()
    assert muted(one) == MANY
