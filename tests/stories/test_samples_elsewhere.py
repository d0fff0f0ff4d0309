"""What rules record reaches a Prometheus, all of it, though that is away and we are killed."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

from support.agent_process import AgentProcess, free_port
from support.prometheus import running_prometheus

CONFIG = """\
collect: {{host: 1s, engines: 0s, gpu: 0s, processes: 0s}}
rule_files: [r.yml]
external_labels: {{cluster: a}}
remote_write: [{{url: "http://127.0.0.1:{port}/api/v1/write"}}]
"""
RULES = """\
groups:
- name: g
  interval: 1s
  rules:
  - {record: "load:now", expr: node_load1 + 0}
  - {alert: Always, expr: "node_load1 >= 0", labels: {severity: none}}
"""
QUERY = '{__name__=~"load:now|ALERTS|ALERTS_FOR_STATE"}[10m]'
Samples = dict[tuple[tuple[str, str], ...], dict[float, str]]


def _samples(url: str) -> Samples:
    form = f"query={QUERY}".encode()
    with urlopen(f"{url}/api/v1/query", form, timeout=20) as answer:
        found = json.load(answer)["data"]["result"]
    return {
        tuple(sorted((one["metric"] | {"cluster": "a"}).items())): dict(map(tuple, one["values"]))
        for one in found
    }


def _lacks(agent: AgentProcess, url: str, until_s: float) -> list[object]:
    """The agent's samples up to then that the Prometheus does not have."""
    here, there = _samples(agent.url), _samples(url)
    return [
        (series, at)
        for series, values in here.items()
        for at, value in values.items()
        if at <= until_s and there.get(series, {}).get(at) != value
    ]


async def test_an_outage_and_a_kill_lose_no_sample(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "tocsin.yml").write_text(CONFIG.format(port=port))
    (tmp_path / "r.yml").write_text(RULES)
    flag = "--web.enable-remote-write-receiver"
    agent = AgentProcess(tmp_path, "--config.file", "tocsin.yml", "--no-worker")
    try:
        await asyncio.to_thread(agent.start)
        await _recorded(agent, 3)  # nobody is there yet
        with running_prometheus(tmp_path, flag, port=port) as away:
            await until(lambda: len(_samples(away.url)) == 3, 40)
            before_s = time.time()
        await _recorded(agent, 3)
        agent.kill()
        await asyncio.to_thread(agent.start)
        await _recorded(agent, 3)
        with running_prometheus(tmp_path, flag, port=port) as back:
            now_s = time.time()
            await until(lambda: _lacks(agent, back.url, now_s) == [], 60)
            assert all(
                min(values) < before_s < max(values) for values in _samples(back.url).values()
            )
    finally:
        agent.kill()


async def until(true: Callable[[], object], within_s: float) -> None:
    """Asked twice a second: each time is a query of all."""
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(true):
            await asyncio.sleep(0.5)


async def _recorded(agent: AgentProcess, more: int) -> None:
    """So many evaluations from now on."""

    def newest() -> float:
        return max((at for values in _samples(agent.url).values() for at in values), default=0.0)

    begin_s = time.time()
    await until(lambda: newest() > begin_s + more, 40)
