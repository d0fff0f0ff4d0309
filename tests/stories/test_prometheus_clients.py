"""The agent as a user runs it, asked by those who take it for a Prometheus."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import AgentProcess
from support.story import until

PATHS = [
    "query?query=up",
    "labels",
    "label/job/values",
    'series?match[]={__name__!=""}',
    "metadata",
    "targets",
    "targets/metadata",
    "scrape_pools",
    "alertmanagers",
    "rules",
    "alerts",
    "incidents",
    "silences",
    "silences/preview?matcher=alertname=X",
    "maintenance",
    "query_exemplars?query=up",
    "format_query?query=up",
    "parse_query?query=up",
    *(f"status/{name}" for name in ("buildinfo", "runtimeinfo", "flags", "config", "tsdb")),
    "status/tocsin",
    "oncall",
    "oncall/overrides",
    "policies",
    "route?label=severity=P0",
    "engines",
    "overview",
    "heartbeats",
    "receivers",
    "log",
    "stats",
]
CONFIG = """
external_url: https://bell.example
engines: [{url: "http://li:hunter2@127.0.0.1:9"}]
receivers:
  hook: {type: webhook, url: "http://127.0.0.1:9/hunter2", headers: {X-Key: hunter2}}
"""


def _told(agent: AgentProcess) -> dict[str, Any]:
    return {path: agent.get("/api/v1/" + path.replace('"', "%22")) for path in PATHS}


async def test_everything_is_answered_and_nothing_shows_a_password(tmp_path: Path) -> None:
    (tmp_path / "tocsin.yml").write_text(CONFIG)
    with AgentProcess(tmp_path, "--config.file=tocsin.yml", "--no-worker") as agent:
        await until(lambda: "look at" in agent.said(), 20)
        await until(lambda: agent.get("/api/v1/query?query=up==0")["result"], 20)
        told = await asyncio.to_thread(_told, agent)
        assert "hunter2" not in json.dumps(told)
        assert "hunter2" not in agent.said()
        _check(agent, told)
        _check_promtool(agent, told["label/job/values"])


def _check(agent: AgentProcess, told: dict[str, Any]) -> None:
    """What the endpoints say goes together."""
    names = {one["__name__"] for one in told['series?match[]={__name__!=""}']}
    assert {"node_load1", "llm_engine_up", "up", "tocsin_build_info"} <= names
    assert {"node_load1", "llm_engine_up", "tocsin_build_info"} <= told["metadata"].keys()
    (engine,) = (one for one in told["targets"]["activeTargets"] if one["scrapePool"] == "llm")
    assert (engine["health"], engine["labels"]["instance"]) == ("down", "127.0.0.1:9")
    assert "connection refused" in engine["lastError"]
    assert {"llm", "node", "tocsin"} <= set(told["label/job/values"])
    assert told["status/tsdb"]["headStats"]["numSeries"] >= len(names)
    assert told["status/flags"]["web.listen-address"] == f"127.0.0.1:{agent.port}"
    assert "external_url: https://bell.example" in told["status/config"]["yaml"]
    rules = [rule for group in told["rules"]["groups"] for rule in group["rules"]]
    links = [one["annotations"]["runbook_url"] for one in rules if one["type"] == "alerting"]
    assert links
    assert all(link.startswith("https://bell.example/runbooks/") for link in links)


def _check_promtool(agent: AgentProcess, jobs: list[str]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")

    def said(*words: str) -> str:
        done = subprocess.run(["promtool", "query", *words], capture_output=True, text=True)
        return done.stdout + done.stderr

    assert 'up{instance="127.0.0.1:9", job="llm"} => 0 @[' in said("instant", agent.url, "up == 0")
    assert said("labels", agent.url, "job").split() == jobs
    assert 'job="llm"' in said("series", "--match=up", agent.url)
    assert "=>\n7 @[" in said("range", agent.url, "vector(7)", "--step=60s")
    assert "1:16: parse error: unclosed" in said("instant", agent.url, "sum(rate(x[5m])")
