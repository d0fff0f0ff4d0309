"""What still fires is told again, as it stands, to those that would forget it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import Floor
from support.policies import MINUTE, config
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.loops.channel_refresh import ChannelRefresh
from tocsin_alerting.notify.channel import Channel

DOWN = alert("EngineDown", "P0", target="a")
SLOW = alert("EngineSlow", "P1", target="b")


def refresh(floor: Floor, channels: Mapping[str, Any] | None = None) -> ChannelRefresh:
    there = cast(Mapping[str, Channel], channels or {})
    return ChannelRefresh(there, floor.dispatcher, lambda: floor.now)


async def test_only_what_was_paged_through_the_receiver_and_is_open_stands() -> None:
    floor = await Floor(config()).open()
    await floor.hear(fires(DOWN), fires(SLOW))
    loop = refresh(floor)
    (told,) = loop.standing("phone")  # P1 waits for its group
    assert (told.incident, told.contact, told.status) == (1, "li", "firing")
    assert loop.standing("nobody") == []
    await floor.hear(clears(DOWN))
    assert loop.standing("phone") == []


async def test_an_acknowledged_incident_still_stands_after_a_restart() -> None:
    floor = await Floor(config()).open()
    await floor.hear(fires(DOWN))
    await floor.act(Verb.ACK)
    await floor.advance(10 * MINUTE)
    await floor.restart()
    (told,) = refresh(floor).standing("chat")
    assert told.alerts[0].ends_at_ms is None and told.state == "ACKED"


class _Forgetful:
    name = "chat"
    refresh_ms = 60_000

    def __init__(self, fails: bool) -> None:
        self.told: list[Sequence[Notification]] = []
        self._fails = fails

    async def refresh(
        self, standing: Callable[[], Sequence[Notification]], now_ms: Callable[[], int]
    ) -> None:
        self.told.append(standing())
        if self._fails:
            raise ValueError("a secret")


@pytest.mark.parametrize("fails", [False, True])
async def test_it_comes_soon_and_then_each_time_whatever_fails(
    fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    floor = await Floor(config()).open()
    await floor.hear(fires(DOWN))
    channel, slept, enough = _Forgetful(fails), list[float](), asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 4:
            enough.set()
            await asyncio.Event().wait()

    loop = refresh(floor, {"chat": channel, "other": object()})
    loop.sleep = sleep
    running = asyncio.create_task(loop.run())
    await enough.wait()
    running.cancel()
    assert slept == [15, 60, 60, 60]
    assert [[one.incident for one in told] for told in channel.told] == [[1], [1], [1]]
    assert ("failed to resend: ValueError" in caplog.text) is fails
    assert "a secret" not in caplog.text
