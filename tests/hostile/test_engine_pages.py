"""Whatever stands behind an engine's port, a fault elsewhere is paged within seconds.

One real agent watches two engines: a good one, which dies in each trial, and one that answers as
badly as it can. Times and memory are bounded generously: a machine under tests is a busy one.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from support.agent_process import AgentProcess, free_port
from support.engine_process import EngineProcess
from support.hostile_engine import ANSWERS, HostileEngine
from support.other_user import only_root, served_by_another_user
from support.story import until
from support.webhook_sink import WebhookSink

PAGED_SECONDS = 5.0  # 3 on a machine that does nothing else
MOST_BYTES = 700 << 20
TRIALS = [mode for mode in ANSWERS if mode not in ("plain", "short braces", "a web page")]
ROUNDS = 1  # of the hostile engine, before the fault

CONFIG = """\
collect: {{host: 5s, engines: 1s, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: [rules.yml]
engines: [{{url: "http://127.0.0.1:{good}"}}, {{url: "http://127.0.0.1:{bad}"}}]
receivers: {{hook: {{type: webhook, url: "{hook}"}}}}
flap: {{enabled: false}}  # the good engine dies in each trial
"""
RULES = """\
groups:
- name: hostile
  rules:
  - {{alert: EngineDown, expr: 'llm_engine_up{{target="127.0.0.1:{good}"}} == 0',
     labels: {{severity: P0}}}}
"""


@dataclass
class Trial:
    agent: AgentProcess
    good: EngineProcess
    bad: HostileEngine
    hook: WebhookSink

    def number(self, query: str) -> float:
        found = self.agent.get(f"/api/v1/query?query={query}")["result"]
        return float(found[0]["value"][1]) if found else -1.0

    async def good_is_up(self) -> None:
        up = f'llm_engine_up{{target="127.0.0.1:{self.good.port}"}}'
        await until(lambda: self.number(up) == 1, 20)

    async def some_rounds(self) -> None:
        """Until the hostile engine has been read some times, whatever came of it."""
        target = f"127.0.0.1:{self.bad.port}"
        rounds = f'tocsin_sampling_rounds_total{{target="{target}"}}'
        before = await asyncio.to_thread(self.metric, rounds)
        await until(lambda: self.metric(rounds) >= before + ROUNDS, 20)

    def metric(self, start: str) -> float:
        lines = self.agent.text("/metrics?collect[]=tocsin").splitlines()
        name, _, label = start.partition("{")
        label = label.rstrip("}")
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith(name) and label in line
        )

    async def paged_after(self) -> float:
        """Seconds from the good engine's death to the page."""
        told = len(self.hook.requests)
        began = time.monotonic()
        await asyncio.to_thread(self.good.kill)
        await self.hook.wait_for(told + 1, within=30)
        seconds = time.monotonic() - began
        assert self.hook.requests[told].json()["status"] == "firing"
        await asyncio.to_thread(self.good.start)
        await self.hook.wait_for(told + 2, within=30)
        assert self.hook.requests[told + 1].json()["status"] == "resolved"
        return seconds

    def peak_bytes(self) -> int:
        assert self.agent.process is not None
        status = Path(f"/proc/{self.agent.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) << 10


@asynccontextmanager
async def trial(folder: Path) -> AsyncIterator[Trial]:
    good, bad = free_port(), free_port()
    (folder / "rules.yml").write_text(RULES.format(good=good))
    async with WebhookSink() as hook:
        (folder / "tocsin.yml").write_text(CONFIG.format(good=good, bad=bad, hook=hook.url))
        agent = AgentProcess(folder, "--config.file=tocsin.yml")
        engine = EngineProcess(good)
        try:
            with HostileEngine(bad, folder) as hostile:
                await asyncio.to_thread(engine.start)
                await asyncio.to_thread(agent.start)
                one = Trial(agent, engine, hostile, hook)
                await one.good_is_up()
                yield one
        finally:
            engine.kill()
            agent.kill()


async def test_no_answer_of_an_engine_silences_the_pager(tmp_path: Path) -> None:
    async with trial(tmp_path) as one:
        slow: dict[str, float] = {}
        for mode in TRIALS:
            one.bad.turn(mode)
            await one.some_rounds()
            seconds = await one.paged_after()
            lag = await asyncio.to_thread(one.metric, "tocsin_loop_lag_seconds")
            print(
                f"{mode}: paged in {seconds:.2f} s, lag {lag:.3f} s, {one.peak_bytes() >> 20} MiB"
            )
            if seconds > PAGED_SECONDS:
                slow[mode] = seconds
        assert slow == {}
        assert one.peak_bytes() < MOST_BYTES
        blocked = await asyncio.to_thread(one.metric, "tocsin_loop_blocked_total")
        assert blocked <= len(TRIALS)  # seconds of standing still, one each: it was minutes


@only_root
async def test_what_another_user_answers_on_a_usual_port_is_not_read(tmp_path: Path) -> None:
    port = free_port()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nvllm:x{} 1\n"
    with served_by_another_user(port, answer):
        agent = AgentProcess(tmp_path, "--no-worker", f"--engine.port={port}")
        try:
            await asyncio.to_thread(agent.start)
            await until(lambda: "look at" in agent.said(), 20)
            assert agent.status()["engines"] == []
            line = f"not read http://127.0.0.1:{port} belongs to user nobody; to watch it: "
            assert line + "discovery: {allow_users: [nobody]}" in agent.said()
            agent.kill()
            (tmp_path / "t.yml").write_text("discovery: {allow_users: [nobody]}\n")
            allowed = ("--no-worker", f"--engine.port={port}", "--config.file=t.yml")
            agent = AgentProcess(tmp_path, *allowed)
            await asyncio.to_thread(agent.start)
            assert agent.status()["engines"] == [f"http://127.0.0.1:{port}"]
        finally:
            agent.kill()
