"""The lines that an incident keeps of logs, who may read them, and where they are sent."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest

from support.alert_events import alert, fires
from support.api_client import api_client
from support.dispatcher_setup import Floor
from support.policies import config
from support.tailing import append
from tocsin_alerting.agent_logs import AFTER_MS, AgentLogs
from tocsin_alerting.api.tocsin import history, incidents
from tocsin_alerting.config.config import Config
from tocsin_alerting.incidents.notification import Evidence, Notification
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.inline import InlineCollector

OOM = "ERROR torch.OutOfMemoryError: CUDA out of memory, api_key=s3cr3t4711"
PROMPT = "INFO Received request 1: prompt: 'NCCL WARN my salary'"


class Watch:
    """An agent's logs and incidents; `log` is what it reads."""

    def __init__(self, folder: Path, evidence: str) -> None:
        self.log, self.clock = folder / "vllm.log", Clock()
        self.log.touch()
        sources = [{"name": "vllm", "paths": [str(self.log)], "evidence": evidence}]
        self.config = Config.model_validate({"logs": sources, "storage": {"path": str(folder)}})
        self.floor = Floor(config())
        self.logs = AgentLogs(self.config, self.clock, lambda: self.floor.dispatcher)

    async def reads(self, *lines: str) -> None:
        before = len(self.logs.sources.recent(9))
        append(self.log, *lines)
        async with asyncio.timeout(30):
            while len(self.logs.sources.recent(9)) == before:
                await asyncio.sleep(0.02)

    async def fires(self, **labels: str) -> None:
        self.floor.now = self.clock.now_ms()
        await self.floor.hear(fires(alert("Log", "P0", 0, **labels), self.floor.now))


async def watch(folder: Path, evidence: str = "keep") -> AsyncIterator[Watch]:
    one = Watch(folder, evidence)
    try:
        async with asyncio.timeout(30):
            while not any(s.value for s in one.logs.sources.samples() if "files" in s.family.name):
                await asyncio.sleep(0.02)
        await one.floor.open()
        await one.floor.reconcile()
        yield one
    finally:
        one.logs.sources.close()


async def test_an_incident_keeps_the_lines_for_those_who_may_respond(tmp_path: Path) -> None:
    async for one in watch(tmp_path):
        await one.reads(PROMPT, OOM)
        await one.fires(source="vllm", pattern="cuda_oom")
        later_ms = one.floor.now + AFTER_MS
        for _ in range(3):
            one.logs.note(later_ms)
        await one.floor.dispatcher.heartbeat(later_ms)
        dispatcher = one.floor.dispatcher
        routes = [*incidents.routes(dispatcher), *history.routes(dispatcher, Clock().now_ms, UTC)]
        async with api_client(routes, token="t", see="read", act="respond") as api:

            async def data(path: str, who: str) -> list[object]:
                headers = {"authorization": f"Bearer {who}"}
                answer = await api.get(path, headers=headers)
                found = answer.json()["data"]
                entries = found.get("history") or found["entries"]
                return [entry["data"] for entry in entries if entry["event"] == "log_lines"]

            kept = f"vllm (cuda_oom): {OOM.replace('s3cr3t4711', '<secret>')}"
            path = "/api/v1/incidents/1"
            assert await data(path, "act") == [{"count": 1, "lines": [kept]}]
            assert await data(path, "see") == [{"count": 1}]
            assert await data("/api/v1/log", "act") == [{"count": 1}]


@pytest.mark.parametrize(("evidence", "sent"), [("keep", ()), ("send", ("log",))])
async def test_lines_are_sent_where_the_source_says_so(
    tmp_path: Path, evidence: str, sent: tuple[str, ...]
) -> None:
    async def enrich(notification: Notification) -> Notification:
        return replace(notification, evidence=Evidence(numbers=(("queue", "7"),)))

    async for one in watch(tmp_path, evidence):
        await one.reads(PROMPT, OOM)
        await one.fires(target="h:8000")
        page = await one.logs.sending(enrich)(one.floor.sent[-1])
        assert page.evidence is not None
        assert [name for name, _ in page.evidence.numbers] == ["queue", *sent]
        assert "s3cr3t" not in str(page.evidence) and "salary" not in str(page.evidence)
        drill = await one.logs.sending(enrich)(replace(one.floor.sent[-1], drill=True))
        assert drill.evidence == Evidence(numbers=(("queue", "7"),))


async def test_the_collector_and_a_reload(tmp_path: Path) -> None:
    async for one in watch(tmp_path):
        collector = one.logs.collector()
        assert isinstance(collector, InlineCollector) and await collector.collect()
        one.logs.configure(Config())
        assert await collector.collect() == []
