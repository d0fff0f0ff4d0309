"""Five thousand alerts at once, of as many machines, and the page of something else after them."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.agent_process import AgentProcess
from support.remote_write import remote_write
from support.story import PAGE_SECONDS
from support.webhook_sink import Received, WebhookSink

MANY = 5_000
MOST_RESIDENT_MIB = 300
MOST_DISK_MIB = 100
CONFIG = """\
collect: {{host: 0s, engines: 0s, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: [rules.yml]
group: {{by: {by}}}
receivers: {{hook: {{type: webhook, url: "{url}"}}}}
policies: {{P0: {policy}, P2: {policy}}}
"""
POLICY = "{group: {wait: 0s}, steps: [{notify: [{receiver: hook}]}]}"
RULES = """\
groups:
- name: storm
  rules:
  - alert: Storm
    expr: storm == 1
    labels: {{severity: {severity}}}
    annotations: {{summary: "{{{{ $labels.machine }}}} fails", description: "{{{{ $value }}}}"}}
- name: fault
  rules:
  - {{alert: Fault, expr: fault == 1, labels: {{severity: P0}}}}
"""


def push(agent: AgentProcess, name: str, value: float, count: int) -> None:
    at_ms = round(time.time() * 1000)
    names = [f"m{number}" for number in range(count)]
    series = [
        ((("__name__", name), ("instance", one), ("job", "x"), ("machine", one)), [(at_ms, value)])
        for one in names
    ]
    remote_write(agent.url, series)


async def arrival(sink: WebhookSink, found: Callable[[Received], bool], within: float) -> Received:
    async with asyncio.timeout(within):
        while True:
            for one in list(sink.requests):
                if found(one):
                    return one
            await asyncio.sleep(0.02)


def told(alertname: str, status: str) -> Callable[[Received], bool]:
    words = f'"alertname": "{alertname}"'.encode(), f'"status": "{status}"'.encode()
    return lambda request: all(one in request.body for one in words)


def resident_mib(agent: AgentProcess) -> float:
    assert agent.process is not None
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.parametrize(
    ("by", "severity"),
    [pytest.param("[alertname, machine]", "P0", marks=pytest.mark.long), ("[alertname]", "P2")],
)
async def test_a_storm_holds_up_no_page_and_takes_no_memory(
    tmp_path: Path, by: str, severity: str
) -> None:
    (tmp_path / "rules.yml").write_text(RULES.format(severity=severity))
    async with WebhookSink() as sink:
        config = CONFIG.format(by=by, url=sink.url, policy=POLICY)
        (tmp_path / "tocsin.yml").write_text(config)
        options = ("--config.file", "tocsin.yml", "--storage.path", "data", "--no-worker")
        agent = AgentProcess(tmp_path, *options)
        try:
            await asyncio.to_thread(agent.start)
            await asyncio.to_thread(push, agent, "storm", 1.0, MANY)
            await arrival(sink, told("Storm", "firing"), 20)
            began = time.time()
            await asyncio.to_thread(push, agent, "fault", 1.0, 1)
            page = await arrival(sink, told("Fault", "firing"), 20)
            assert page.at - began < 2 * PAGE_SECONDS
            await asyncio.to_thread(push, agent, "storm", 0.0, MANY)
            began = time.time()
            await asyncio.to_thread(push, agent, "fault", 0.0, 1)
            page = await arrival(sink, told("Fault", "resolved"), 20)
            assert page.at - began < 2 * PAGE_SECONDS
            await arrival(sink, told("Storm", "resolved"), 20)
            assert resident_mib(agent) < MOST_RESIDENT_MIB
            disk = sum(one.stat().st_size for one in (tmp_path / "data").glob("incidents.db*"))
            assert disk < MOST_DISK_MIB * 2**20
        finally:
            agent.kill()
