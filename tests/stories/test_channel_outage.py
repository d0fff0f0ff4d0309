"""A real agent under many incidents while two of its receivers are down: nothing is lost, others do
not wait, the fallback has what is urgent in time, and at the return there is one message each."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from support.agent_process import AgentProcess
from support.webhook_sink import Answer, Received, WebhookSink

CONFIG = """
collect: {{host: 0s, gpu: 0s, engines: 0s, processes: 0s}}
rule_files: []
group: {{by: [alertname, serial]}}
storm: {{incidents: 0}}
resolve_timeout: 12h
channel_broken: {{enabled: false}}
receivers:
  chat: {{type: webhook, url: "{chat}", timeout: 2s, deliver_within: {within}s, fallback: sms}}
  robot: {{type: webhook, url: "{robot}", timeout: 2s}}
  sms: {{type: webhook, url: "{sms}", timeout: 2s}}
  hook: {{type: webhook, url: "{hook}", timeout: 2s}}
policies:
  P0: {{steps: [{{notify: [{{receiver: chat}}, {{receiver: hook}}]}}]}}
  P2: {{group: {{wait: 0s}}, steps: [{{notify: [{{receiver: robot}}, {{receiver: hook}}]}}]}}
"""
WITHIN = 5  # seconds
AT_ONCE, SOON = 5.0, 5.0  # what a busy machine may add
PARTS = 10  # in which the incidents open

Heard = dict[str, list[tuple[float, str]]]


class OutageStory:
    def __init__(self, incidents: int, seconds: float) -> None:
        self.incidents, self.seconds = incidents, seconds
        self.posted: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.wrong: list[str] = []

    async def tell(self, folder: Path) -> None:
        async with (
            WebhookSink(usual=Answer(503)) as chat,
            WebhookSink(usual=Answer(503)) as robot,
            WebhookSink() as sms,
            WebhookSink() as hook,
        ):
            sinks = {"chat": chat, "robot": robot, "sms": sms, "hook": hook}
            urls = {name: sink.url for name, sink in sinks.items()}
            (folder / "tocsin.yml").write_text(CONFIG.format(**urls, within=WITHIN))
            agent = AgentProcess(folder, "--config.file=tocsin.yml", "--no-worker")
            await asyncio.to_thread(agent.start)
            try:
                await self._outage(agent.url)
                before = len(chat.requests), len(robot.requests)
                chat.usual = robot.usual = Answer()
                await self._drained(agent)
                back = chat.requests[before[0] :], robot.requests[before[1] :]
                self.wrong += self._judged(_heard(sms.requests), _heard(hook.requests), *back)
                if "Traceback" in agent.said():
                    self.wrong.append("a traceback in the log")
            finally:
                agent.kill()

    async def _outage(self, url: str) -> None:
        """They open little by little; every third has ended at the end."""
        names = [f"{'P0' if n % 2 else 'P2'}-{n}" for n in range(self.incidents)]
        size = -(-len(names) // PARTS)
        for start in range(0, len(names), size):
            part = names[start : start + size]
            await asyncio.to_thread(_post, url, part, "")
            self.posted |= dict.fromkeys(part, time.time())
            await asyncio.sleep(self.seconds / PARTS)
        await asyncio.sleep(WITHIN + SOON)
        over = names[::3]
        await asyncio.to_thread(_post, url, over, _now())
        self.ended = dict.fromkeys(over, time.time())

    async def _drained(self, agent: AgentProcess) -> None:
        deadline = time.monotonic() + 720
        while time.monotonic() < deadline:
            found = await asyncio.to_thread(agent.get, "/api/v1/overview")
            if not any(one["waiting"] for one in found["receivers"]):
                return
            await asyncio.sleep(0.5)
        self.wrong.append("messages wait still")

    def _judged(
        self, sms: Heard, hook: Heard, chat: Sequence[Received], robot: Sequence[Received]
    ) -> Iterator[str]:
        for name, at in self.posted.items():
            if not hook[name] or hook[name][0][0] - at > AT_ONCE:
                yield f"{name}: the receiver that is well got {hook[name]}, posted at {at}"
            first = sms[name][0][0] - at if sms[name] else None
            if name.startswith("P0") and (first is None or first > WITHIN + SOON):
                yield f"{name}: the fallback had it after {first} s"
        for back, kind in ((_heard(chat), "P0"), (_heard(robot), "P2")):
            for name in self.posted:
                heard = [reason for _, reason in back[name]]
                expected = ["opened"] if kind == "P2" else []
                expected = ["fired_and_resolved"] if name in self.ended else expected
                if name.startswith(kind) and heard != expected:
                    yield f"{name}: at its return {heard}, not {expected}"


def _heard(requests: Sequence[Received]) -> Heard:
    """By the name of the alert: when, and why."""
    found: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
    for request in requests:
        body: Any = request.json()
        found[body["groupLabels"]["serial"]].append((request.at, body["tocsin"]["reason"]))
    return found


def _post(url: str, names: Sequence[str], ends_at: str) -> None:
    alerts = [
        {"labels": {"alertname": "Outage", "serial": name, "severity": name.partition("-")[0]}}
        for name in names
    ]
    sent = [one | ({"endsAt": ends_at} if ends_at else {}) for one in alerts]
    headers = {"content-type": "application/json"}
    with urlopen(Request(f"{url}/api/v2/alerts", json.dumps(sent).encode(), headers)) as answer:
        assert answer.status == 200


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@pytest.mark.parametrize(
    ("incidents", "seconds"),
    [(30, 5), pytest.param(200, 3600, marks=pytest.mark.long)],
)
async def test_nothing_is_lost_and_each_is_told_once(
    tmp_path: Path, incidents: int, seconds: float
) -> None:
    story = OutageStory(incidents, seconds)
    await story.tell(tmp_path)
    assert story.wrong == []
    assert len(story.posted) == incidents and len(story.ended) == -(-incidents // 3)
