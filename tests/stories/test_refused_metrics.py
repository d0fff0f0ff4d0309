"""An engine that begins to refuse its metrics is up, and what was wrong with it is not over."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from support.agent_process import AgentProcess, free_port
from support.story import until
from support.webhook_sink import Answer, Received, WebhookSink

RULES = """\
groups:
- name: story
  rules:
  - {alert: EngineDown, expr: llm_engine_up == 0, labels: {severity: P0}}
  - {alert: EngineBusy, expr: llm_num_requests_running > 0, labels: {severity: P0}}
"""
CONFIG = """\
collect: {{host: 1s, engines: 1s, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: [rules.yml]
engines: [{{url: "http://127.0.0.1:{port}"}}]
receivers: {{hook: {{type: webhook, url: "{hook}"}}}}
"""
PAGE = 'vllm:num_requests_running{{model_name="m"}} {}\n'
REFUSED = Answer(401, body=b'{"error":{"message":"Invalid API Key","type":"authentication_error"}}')


def _page(running: int) -> Answer:
    return Answer(body=PAGE.format(running).encode())


def _told(requests: Sequence[Received]) -> list[tuple[str, str]]:
    bodies = [request.json() for request in requests]
    return [(body["commonLabels"]["alertname"], body["status"]) for body in bodies]


def _up(agent: AgentProcess) -> list[str]:
    found = agent.get("/api/v1/query?query=llm_engine_up")["result"]
    return [one["value"][1] for one in found]


async def test_refused_is_up_and_what_was_wrong_is_not_over(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "rules.yml").write_text(RULES)
    async with WebhookSink() as hook:
        (tmp_path / "tocsin.yml").write_text(CONFIG.format(port=port, hook=hook.url))
        agent = AgentProcess(tmp_path, "--config.file=tocsin.yml")
        try:
            async with WebhookSink(usual=_page(3), port=port) as engine:
                await asyncio.to_thread(agent.start)
                await hook.wait_for(1, within=20)
                engine.usual = REFUSED
                asked = len(engine.requests)
                await engine.wait_for(asked + 12, within=20)  # some rounds and evaluations
                assert _told(hook.requests) == [("EngineBusy", "firing")]
                assert _up(agent) == ["1"]
            await hook.wait_for(2, within=20)
            assert _told(hook.requests)[1] == ("EngineDown", "firing")
            async with WebhookSink(usual=REFUSED, port=port) as engine:
                await hook.wait_for(3, within=20)
                assert _told(hook.requests)[2] == ("EngineDown", "resolved")
                engine.usual = _page(0)
                await hook.wait_for(4, within=20)
                assert _told(hook.requests)[3] == ("EngineBusy", "resolved")
            await until(lambda: _up(agent) == ["0"], 20)
        finally:
            agent.kill()
