"""The engine dies at night: one incident, a page in seconds, escalation that outlives a crash."""

import asyncio
import signal
import time
from pathlib import Path

from support.story import PAGE_SECONDS, Story, reason, story

PROBE_SECONDS = 2.0  # how long an engine that hangs may take to answer, at a round a second


async def engine_dies(number: signal.Signals, folder: Path, together: asyncio.Barrier) -> list[str]:
    """Killed, or stopped, so that it accepts and never answers."""
    async with story(folder, together=together) as one:
        began = time.time()
        one.engine.send(number)
        page = (await one.first.wait_for(1, within=20))[0]
        letter = (await one.mail.wait_for(1, within=20))[0]
        allowed = PAGE_SECONDS + (PROBE_SECONDS if number == signal.SIGSTOP else 0)
        assert page.at - began < allowed
        assert letter.at - began < allowed
        assert page.json()["commonLabels"]["severity"] == "P0"
        assert "is down" in str(letter.message["Subject"])
        await _crash_before_the_next_step(one, page.at)
        await _acknowledged(one)
        await _comes_back(one)
        return [reason(request) for request in one.second.requests]


async def _crash_before_the_next_step(one: Story, paged_at: float) -> None:
    """The step after 6 s goes out once, by an agent that was not there when it was planned."""
    await one.recorded()
    one.agent.kill()
    assert one.second.requests == []
    await asyncio.to_thread(one.agent.start)
    step = (await one.second.wait_for(1, within=20))[0]
    assert 5.5 < step.at - paged_at < 6 + 15
    assert reason(step) == "escalated"


async def _acknowledged(one: Story) -> None:
    """Whoever was told hears that somebody answers, and the third step never comes."""
    incident = (await one.incidents("open"))[0]
    assert incident["state"] == "TRIGGERED"
    said = await one.alertctl("ack", str(incident["number"]), "--by", "li")
    assert "ACKED, owned by li" in said
    await asyncio.sleep(7)  # the third step would have been due by now
    assert one.third.requests == []
    assert [reason(r) for r in one.second.requests] == ["escalated", "acked"]


async def _comes_back(one: Story) -> None:
    """One resolved notice to each of those who were paged, and to nobody else."""
    one.engine.kill()
    await asyncio.to_thread(one.engine.start)
    await one.first.wait_for(3, within=20)
    await one.second.wait_for(3, within=20)
    await one.mail.wait_for(3, within=20)
    await asyncio.sleep(2)
    subjects = [str(letter.message["Subject"]) for letter in one.mail.messages]
    assert [reason(r) for r in one.first.requests] == ["opened", "acked", "resolved"]
    assert one.third.requests == []
    assert len(subjects) == 3, subjects
    assert [i["state"] for i in await one.incidents()] == ["RESOLVED"]
