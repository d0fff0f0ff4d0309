"""The agent is killed again and again while somebody is paged: every step arrives, none is lost."""

import asyncio
import json
import random
import signal
import sqlite3
from collections import Counter
from pathlib import Path

from support.story import Story, reason, story
from support.webhook_sink import WebhookSink

KILLS = 10


async def killed_again_and_again(folder: Path, together: asyncio.Barrier) -> list[str]:
    dice = random.Random(4911)
    async with story(folder, escalate="8s", together=together) as one:
        one.engine.send(signal.SIGKILL)
        await _seen(one)
        for _ in range(KILLS):
            await asyncio.sleep(dice.uniform(0, 0.4))
            one.agent.kill()
            _is_sound(folder / "data" / "incidents.db")
            await asyncio.to_thread(one.agent.start)
        await one.third.wait_for(1, within=40)
        assert [i["state"] for i in await one.incidents()] == ["TRIGGERED"]
        one.engine.kill()
        await asyncio.to_thread(one.engine.start)
        for sink in (one.first, one.second, one.third):
            await _resolved(sink)
        number = (await one.incidents())[0]["number"]
        told = await asyncio.to_thread(one.agent.get, f"/api/v1/incidents/{number}")
        steps = [e["data"].get("step") for e in told["history"] if e["event"] == "step"]
        assert steps == [0, 1, 2], told["history"]
        for sink, first in (
            (one.first, "opened"),
            (one.second, "escalated"),
            (one.third, "escalated"),
        ):
            _each_once_but_for_repeats(sink, first)
        assert "Traceback" not in one.agent.said()
        return [reason(sink.requests[0]) for sink in (one.first, one.second, one.third)]


async def _seen(one: Story) -> None:
    """Until the incident is on the disk; a message may be on its way."""
    while not (found := await one.incidents("open")):
        await asyncio.sleep(0.02)
    path = f"/api/v1/incidents/{found[0]['number']}"
    while not (await asyncio.to_thread(one.agent.get, path))["recorded"]:
        await asyncio.sleep(0.02)


async def _resolved(sink: WebhookSink) -> None:
    async with asyncio.timeout(20):
        while "resolved" not in map(reason, sink.requests):
            await asyncio.sleep(0.05)


def _each_once_but_for_repeats(sink: WebhookSink, page: str) -> None:
    """Two messages with one key are one message that was sent again."""
    keys = {request.json()["tocsin"]["key"]: reason(request) for request in sink.requests}
    assert Counter(keys.values()) == {page: 1, "resolved": 1}


def _is_sound(path: Path) -> None:
    """What lies on the disk after the kill is whole, and each open incident has its next moment."""
    with sqlite3.connect(path) as journal:
        assert journal.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = journal.execute(
            "SELECT id, state, data_json FROM incidents WHERE severity = 'P0'"
        ).fetchall()
        assert [state for _, state, _ in found] == ["TRIGGERED"]
        number, _, data = found[0]
        (timers,) = journal.execute(
            "SELECT COUNT(*) FROM timers WHERE incident = ? AND kind IN ('step', 'group_wait')",
            (number,),
        ).fetchone()
        assert timers == (0 if json.loads(data)["exhausted_at_ms"] else 1), data
    journal.close()
