"""A night with Twilio: the telephone rings until somebody answers, and a key acknowledges."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from support.agent_process import AgentProcess
from support.vendors.twilio import ACCOUNT, AUTH_TOKEN, CALLER, KeyPressed, TwilioDouble, spoken_by
from tocsin_alerting.http import httpx

LI, WANG = "+8613800000123", "+4915100000456"
PUBLIC = "https://tocsin.example.com"
CONFIG = """\
collect: {{gpu: 0s, processes: 0s, host: 1s}}
evaluation_interval: 1s
engines: [{{url: "http://127.0.0.1:9"}}]
rule_files: [rules.yml]
external_url: {public}
contacts:
  li: {{phone: "{li}", prefers: [phone, sms]}}
  wang: {{phone: "{wang}"}}
receivers:
  phone: {{type: twilio_voice, account_sid: {account}, auth_token_file: twilio.token,
          from: "{caller}", api_url: "{api}", poll: 20ms, redial: 1s}}
  sms: {{type: twilio_sms, account_sid: {account}, auth_token_file: twilio.token,
        from: "{caller}", api_url: "{api}", poll: 20ms}}
policies:
  P0:
    steps:
    - {{notify: [{{contact: li, via: [phone]}}], escalate_after: 10m}}
    - {{notify: [{{contact: wang}}]}}
"""
RULES = """\
groups:
- name: g
  rules:
  - {alert: Down, expr: vector(1), labels: {severity: P0}, annotations: {summary: "It is down"}}
"""


@asynccontextmanager
async def night(folder: Path, twilio: TwilioDouble) -> AsyncIterator[AgentProcess]:
    (folder / "rules.yml").write_text(RULES)
    (folder / "twilio.token").write_text(AUTH_TOKEN)
    known = {"public": PUBLIC, "li": LI, "wang": WANG, "account": ACCOUNT, "caller": CALLER}
    (folder / "tocsin.yml").write_text(CONFIG.format(api=twilio.api_url, **known))
    agent = AgentProcess(folder, "--config.file", "tocsin.yml", "--storage.path", "data")
    await asyncio.to_thread(agent.start)
    try:
        yield agent
    finally:
        await asyncio.to_thread(agent.kill)
    said = agent.said()
    assert AUTH_TOKEN not in said and LI not in said and "/links/" not in said


async def press(agent: AgentProcess, key: KeyPressed, token: str = AUTH_TOKEN) -> httpx.Response:
    """As Twilio asks: the public address, which a proxy brings to the agent."""
    headers = {**key.headers(token), "Host": "tocsin.example.com"}
    async with httpx.AsyncClient() as client:
        url = key.url.replace(PUBLIC, agent.url)
        return await client.post(url, headers=headers, content=urlencode(key.fields))


async def story_of(agent: AgentProcess) -> dict[str, Any]:
    found: dict[str, Any] = await asyncio.to_thread(agent.get, "/api/v1/incidents/1")
    return found


async def test_busy_then_answered_and_one_acknowledges(tmp_path: Path) -> None:
    async with TwilioDouble("ringing", "busy") as twilio, night(tmp_path, twilio) as agent:
        await twilio.wait_for_made(1)
        twilio.course = ["ringing", "in-progress"]
        first, second = await twilio.wait_for_made(2)
        assert first["To"] == second["To"] == LI
        assert "It is down" in spoken_by(second["Twiml"])[0]
        key = KeyPressed(second, "CA" + "1" * 32)
        assert (await press(agent, key, "a guess")).status_code == 404
        assert (await story_of(agent))["state"] == "TRIGGERED"
        answer = await press(agent, key)
        assert spoken_by(answer.text) == ["Acknowledged. You have it"]
        assert (await press(agent, key)).status_code == 403
        story = await story_of(agent)
        assert (story["state"], story["owner"]) == ("ACKED", "li")
        acked = [entry for entry in story["history"] if entry["event"] == "acked"]
        assert [(entry["actor"], entry["data"]["via"]) for entry in acked] == [("li", "call")]
        assert len(twilio.made) == 2, "nobody else was called"


async def test_who_does_not_answer_twice_gets_an_sms_as_well(tmp_path: Path) -> None:
    async with TwilioDouble("ringing", "no-answer") as twilio:
        twilio.message_course = ["sending", "sent"]
        async with night(tmp_path, twilio) as agent:
            made = await twilio.wait_for_made(3)
            assert [("Twiml" in one, one["To"]) for one in made[:3]] == [
                *((True, LI), (True, LI), (False, LI))
            ]
            assert "It is down (#1)" in made[2]["Body"] and f"{PUBLIC}/links/" in made[2]["Body"]
            story = await story_of(agent)
            events = [entry["event"] for entry in story["history"]]
            assert "next_way" in events and story["state"] == "TRIGGERED"
