"""What these stories share: an agent without configured engines, and a webhook for its pages."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.agent_process import AgentProcess
from support.real_engine import RealEngine
from support.story import until
from support.webhook_sink import WebhookSink

Live = Callable[[str], RealEngine]  # the fixture `live`: the serving engine of this kind
SOON = 30.0  # an engine that starts later is found within this time
EVERYTHING_ELSE = 10.0

CONFIG = """\
collect: {{host: 5s, engines: 1s, gpu: 0s, processes: 5s}}
evaluation_interval: 1s
receivers:
  hook: {{type: webhook, url: "{hook}"}}
"""


@dataclass
class Watching:
    """`agent` watches what it finds; `hook` gets every page of it."""

    agent: AgentProcess
    hook: WebhookSink

    async def value(self, query: str) -> float | None:
        """Of a query whose answer is one number; None where there is none."""
        path = f"/api/v1/query?query={query}"
        found = (await asyncio.to_thread(self.agent.get, path))["result"]
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    async def until_value(self, query: str, wanted: float | None, within: float) -> None:
        """Until the query answers so; says what it answered instead."""
        try:
            async with asyncio.timeout(within):
                while (last := await self.value(query)) != wanted:
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"{query} is {last}, not {wanted}") from None

    async def until_up(self, target: str) -> None:
        await self.until_value(up(target), 1.0, SOON + EVERYTHING_ELSE)

    def pages(self, name: str) -> list[Any]:
        """The bodies of what was sent about this alert, first to last."""
        told = [request.json() for request in self.hook.requests]
        return [body for body in told if body["commonLabels"].get("alertname") == name]

    async def until_paged(self, name: str, within: float, status: str = "firing") -> Any:
        """The first page about the alert with this status."""

        def come() -> list[Any]:
            return [body for body in self.pages(name) if body["status"] == status]

        await until(come, within)
        return come()[0]

    async def incidents(self) -> list[str]:
        """The alerts' names of all incidents about engines, ended ones as well."""
        path = "/api/v1/incidents?state=all"
        found = (await asyncio.to_thread(self.agent.get, path))["incidents"]
        names = [str(one["labels"].get("alertname")) for one in found]
        return sorted(name for name in names if name.startswith("Inference"))


def up(target: str) -> str:
    return f"llm_engine_up{{target=%22{target}%22}}"


@asynccontextmanager
async def watching(folder: Path, *ports: int, more: str = "") -> AsyncIterator[Watching]:
    """An agent that looks for engines on `ports`, else on the usual ones; `more` is added to its
    configuration."""
    async with WebhookSink() as hook:
        (folder / "tocsin.yml").write_text(CONFIG.format(hook=hook.url) + more)
        where = [f"--engine.port={port}" for port in ports]
        agent = AgentProcess(folder, "--config.file=tocsin.yml", "--no-worker", *where)
        try:
            await asyncio.to_thread(agent.start)
            yield Watching(agent, hook)
        finally:
            agent.kill()
