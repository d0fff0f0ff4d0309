"""An alert about what the agent itself counts stays open when the agent is killed, and renamed."""

import asyncio
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

from support.agent_process import AgentProcess
from support.story import reason, until
from support.webhook_sink import WebhookSink

RULES = Path(__file__).parents[2] / "rules" / "host.yml"
CONFIG = """\
instance: {name}
collect: {{host: 0s, engines: 0s, gpu: 0s, processes: 1s}}
evaluation_interval: 1s
rule_files: [host.yml]
processes: [{{name: batch, exe: batch}}]
receivers: {{hook: {{type: webhook, url: "{url}"}}}}
policies: {{P2: {{group: {{wait: 0s}}, steps: [{{notify: [{{receiver: hook}}]}}]}}}}
"""


async def test_a_process_that_is_gone_is_gone_after_a_restart(tmp_path: Path) -> None:
    """It used no CPU time that counts, is killed, and comes back in the end."""
    shutil.copy("/bin/sleep", tmp_path / "batch")
    rules = re.sub("for: 1m$", "for: 0s", RULES.read_text(), flags=re.M)
    # Engines that come and go on this machine are another matter.
    rules = rules.replace("num_procs == 0", 'num_procs{groupname="batch"} == 0')
    (tmp_path / "host.yml").write_text(rules)
    async with WebhookSink() as sink:
        agent = AgentProcess(tmp_path, "--config.file", "tocsin.yml", "--no-worker")
        batch = _batch(tmp_path)
        try:
            await _start(agent, "first", sink.url)
            await until(partial(_is, agent, {"first": 1}), 20)
            batch.kill()
            batch.wait()
            (page,) = await sink.wait_for(1, within=20)
            assert reason(page) == "opened"
            for name in ("first", "second"):
                await asyncio.sleep(2)  # what was sampled is written within a second or so
                agent.kill()
                await _start(agent, name, sink.url)
                await until(partial(_is, agent, {name: 0}), 20)
                await _evaluated(agent, 5)
                found = agent.get("/api/v1/incidents")["incidents"]
                assert [one["state"] for one in found] == ["TRIGGERED"], found
                assert found[0]["labels"]["instance"] == name
                assert [reason(one) for one in sink.requests] == ["opened"]
            batch = _batch(tmp_path)
            both = await sink.wait_for(2, within=20)
            assert reason(both[1]) == "resolved"
        finally:
            batch.kill()
            batch.wait()
            agent.kill()


async def _start(agent: AgentProcess, name: str, url: str) -> None:
    (agent.folder / "tocsin.yml").write_text(CONFIG.format(name=name, url=url))
    await asyncio.to_thread(agent.start)


def _batch(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([folder / "batch", "600"])


def _is(agent: AgentProcess, wanted: dict[str, int]) -> bool:
    """Whether these are the processes of the group, by machine."""
    query = 'namedprocess_namegroup_num_procs{groupname="batch"}'
    found = agent.get(f"/api/v1/query?query={query}")["result"]
    return {one["metric"]["instance"]: int(one["value"][1]) for one in found} == wanted


async def _evaluated(agent: AgentProcess, times: int) -> None:
    def evaluations() -> float:
        text = agent.text("/metrics")
        return sum(map(float, re.findall(r"^tocsin_rule_evaluations_total{.*} (.*)$", text, re.M)))

    before = await asyncio.to_thread(evaluations)
    rules = RULES.read_text().count("alert:")
    await until(lambda: evaluations() >= before + times * rules, 30)
