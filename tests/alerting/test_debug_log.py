"""What `--log.level debug` adds: deliveries, rules that change something, queries. No secrets."""

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from support.agent_process import AgentProcess

TOKEN = "hunter2-and-more"
CONFIG = """
evaluation_interval: 1s
collect: {host: 1s, gpu: 0s, processes: 0s}
rule_files: [rules.yml]
group: {wait: 0s}
receivers:
  hook: {type: webhook, url: "http://127.0.0.1:9/%(token)s", bearer_token_file: token}
  log: {type: log}
"""
RULES = "groups: [{name: g, rules: [{alert: Always, expr: vector(42), labels: {severity: P0}}]}]"
WANTED = ("rule changed its alerts", "query finished")


def said(agent: AgentProcess) -> list[dict[str, Any]]:
    lines = agent.log.read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def test_each_stage_tells_what_it_does_at_debug(tmp_path: Path) -> None:
    (tmp_path / "tocsin.yml").write_text(CONFIG % {"token": TOKEN})
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "token").write_text(TOKEN)
    flags = ("--config.file=tocsin.yml", "--log.level=debug", "--log.format=json", "--no-worker")
    agent = AgentProcess(tmp_path, *flags, "--engine.url=http://127.0.0.1:9")
    with agent:
        agent.get(f"/api/v1/query?query={quote('vector(1) + 1')}")
        deadline = time.monotonic() + 20
        while {"hook", "log"} - {line.get("receiver") for line in said(agent)}:
            assert time.monotonic() < deadline, agent.said()
            time.sleep(0.1)
    told = [line for line in said(agent) if line["level"] == "DEBUG"]
    changes, queries = ([one for one in told if one["msg"] == m] for m in WANTED)
    attempts = [one for one in said(agent) if "took_ms" in one]
    outcomes = {one["receiver"]: one["outcome"] for one in attempts}
    assert outcomes == {"hook": "RetryAt", "log": "Delivered"}
    assert all(one["attempt"] >= 1 and one["took_ms"] >= 0 for one in attempts)
    pages = [line["msg"] for line in said(agent) if line["level"] != "DEBUG"]
    assert any(one.startswith("#1 P0 Always opened") for one in pages)
    assert any(one.startswith("notification failed, retrying: hook: #1 P0 Always") for one in pages)
    assert [(one["rule"], one["events"], one["firing"]) for one in changes] == [
        ("Always", "firing", 1)
    ]
    (query,) = queries
    assert (query["path"], query["query"]) == ("/api/v1/query", "vector(1) + 1")
    assert 0 <= query["seconds"] < 20
    assert TOKEN not in agent.log.read_text("utf-8")
