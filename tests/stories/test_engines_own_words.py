"""An engine under the agent and under a real Prometheus: both hold the same of its own page."""

import asyncio
import subprocess
from pathlib import Path

from exporter.collectors.test_engine import VLLM
from exporter.collectors.test_engine_page import TYPED, serving
from support.agent_process import AgentProcess
from support.prometheus import Prometheus, running_prometheus
from support.promtool import needs_promtool
from support.story import until

RULES = """\
groups:
- name: own
  interval: 1s
  rules:
  - {alert: TargetDown, expr: up == 0, labels: {severity: P3}}
"""
OWN = '{job="vllm",__name__!~"scrape_.*"}'


def held(url: str) -> dict[frozenset[tuple[str, str]], str]:
    """The engine's own series and their values, as the server at `url` has them."""
    rows = Prometheus(url).get("query", query=OWN)["data"]["result"]
    return {frozenset(row["metric"].items()): row["value"][1] for row in rows}


@needs_promtool
async def test_the_agent_holds_what_a_prometheus_does_and_counts_the_engine_once(
    tmp_path: Path,
) -> None:
    with serving(VLLM + TYPED) as address:
        (tmp_path / "tocsin.yml").write_text(
            f'engines: [{{url: "http://{address}"}}]\ncollect: {{engines: 1s}}\n'
        )
        scrapes = f'{{job_name: vllm, static_configs: [{{targets: ["{address}"]}}]}}'
        config = f"global: {{scrape_interval: 1s}}\nscrape_configs: [{scrapes}]\n"
        with (
            AgentProcess(tmp_path, "--config.file=tocsin.yml", "--no-worker") as agent,
            running_prometheus(tmp_path, config=config) as server,
        ):
            await until(lambda: len(held(server.url)) > 20 and len(held(agent.url)) > 20, 30)
            assert held(agent.url) == held(server.url)
            await asyncio.to_thread(_check_once, agent, address)
            await asyncio.to_thread(_check_page, agent, address)


def _check_once(agent: AgentProcess, address: str) -> None:
    assert _ups(agent, address) == [("vllm", "1")]
    listed = agent.get("/api/v1/targets")["activeTargets"]
    (target,) = (one for one in listed if one["labels"]["instance"] == address)
    assert (target["scrapePool"], target["scrapeUrl"]) == ("vllm", f"http://{address}/metrics")
    families = agent.get("/api/v1/metadata?metric=latency_seconds")
    assert families["latency_seconds"] == [{"type": "histogram", "help": "", "unit": ""}]


def _check_page(agent: AgentProcess, address: str) -> None:
    assert "vllm:" not in agent.text("/metrics")
    page = agent.text("/metrics?original=true&exclude[]=host")
    own = [line for line in page.splitlines() if line.startswith(("vllm:", "http_requests_total"))]
    assert own and all(f'target="{address}"' in line for line in own)
    linted = subprocess.run(["promtool", "check", "metrics"], input=page, text=True, check=False)
    assert linted.returncode in (0, 3)  # 3: it reads well, and breaks rules of style


async def test_a_restart_beside_a_dead_engine_does_not_change_whose_up_it_is(
    tmp_path: Path,
) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    with serving(VLLM) as address:
        engines = f'engines: [{{url: "http://{address}"}}]\ncollect: {{engines: 1s}}\n'
        (tmp_path / "tocsin.yml").write_text(engines + "rule_files: [rules.yml]\n")
        agent = AgentProcess(tmp_path, "--config.file=tocsin.yml", "--no-worker")
        with agent:
            await until(lambda: _ups(agent, address) == [("vllm", "1")], 30)
            await asyncio.to_thread(agent.terminate)
    with agent:
        await until(lambda: _ups(agent, address) == [("vllm", "0")], 30)
        await until(lambda: agent.get("/api/v1/incidents")["incidents"], 20)
        (incident,) = agent.get("/api/v1/incidents")["incidents"]
        assert incident["labels"] == {"alertname": "TargetDown", "instance": address}
        assert _ups(agent, address) == [("vllm", "0")]


def _ups(agent: AgentProcess, address: str) -> list[tuple[str, str]]:
    rows = agent.get(f"/api/v1/query?query=up{{instance=%22{address}%22}}")["result"]
    return [(row["metric"]["job"], row["value"][1]) for row in rows]
