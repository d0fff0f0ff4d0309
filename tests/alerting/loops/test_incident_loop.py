"""The incident loop in virtual time: timers run when due, and messages go out at once."""

import asyncio

import pytest

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS
from support.policies import MINUTE, SECOND, config
from support.virtual_time import VirtualTimeLoop
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.heartbeats import ExpectedHeartbeat
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome
from tocsin_alerting.loops.incident_loop import IncidentLoop
from tocsin_alerting.notify.delivery import DeliveryLoop
from tocsin_alerting.rules.severity import Severity
from tocsin_exporter.clock import Clock

Told = list[tuple[float, str]]


class Ear:
    """A channel that keeps when it was told why."""

    send_resolved = True
    at_once = 4

    def __init__(self, clock: Clock, told: Told) -> None:
        self.name = "ear"
        self._clock, self._told = clock, told

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        minutes = (self._clock.now_ms() - START_MS) / MINUTE
        self._told.append((round(minutes, 2), notification.reason.value))
        return Delivered()

    def begin(self) -> None: ...

    async def close(self) -> None: ...


async def _an_hour(told: Told) -> None:
    loop = asyncio.get_running_loop()
    clock = Clock(lambda: START_MS / 1000 + loop.time(), loop.time)
    dispatcher = Dispatcher(config(), MemoryJournal(), lambda: 0.0)
    await dispatcher.start(clock.now_ms())
    channels = {name: Ear(clock, told) for name in ("phone", "chat", "mail")}
    delivery_loop = DeliveryLoop(dispatcher, channels, clock.now_ms)
    running = asyncio.ensure_future(IncidentLoop(dispatcher, delivery_loop, clock).run())
    await asyncio.sleep(MINUTE / 1000 * 4)
    one = alert(target="a:1")
    await dispatcher.handle([fires(one, clock.now_ms())], clock.now_ms())
    await asyncio.sleep(MINUTE / 1000 * 20)
    await dispatcher.handle([clears(one, clock.now_ms())], clock.now_ms())
    await asyncio.sleep(MINUTE / 1000 * 60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await delivery_loop.close()


def test_messages_go_out_when_they_are_due_and_not_before() -> None:
    told: Told = []
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(_an_hour(told))
    assert told == [
        *[(4.0, "opened")] * 2,
        *[(9.0, "slo_breach")] * 2,
        (19.0, "escalated"),
        *[(24.0, "resolved")] * 3,
    ]


async def _ends(turns: int) -> bool:
    """Whether it ends when it is cancelled that many turns of the loop after its start."""
    loop = asyncio.get_running_loop()
    clock = Clock(lambda: START_MS / 1000 + loop.time(), loop.time)
    dispatcher = Dispatcher(config(), MemoryJournal(), lambda: 0.0)
    await dispatcher.start(clock.now_ms())
    running = asyncio.ensure_future(
        IncidentLoop(dispatcher, DeliveryLoop(dispatcher, {}, clock.now_ms), clock).run()
    )
    for _ in range(turns):
        dispatcher.changed.set()
        await asyncio.sleep(0)
    running.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    return running.done()


def test_it_ends_at_whatever_moment_it_is_told_to() -> None:
    """In a storm it mostly was where it took the end for that of its own sleep, and went on."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert [turns for turns in range(60) if not runner.run(_ends(turns))] == []


async def _stopped_for(seconds: float, told: Told) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    clock = Clock(lambda: START_MS / 1000 + loop.time(), loop.time)
    job = ExpectedHeartbeat("job", MINUTE, 30 * SECOND, Severity.P0)
    dispatcher = Dispatcher(config(heartbeats=(job,)), MemoryJournal(), lambda: 0.0)
    await dispatcher.start(clock.now_ms())
    channels = {name: Ear(clock, told) for name in ("phone", "chat", "mail")}
    delivery_loop = DeliveryLoop(dispatcher, channels, clock.now_ms)
    running = asyncio.ensure_future(IncidentLoop(dispatcher, delivery_loop, clock).run())
    await dispatcher.heartbeats.beat("job", clock.now_ms())
    await asyncio.sleep(30)
    loop.hold(seconds)
    await asyncio.sleep(4 * MINUTE / 1000)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await delivery_loop.close()


@pytest.mark.parametrize(("seconds", "paged"), [(0.0, 1.5), (15.0, 1.5), (600.0, 12.0)])
def test_what_came_while_it_was_stopped_is_not_missing(seconds: float, paged: float) -> None:
    told: Told = []
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(_stopped_for(seconds, told))
    assert told[:2] == [(paged, "opened")] * 2
