"""Whom a page cannot reach: it is tried until it does, and others are told meanwhile."""

import asyncio
import signal
from pathlib import Path

from support.story import PAGE_SECONDS, Story, reason, story, until
from support.webhook_sink import Answer, WebhookSink

NEXT_AFTER_FAILURE = 30


async def away_for_a_while(folder: Path, together: asyncio.Barrier) -> list[str]:
    """Nobody listens at the webhook: the next step comes in time, and the page when it is back."""
    async with story(folder, escalate="4s", together=together) as one:
        await one.first.__aexit__()
        one.engine.send(signal.SIGKILL)
        letter = (await one.mail.wait_for(1, within=20))[0]
        step = (await one.second.wait_for(1, within=20))[0]
        assert 3.5 < step.at - letter.at < 4 + PAGE_SECONDS
        await until(lambda: _tries(one) >= 3, 20)
        async with WebhookSink(port=one.first.port) as back:
            await back.wait_for(1, within=20)
            await asyncio.sleep(2)
        assert len(one.second.requests) == 1
        assert "Traceback" not in one.agent.said()
        return [reason(page) for page in back.requests]


def _tries(one: Story) -> int:
    found = one.agent.get("/api/v1/incidents")["incidents"]
    (number,) = (i["number"] for i in found if i["labels"]["alertname"] == "EngineDown")
    told = one.agent.get(f"/api/v1/incidents/{number}")["messages"]
    return max(int(message["attempts"]) for message in told if message["receiver"] == "first")


async def gone_for_good(folder: Path, together: asyncio.Barrier) -> list[str]:
    """The whole step refuses its pages: the next one does not wait for its hour."""
    async with story(folder, escalate="1h", together=together) as one:
        one.first.usual = Answer(410)
        one.mail.says["RCPT"] = "550 5.1.1 no such mailbox"
        one.engine.send(signal.SIGKILL)
        refused = (await one.first.wait_for(1, within=20))[0]
        step = (await one.second.wait_for(1, within=NEXT_AFTER_FAILURE + 20))[0]
        assert step.at - refused.at < NEXT_AFTER_FAILURE + PAGE_SECONDS
        assert len(one.first.requests) == 1
        assert "Traceback" not in one.agent.said()
        return [reason(page) for page in one.second.requests]
