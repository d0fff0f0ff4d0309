"""Heartbeats in virtual time: each at its interval while all is well, and none while it is not."""

import asyncio
import logging

import pytest

from support.virtual_time import VirtualTimeLoop
from tocsin_alerting.loops.heartbeat_loop import HeartbeatLoop
from tocsin_alerting.loops.self_health import Trouble


class Outside:
    """Somebody who watches, and answers `answers` in turn, then well for ever."""

    address = "https://watch.example"

    def __init__(self, every_s: float, *answers: str, takes_s: float = 0.0) -> None:
        self.every_s = every_s
        self.heard: list[float] = []
        self.closed = False
        self._answers, self._takes_s = list(answers), takes_s

    async def send(self) -> str:
        self.heard.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self._takes_s)
        return self._answers.pop(0) if self._answers else ""

    async def close(self) -> None:
        self.closed = True


Move = tuple[float, list[Trouble]]
FULL = Trouble("journal", "the journal is down for 40s: no space left")


async def _played(until_s: float, moves: list[Move], *pings: Outside) -> HeartbeatLoop:
    """From each time of `moves` on, that is what is not well."""
    now = asyncio.get_running_loop().time
    loop = HeartbeatLoop(
        pings, lambda: next((found for at, found in reversed(moves) if at <= now()), [])
    )
    running = asyncio.ensure_future(loop.run())
    await asyncio.sleep(until_s)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert all(ping.closed for ping in pings)
    return loop


def played(until_s: float, moves: list[Move], *pings: Outside) -> HeartbeatLoop:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(_played(until_s, moves, *pings))


def test_at_its_interval_however_long_an_answer_takes() -> None:
    one, other = Outside(60, takes_s=7), Outside(20)
    loop = played(125, [], one, other)
    assert one.heard == [0, 60, 120]
    assert other.heard == [0, 20, 40, 60, 80, 100, 120]
    assert (loop.counts.failed, loop.counts.withheld) == (0, 0)


def test_one_that_hangs_holds_up_no_other() -> None:
    hanging, other = Outside(20, takes_s=1e6), Outside(20)
    played(65, [], hanging, other)
    assert len(hanging.heard) == 1 and len(other.heard) == 4


def test_withheld_while_something_is_not_well_and_sent_soon_after(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    one = Outside(60)
    loop = played(400, [(30, [FULL]), (200, [])], one)
    assert one.heard[:2] == [0, 200]
    assert one.heard[2:] == [260, 320, 380]
    assert loop.counts.withheld == 1 and loop.counts.sent == 5
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "journal failed: the journal is down for 40s: no space left; heartbeat withheld",
        "journal recovered",
    ]


def test_one_that_failed_is_tried_soon_again_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    why = "https://watch.example: no response within 10 s"
    one = Outside(60, "", why, why)
    loop = played(135, [], one)
    assert one.heard == [0, 60, 65, 70, 130]
    assert (loop.counts.sent, loop.counts.failed) == (3, 2)
    assert [record.getMessage() for record in caplog.records] == [
        f"heartbeat failed, retrying: {why}",
        "heartbeat sent again to https://watch.example",
    ]


def test_trouble_is_in_the_log_without_heartbeats_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    late = Trouble("timers", "the oldest timer is 3m late")
    played(60, [(10, [FULL]), (20, [FULL, late]), (40, [late])])
    assert [record.getMessage() for record in caplog.records] == [
        "journal failed: the journal is down for 40s: no space left",
        "timers failed: the oldest timer is 3m late",
        "journal recovered",
    ]
