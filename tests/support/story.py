"""What the stories share: an agent, an engine, a webhook for each step and a mailbox, all real."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.agent_process import BIN, AgentProcess, free_port
from support.engine_process import EngineProcess
from support.mailbox import Mailbox
from support.webhook_sink import Received, WebhookSink

PAGE_SECONDS = 8.0  # 2 or 3 on a machine that has nothing else to do
TOGETHER_SECONDS = 60.0  # how long the others may take to start

RULES = """\
groups:
- name: story
  rules:
  - alert: EngineDown
    expr: llm_engine_up == 0
    for: 0s
    labels: {severity: P0}
    annotations: {summary: "Engine {{ $labels.target }} is down."}
  - alert: EngineSlow
    expr: llm_num_requests_running > 0
    labels: {severity: P2}
    annotations: {summary: "Never told in these stories: it has no receiver of its own."}
"""

CONFIG = """\
collect: {{host: 1s, engines: 1s, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: [rules.yml]
engines: [{{url: "{engine}"}}]
receivers:
  first: {{type: webhook, url: "{first}"}}
  second: {{type: webhook, url: "{second}"}}
  third: {{type: webhook, url: "{third}"}}
  nobody: {{type: log}}
  mail:
    type: email
    smarthost: "{smarthost}"
    tls: none
    from: alerts@example.com
    to: [ops@example.com]
policies:
  P0:
    group: {{wait: 0s}}
    recover_within: 1h
    steps:
    - {{notify: [{{receiver: first}}, {{receiver: mail}}], escalate_after: {escalate}}}
    - {{notify: [{{receiver: second}}], escalate_after: {escalate}}}
    - {{notify: [{{receiver: third}}]}}
  P2:
    steps: [{{notify: [{{receiver: nobody}}]}}]
"""


@dataclass
class Story:
    agent: AgentProcess
    engine: EngineProcess
    first: WebhookSink
    second: WebhookSink
    third: WebhookSink
    mail: Mailbox

    async def engine_seen(self) -> None:
        """Until the agent has found the engine up."""

        def up() -> bool:
            found = self.agent.get("/api/v1/query?query=llm_engine_up")["result"]
            return any(one["value"][1] == "1" for one in found)

        await until(up, 20)

    async def recorded(self) -> None:
        """Until every message so far is known to be delivered: a crash before would repeat it."""

        def all_sent() -> bool:
            found = self.agent.get("/api/v1/incidents?state=all")["incidents"]
            each = (self.agent.get(f"/api/v1/incidents/{one['number']}") for one in found)
            return all(m["state"] == "sent" for one in each for m in one["messages"])

        await until(all_sent, 5)

    async def metric(self, name: str) -> float:
        """The sum of a metric's values on the metrics page."""
        text = await asyncio.to_thread(self.agent.text, "/metrics")
        lines = [line for line in text.splitlines() if line.startswith((name + " ", name + "{"))]
        assert lines, f"no {name}"
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def alertctl(self, *arguments: str) -> str:
        done = await asyncio.to_thread(self.agent.alertctl, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def incidents(self, state: str = "all") -> list[dict[str, Any]]:
        found = await asyncio.to_thread(self.agent.get, f"/api/v1/incidents?state={state}")
        return [one for one in found["incidents"] if one["labels"]["alertname"] == "EngineDown"]


def config_file(
    folder: Path, engine: str, first: str, second: str, third: str, smarthost: str, escalate: str
) -> None:
    """Writes the story's `tocsin.yml` and its rules."""
    (folder / "rules.yml").write_text(RULES)
    (folder / "tocsin.yml").write_text(
        CONFIG.format(
            engine=engine,
            first=first,
            second=second,
            third=third,
            smarthost=smarthost,
            escalate=escalate,
        )
    )


@asynccontextmanager
async def story(
    folder: Path,
    escalate: str = "6s",
    storage: str = "data",
    environment: Mapping[str, str] | None = None,
    together: asyncio.Barrier | None = None,
    output: int | None = None,
    binaries: Path = BIN,
) -> AsyncIterator[Story]:
    """Everything started, the engine found to be up; in each of the stories told `together`."""
    engine = EngineProcess(free_port())
    async with (
        WebhookSink() as first,
        WebhookSink() as second,
        WebhookSink() as third,
        Mailbox() as mail,
    ):
        smarthost = f"127.0.0.1:{mail.port}"
        config_file(folder, engine.url, first.url, second.url, third.url, smarthost, escalate)
        arguments = ("--config.file", "tocsin.yml", "--storage.path", storage, "--no-worker")
        agent = AgentProcess(
            folder, *arguments, environment=environment, output=output, binaries=binaries
        )
        try:
            await asyncio.to_thread(engine.start)
            await asyncio.to_thread(agent.start)
            one = Story(agent, engine, first, second, third, mail)
            await one.engine_seen()
            if together is not None:
                async with asyncio.timeout(TOGETHER_SECONDS):
                    await together.wait()
            yield one
        finally:
            engine.kill()
            agent.kill()


def reason(request: Received) -> str:
    """Why a webhook was called."""
    return str(request.json()["tocsin"]["reason"])


async def until(true: Callable[[], object], within: float) -> None:
    """Until it is true, asked off the loop, because the receivers live on it."""
    deadline = time.monotonic() + within
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.05)
