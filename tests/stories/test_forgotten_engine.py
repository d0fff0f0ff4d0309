"""An engine that a person forgets while its alert fires is forgotten, whatever happens next."""

import asyncio
from pathlib import Path
from typing import Any

from support.agent_process import AgentProcess, free_port
from support.engine_process import EngineProcess
from support.story import until

RULES = """\
groups:
- name: story
  rules:
  - {alert: EngineDown, expr: llm_engine_up == 0, labels: {severity: P0}}
"""
# The rules must not hear of it before the agent is killed.
CONFIG = """\
collect: {host: 0s, engines: 1s, gpu: 0s, processes: 0s}
evaluation_interval: 6s
rule_files: [rules.yml]
"""


def _incidents(agent: AgentProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = agent.get("/api/v1/incidents?state=all")["incidents"]
    return found


def _evaluated(agent: AgentProcess) -> bool:
    (group,) = agent.get("/api/v1/rules")["groups"]
    return bool(group["rules"][0]["health"] == "ok")


async def test_a_kill_right_after_it_was_forgotten_brings_no_engine_back(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "tocsin.yml").write_text(CONFIG)
    port = free_port()
    engine = EngineProcess(port, "vllm serve qwen")
    options = ("--config.file=tocsin.yml", "--no-worker", f"--engine.port={port}")
    agent = AgentProcess(tmp_path, *options)
    try:
        await asyncio.to_thread(engine.start)
        await asyncio.to_thread(agent.start)
        engine.kill()
        await until(lambda: _incidents(agent), 30)
        await asyncio.sleep(1)  # what fires is in the journal
        name = f"http://localhost:{port}/metrics"
        said = await asyncio.to_thread(agent.alertctl, "engines", "forget", name)
        agent.kill()
        assert said.stdout == f"127.0.0.1:{port}: forgotten\n", said
        await asyncio.to_thread(agent.start)
        assert agent.get("/api/v1/engines")["engines"] == []
        await until(lambda: _evaluated(agent), 20)
        await until(lambda: [one["state"] for one in _incidents(agent)] == ["RESOLVED"], 10)
    finally:
        engine.kill()
        agent.kill()
