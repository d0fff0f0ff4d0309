"""A night with Telegram: the page arrives whatever the asking for presses does, a press is done
once although the agent is killed around it, and the first message follows the incident."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.agent_process import AgentProcess, free_port
from support.engine_process import EngineProcess
from support.story import until
from support.vendors.telegram import BOT_TOKEN, GROUP, LI, WANG, BotApiDouble

CONFIG = """\
collect: {{host: 1s, engines: 1s, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: [rules.yml]
engines: [{{url: "{engine}"}}]
contacts:
  li: {{email: li@example.com}}
receivers:
  chat:
    type: telegram
    token_file: telegram.token
    chat_id: {chat}
    users: {{{li}: li}}
    api_url: "{api}"
policies:
  P0:
    group: {{wait: 0s}}
    steps:
    - {{notify: [{{receiver: chat}}], escalate_after: 10m}}
    - {{notify: [{{receiver: chat}}]}}
"""
RULES = """\
groups:
- name: g
  rules:
  - alert: EngineDown
    expr: llm_engine_up == 0
    labels: {severity: P0}
    annotations: {summary: "Engine {{ $labels.target }} is down"}
"""
PAGE_SECONDS = 20.0  # 2 or 3 on a machine that has nothing else to do


async def seen(true: Callable[[], object], within: float = 60.0) -> float:
    """The seconds until it is true; the double lives on this loop."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def test_a_night_with_telegram(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "telegram.token").write_text(BOT_TOKEN)
    engine = EngineProcess(free_port())
    async with BotApiDouble() as api:
        text = CONFIG.format(engine=engine.url, chat=GROUP, li=LI, api=api.api_url)
        (tmp_path / "tocsin.yml").write_text(text)
        arguments = ("--config.file", "tocsin.yml", "--storage.path", "data", "--no-worker")
        agent = AgentProcess(tmp_path, *arguments)
        try:
            await asyncio.to_thread(engine.start)
            await _page_while_asking_fails(agent, engine, api)
            await _pressed_around_kills(agent, api)
            await _over(agent, engine, api)
        finally:
            engine.kill()
            await asyncio.to_thread(agent.kill)
    assert api.complaints == []
    assert BOT_TOKEN not in agent.said()


async def _page_while_asking_fails(
    agent: AgentProcess, engine: EngineProcess, api: BotApiDouble
) -> None:
    """A thousand presses of a stranger wait, and then nobody answers any more."""
    for _ in range(1000):
        api.press("t1a1.AAAAAAAAAAAAAAAAAAAA", WANG)
    await asyncio.to_thread(agent.start)

    def up() -> bool:
        found = agent.get("/api/v1/query?query=llm_engine_up")["result"]
        return any(one["value"][1] == "1" for one in found)

    await until(up, 30)
    api.hangs = True
    engine.kill()
    took = await seen(lambda: 1 in api.messages)
    assert took < PAGE_SECONDS
    assert list(api.buttons(1)) == ["Acknowledge", "Snooze 30 min", "Close"]
    assert api.messages[1]["shown"].startswith("[P0] ")

    def recorded() -> bool:
        """Else the page comes again after a kill, as it should."""
        messages = agent.get("/api/v1/incidents/1")["messages"]
        return [one["state"] for one in messages] == ["sent"]

    await until(recorded, 20)


async def _pressed_around_kills(agent: AgentProcess, api: BotApiDouble) -> None:
    """Killed at once when it has the press, or a little later: it is read again and done once."""
    data = api.buttons(1)["Acknowledge"]
    await asyncio.to_thread(agent.kill)
    api.hangs = False
    api.updates.clear()
    for delay_s in (0.0, 0.01, 0.1):  # after each there is an agent that has the press

        async def killed(after_s: float = delay_s) -> None:
            api.on_updates = None
            await asyncio.sleep(after_s)
            await asyncio.to_thread(agent.kill)

        await asyncio.to_thread(agent.start)
        api.on_updates = killed
        api.press(data)
        await seen(lambda: agent.process is not None and agent.process.poll() is not None)
        await asyncio.to_thread(agent.start)
        await seen(lambda: api.updates == [])
        if delay_s < 0.1:
            await asyncio.to_thread(agent.kill)
    incident = await asyncio.to_thread(agent.get, "/api/v1/incidents/1")
    assert (incident["state"], incident["owner"]) == ("ACKED", "li")
    acked = [entry for entry in incident["history"] if entry["event"] == "acked"]
    assert [(entry["actor"], entry["data"]["via"]) for entry in acked] == [("li", "telegram chat")]
    assert "step" not in {timer["kind"] for timer in incident["timers"]}
    assert api.told[-1] == "Acknowledged. You have it."
    await seen(lambda: api.messages[1]["shown"].startswith("[P0 acknowledged] "))
    assert list(api.buttons(1)) == ["Snooze 30 min", "Close"]


async def _over(agent: AgentProcess, engine: EngineProcess, api: BotApiDouble) -> None:
    await asyncio.to_thread(engine.start)
    await seen(lambda: api.messages[1]["shown"].startswith("[P0 resolved] "))
    assert api.buttons(1) == {}
    newest: dict[str, Any] = api.messages[max(api.messages)]
    assert newest["shown"].startswith("[P0 resolved] ")
    assert newest["reply_parameters"]["message_id"] == 1
