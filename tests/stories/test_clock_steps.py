"""The wall clock is set by an hour while somebody is paged: everything goes on as it was."""

import asyncio
import signal
import time
from datetime import datetime
from pathlib import Path

from support.faked_clock import FakedClock
from support.story import PAGE_SECONDS, Story, reason, story
from support.webhook_sink import Received

HOUR = 3600
ESCALATE = 8


async def test_an_hour_either_way_changes_nothing(tmp_path: Path) -> None:
    together = asyncio.Barrier(2)
    stories = (_story(tmp_path / str(hours), hours, together) for hours in (1, -1))
    assert await asyncio.gather(*stories) == [["opened"], ["opened"]]


async def _story(folder: Path, hours: int, together: asyncio.Barrier) -> list[str]:
    """What the first one was told until the next outage."""
    await asyncio.to_thread(folder.mkdir)
    clock = FakedClock(folder / "clock")
    escalate, environment = f"{ESCALATE}s", clock.environment
    async with story(folder, escalate, environment=environment, together=together) as one:
        one.engine.send(signal.SIGKILL)
        page = (await one.first.wait_for(1, within=20))[0]
        await one.recorded()
        await _the_clock_is_set(one, clock, hours)
        step = (await one.second.wait_for(1, within=20))[0]
        assert reason(step) == "escalated"
        assert ESCALATE - 0.1 < _told(step) - _told(page) - hours * HOUR < ESCALATE + 2
        assert step.at - page.at < ESCALATE + 2
        told = [reason(r) for r in one.first.requests]
        assert len(one.mail.messages) == 1
        await _the_next_outage(one)
        assert "Traceback" not in one.agent.said()
    return told


def _told(message: Received) -> float:
    """When the agent decided on it, by its own clock, in Unix seconds."""
    return datetime.fromisoformat(message.json()["tocsin"]["at"]).timestamp()


async def _the_clock_is_set(one: Story, clock: FakedClock, hours: int) -> None:
    """Rounds and evaluations go on each second, and the store takes what they say."""
    rounds, evaluated = await _rounds(one), await one.metric("tocsin_rule_evaluations_total")
    missed = await one.metric("tocsin_rule_group_iterations_missed_total")
    samples, began = await one.metric("tocsin_store_samples"), time.monotonic()
    clock.set(hours * HOUR)
    await asyncio.sleep(5)
    now = float((await asyncio.to_thread(one.agent.get, "/api/v1/query?query=time()"))["result"][1])
    assert abs(now - time.time() - hours * HOUR) < 5
    assert await one.metric("tocsin_clock_steps_total") == 1
    passed = int(time.monotonic() - began)
    assert await _rounds(one) - rounds >= passed - 2
    assert await one.metric("tocsin_rule_evaluations_total") - evaluated >= 2 * (passed - 2)
    assert await one.metric("tocsin_rule_group_iterations_missed_total") - missed <= 1
    assert await one.metric("tocsin_store_samples") > samples
    assert "tocsin_store_samples_refused_total{" not in one.agent.text("/metrics")


async def _rounds(one: Story) -> float:
    """Of the host, a round a second."""
    text = await asyncio.to_thread(one.agent.text, "/metrics")
    (line,) = (
        x for x in text.splitlines() if x.startswith('tocsin_sampling_rounds_total{job="node"')
    )
    return float(line.rpartition(" ")[2])


async def _the_next_outage(one: Story) -> None:
    one.engine.kill()
    await asyncio.to_thread(one.engine.start)
    await one.first.wait_for(2, within=20)
    began = time.time()
    one.engine.send(signal.SIGKILL)
    page = (await one.first.wait_for(3, within=20))[2]
    assert page.at - began < PAGE_SECONDS
    assert [reason(r) for r in one.first.requests] == ["opened", "resolved", "reopened"]
