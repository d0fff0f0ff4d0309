"""A machine comes back without its engine: what was watched is expected, and pages."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.agent_process import AgentProcess, free_port
from support.engine_process import EngineProcess
from support.story import RULES, until
from support.webhook_sink import WebhookSink

CONFIG = """\
collect: {{host: 1s, engines: 1s, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: [rules.yml]
worker: {{enabled: false}}
receivers: {{hook: {{type: webhook, url: "{hook}"}}}}
"""


@asynccontextmanager
async def rebooted(folder: Path, *ports: int) -> AsyncIterator[tuple[AgentProcess, WebhookSink]]:
    """The agent after it watched an engine on the first port for ten minutes; both were killed."""
    async with WebhookSink() as hook:
        (folder / "rules.yml").write_text(RULES)
        (folder / "tocsin.yml").write_text(CONFIG.format(hook=hook.url))
        usual = [f"--engine.port={port}" for port in ports]
        agent = AgentProcess(folder, "--config.file=tocsin.yml", *usual)
        with EngineProcess(ports[0]) as engine:
            await asyncio.to_thread(agent.start)
            await until(lambda: _state(agent) == ["up"], 20)
            agent.kill()
            engine.kill()
        _ten_minutes_ago(folder, engine)
        try:
            yield agent, hook
        finally:
            agent.terminate()


def _ten_minutes_ago(folder: Path, engine: EngineProcess) -> None:
    """What the agent writes once the engine has answered for so long."""
    row = (engine.url.removeprefix("http://"), engine.url, "vLLM", "qwen", 0)
    with sqlite3.connect(folder / "data" / "incidents.db") as journal:
        journal.execute("INSERT INTO engines VALUES (?, ?, ?, ?, ?)", row)


def _state(agent: AgentProcess) -> list[str]:
    found = agent.get("/api/v1/engines")["engines"]
    return ["up" if one["up"] else "down" for one in found]


async def test_the_engine_that_does_not_come_up_pages_until_it_is_forgotten(tmp_path: Path) -> None:
    port = free_port()
    async with rebooted(tmp_path, port) as (agent, hook):
        began = time.time()
        await asyncio.to_thread(agent.start)
        page = (await hook.wait_for(1, within=20))[0]
        assert page.at - began < 10
        assert page.json()["commonLabels"]["target"] == f"127.0.0.1:{port}"
        assert f"engines forget 127.0.0.1:{port}" in agent.said()
        listed = await asyncio.to_thread(agent.alertctl, "engines")
        (row,) = listed.stdout.splitlines()[1:]
        assert row.split()[0] == f"127.0.0.1:{port}" and row.split()[-2:] == ["down", "remembered"]
        done = await asyncio.to_thread(agent.alertctl, "engines", "forget", f"127.0.0.1:{port}")
        assert done.returncode == 0, done.stderr
        end = (await hook.wait_for(2, within=20))[1]
        assert end.json()["status"] == "resolved"
        agent.kill()
        await asyncio.to_thread(agent.start)
        assert _state(agent) == []


async def test_the_same_model_on_another_port_has_moved_and_pages_nobody(tmp_path: Path) -> None:
    old, new = free_port(), free_port()
    async with rebooted(tmp_path, old, new) as (agent, hook):
        with EngineProcess(new):
            await asyncio.to_thread(agent.start)
            await until(lambda: _state(agent) == ["up"], 20)
            await asyncio.sleep(3)
            assert agent.get("/api/v1/engines")["engines"][0]["target"] == f"127.0.0.1:{new}"
            assert hook.requests == []
