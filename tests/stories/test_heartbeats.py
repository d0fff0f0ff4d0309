"""Real agents and those who watch them from outside: a sink, and each other."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from support.agent_process import AgentProcess
from support.webhook_sink import WebhookSink


async def test_the_ping_comes_while_it_runs_and_ends_with_it(tmp_path: Path) -> None:
    async with WebhookSink() as outside:
        (tmp_path / "heartbeat.url").write_text(
            f"http://127.0.0.1:{outside.port}/ping/5ecre7-k3y\n"
        )
        (tmp_path / "tocsin.yml").write_text(
            "worker: {enabled: false}\n"
            f"receivers: {{hook: {{type: webhook, url: 'http://127.0.0.1:{outside.port}/hook'}}}}\n"
            "heartbeats: {out: [{url_file: heartbeat.url, every: 200ms}]}\n"
        )
        agent = AgentProcess(tmp_path, "--config.file=tocsin.yml")
        await asyncio.to_thread(agent.start)
        try:
            await outside.wait_for(3, within=60)
            healthy, metrics = await asyncio.to_thread(_pages, agent)
            checked = await asyncio.to_thread(agent.alertctl, "check", str(tmp_path / "tocsin.yml"))
        finally:
            agent.kill()
        assert healthy == "Tocsin is Healthy.\n" and "tocsin_heartbeats_sent_total" in metrics
        assert {request.path for request in outside.requests} == {"/ping/5ecre7-k3y"}
        assert "5ecre7" not in agent.said() + checked.stdout + checked.stderr + metrics
        assert "if this machine dies" not in agent.said() + checked.stderr
        assert checked.returncode == 0, checked.stderr


def _pages(agent: AgentProcess) -> tuple[str, str]:
    return agent.text("/-/healthy"), agent.text("/metrics")


def _pair(folder: Path, sink: int) -> tuple[AgentProcess, AgentProcess]:
    """Two agents that each expect the other's heartbeat, every 0.2 s and with 8 s of grace."""
    agents = []
    for name in "ab":
        (folder / name).mkdir()
        agents.append(AgentProcess(folder / name, "--config.file=tocsin.yml"))
    for agent, own, other, to in zip(agents, "ab", "ba", reversed(agents), strict=True):
        (agent.folder / "own.token").write_text(f"{own}-to-{other}-{'5ecre7' * 4}")
        (agent.folder / "other.token").write_text(f"{other}-to-{own}-{'5ecre7' * 4}")
        (agent.folder / "tocsin.yml").write_text(
            "worker: {enabled: false}\n"
            f"receivers: {{hook: {{type: webhook, url: 'http://127.0.0.1:{sink}/{own}'}}}}\n"
            f"heartbeats:\n"
            f"  out: [{{url: '{to.url}/api/v1/heartbeat/tocsin-{own}', every: 200ms,"
            " bearer_token_file: own.token}]\n"
            f"  expected: {{tocsin-{other}: {{every: 200ms, grace: 8s, severity: P0,"
            " token_file: other.token}}\n"
        )
    return agents[0], agents[1]


def _shown(agent: AgentProcess) -> dict[str, object]:
    (row,) = agent.get("/api/v1/heartbeats")["heartbeats"]
    return {"state": row["state"], "incident": row["incident"]}


async def test_of_two_agents_each_pages_when_the_other_is_killed(tmp_path: Path) -> None:
    async with WebhookSink() as outside:
        a, b = _pair(tmp_path, outside.port)
        try:
            for agent in (a, b):
                await asyncio.to_thread(agent.start)
            await _until(lambda: _shown(a)["state"] == _shown(b)["state"] == "ok")
            assert "if this machine dies" not in a.said() + b.said()
            assert outside.requests == []

            b.kill()
            await outside.wait_for(1, within=60)
            (page,) = outside.requests
            (alert,) = json.loads(page.body)["alerts"]
            assert (page.path, alert["labels"]["heartbeat"]) == ("/a", "tocsin-b")
            assert alert["annotations"]["summary"] == 'Heartbeat "tocsin-b" is missing'
            assert _shown(a) == {"state": "missing", "incident": 1}

            a.kill()  # a restart of the one that watches ends nothing, and pages nobody again
            await asyncio.to_thread(a.start)
            assert _shown(a) == {"state": "missing", "incident": 1}
            await asyncio.to_thread(b.start)  # was down as long as a: nobody is missing there
            # one that the kill left unrecorded comes twice, with the same key
            await _until(lambda: len(_messages(outside)) == 2)
            await _until(lambda: _shown(a)["state"] == _shown(b)["state"] == "ok")
            assert _messages(outside) == [("/a", "firing"), ("/a", "resolved")]
            assert "5ecre7" not in a.said() + b.said()
        finally:
            for agent in (a, b):
                agent.kill()


def _messages(sink: WebhookSink) -> list[tuple[str, str]]:
    """Path and status of each message, once."""
    bodies = [(one.path, one.json()) for one in sink.requests]
    by_key = {body["tocsin"]["key"]: (path, body["status"]) for path, body in bodies}
    return list(by_key.values())


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.05)
