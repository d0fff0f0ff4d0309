"""The clock is set back while the agent is down, and becomes right again while it runs: it pages,
and says of nothing that it is over."""

import asyncio
import signal
from datetime import datetime
from pathlib import Path

import pytest

from support.faked_clock import FakedClock
from support.story import PAGE_SECONDS, Story, reason, story, until

STARTING = 10.0  # beside the seconds of a page: an agent that is just starting
RULES = """
  - alert: Nothing
    expr: absent(nothing_here)
    labels: {severity: P2}
  - alert: Waiting
    expr: llm_num_requests_running > 0
    for: 20s
    labels: {severity: P2}
"""


@pytest.mark.parametrize("back", [60, 7200])
async def test_a_clock_that_was_set_back_meanwhile(back: int, tmp_path: Path) -> None:
    clock = FakedClock(tmp_path / "clock")
    async with story(tmp_path, environment=clock.environment) as one:
        with (tmp_path / "rules.yml").open("a") as rules:
            rules.write(RULES)
        await _restarted(one)
        await until(lambda: _standing(one) == {"EngineSlow", "Nothing"}, 20)
        began = await _waiting_since(one)
        clock.set(-back)
        await _restarted(one)
        assert await _waiting_since(one) < began - back + STARTING
        await _an_outage(one, 1)
        assert {"EngineSlow", "Nothing"} <= await asyncio.to_thread(_standing, one)
        clock.set(0)
        await one.first.wait_for(2, within=20)
        await _an_outage(one, 3)
        assert [reason(r) for r in one.first.requests] == ["opened", "resolved", "reopened"]
        assert {"EngineSlow", "Nothing"} <= await asyncio.to_thread(_standing, one)
        assert "Traceback" not in one.agent.said()


async def _restarted(one: Story) -> None:
    await asyncio.to_thread(one.agent.terminate)
    await asyncio.to_thread(one.agent.start)


async def _an_outage(one: Story, pages: int) -> None:
    """The page comes, and the engine is back."""
    began = asyncio.get_running_loop().time()
    one.engine.send(signal.SIGKILL)
    await one.first.wait_for(pages, within=PAGE_SECONDS + STARTING)
    assert asyncio.get_running_loop().time() - began < PAGE_SECONDS + STARTING
    one.engine.kill()
    await asyncio.to_thread(one.engine.start)


def _standing(one: Story) -> set[str]:
    """The alerts whose incidents have not resolved."""
    found = one.agent.get("/api/v1/incidents?state=all")["incidents"]
    return {
        str(incident["labels"]["alertname"])
        for incident in found
        if incident["state"] == "TRIGGERED"
    }


async def _waiting_since(one: Story) -> float:
    """Since when the alert waits or fires, in seconds of the agent's clock."""

    def waiting() -> list[str]:
        alerts = one.agent.get("/api/v1/alerts")["alerts"]
        return [a["activeAt"] for a in alerts if a["labels"]["alertname"] == "Waiting"]

    await until(waiting, 20)
    return datetime.fromisoformat((await asyncio.to_thread(waiting))[0]).timestamp()
