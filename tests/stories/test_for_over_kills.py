"""An alert waits for its `for` while the agent is killed again and again: it fires all the same."""

import asyncio
import time
from pathlib import Path

from support.agent_process import AgentProcess
from support.story import until
from support.webhook_sink import WebhookSink

FOR_SECONDS = 9
ALIVE_SECONDS = 3.0  # from ready to the kill: less than the journal's rhythm of 10 s

RULES = f"""\
groups:
- name: story
  rules:
  - alert: Waits
    expr: tocsin_build_info == 1
    for: {FOR_SECONDS}s
    labels: {{severity: P0}}
"""

CONFIG = """\
collect: {{host: 1s, engines: 0s, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: [rules.yml]
worker: {{enabled: false}}
receivers: {{hook: {{type: webhook, url: "{hook}"}}}}
policies: {{P0: {{group: {{wait: 0s}}, steps: [{{notify: [{{receiver: hook}}]}}]}}}}
storage: {{path: data}}
"""


async def test_each_kill_costs_one_evaluation_of_the_time_that_an_alert_waits(
    tmp_path: Path,
) -> None:
    async with WebhookSink() as hook:
        (tmp_path / "rules.yml").write_text(RULES)
        (tmp_path / "tocsin.yml").write_text(CONFIG.format(hook=hook.url))
        agent = AgentProcess(tmp_path, "--config.file=tocsin.yml")

        def waits() -> bool:
            found = agent.get("/api/v1/alerts")["alerts"]
            return any(one["state"] == "pending" for one in found)

        alive = 0.0
        kills = 0
        try:
            while not hook.requests:
                await asyncio.to_thread(agent.start)
                if not hook.requests:
                    await until(waits, 10)
                began = time.monotonic()
                while not hook.requests and time.monotonic() - began < ALIVE_SECONDS:
                    await asyncio.sleep(0.05)
                alive += time.monotonic() - began
                if not hook.requests:
                    agent.kill()
                    kills += 1
                assert alive < FOR_SECONDS + 1.5 * (kills + 1), f"{kills} kills"
        finally:
            agent.kill()
        assert kills >= 2
        assert alive > FOR_SECONDS - kills - 1  # and an outage does not count as waiting
