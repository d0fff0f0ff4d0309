"""A sender that brings sources without end: the others are heard, and a fault of theirs pages."""

import asyncio
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from support.agent_process import AgentProcess
from support.remote_write import write_request
from support.story import PAGE_SECONDS
from support.webhook_sink import WebhookSink

MANY = 12_000
MOST_RESIDENT_MIB = 300
SERVED, REFUSED = 204, 400
CONFIG = """\
collect: {{host: 0s, engines: 0s, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: [rules.yml]
receivers: {{hook: {{type: webhook, url: "{url}"}}}}
policies: {{P0: {{group: {{wait: 0s}}, steps: [{{notify: [{{receiver: hook}}]}}]}}}}
"""
RULES = """\
groups:
- name: faults
  rules: [{alert: Fault, expr: fault == 1, labels: {severity: P0}}]
"""


def send(agent: AgentProcess, product: str, names: list[str], metric: str = "m") -> tuple[int, str]:
    """One series of each source; the answer."""
    at_ms = round(time.time() * 1000)
    body = write_request(
        [((("__name__", metric), ("instance", name), ("job", "x")), [(at_ms, 1.0)])
         for name in names]
    )  # fmt: skip
    connection = HTTPConnection(urlsplit(agent.url).netloc, timeout=20)
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "User-Agent": product,
    }
    try:
        connection.request("POST", "/api/v1/write", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def metric(agent: AgentProcess, name: str) -> float:
    lines = agent.text("/metrics").splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


def refused(agent: AgentProcess) -> float:
    return metric(agent, 'tocsin_store_series_refused_total{reason="per_sender"}')


def resident_mib(agent: AgentProcess) -> float:
    assert agent.process is not None
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


async def test_a_sender_of_too_many_sources_shuts_out_nobody(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    first = [f"first-{number}" for number in range(MANY)]
    others = [f"others-{number}" for number in range(MANY)]
    async with WebhookSink() as sink:
        (tmp_path / "tocsin.yml").write_text(CONFIG.format(url=sink.url))
        options = ("--config.file", "tocsin.yml", "--storage.path", "data", "--no-worker")
        agent = AgentProcess(tmp_path, *options)
        try:
            await asyncio.to_thread(agent.start)
            status, why = await asyncio.to_thread(send, agent, "careless/1.0", first)
            assert (status, "refused (per_sender 2000)" in why) == (REFUSED, True)
            status, why = await asyncio.to_thread(send, agent, "careless/2.0", others)
            assert (status, "refused (per_sender 12000)" in why) == (REFUSED, True)
            assert "the sender has used up its share" in why
            status, _ = await asyncio.to_thread(send, agent, "careless/2.0", first[:100])
            assert status == SERVED
            began = time.time()
            status, _ = await asyncio.to_thread(send, agent, "vmagent", ["machine"], "fault")
            assert status == SERVED
            (page,) = await sink.wait_for(1, 20)
            assert b'"alertname": "Fault"' in page.body
            assert page.at - began < PAGE_SECONDS
            assert metric(agent, "tocsin_store_remote_sources") == 10_001
            assert refused(agent) == MANY + 2_000
            assert resident_mib(agent) < MOST_RESIDENT_MIB
            assert agent.said().count("sender 127.0.0.1 (careless) rejected") == 1
        finally:
            agent.kill()
