"""An incident that is answered in Slack, by a real agent and a double of Slack: the page, a button,
the message that changes, and its end; sockets that break, and kills at the worst moments."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.agent_process import AgentProcess
from support.story import until
from support.vendors.slack import APP_TOKEN, BOT_TOKEN, SlackDouble, buttons_of

CONFIG = """\
collect: {{gpu: 0s, processes: 0s, host: 1s}}
evaluation_interval: 1s
engines: [{{url: "http://127.0.0.1:9"}}]
rule_files: [rules.yml]
receivers:
  room:
    type: slack
    token_env: SLACK_TOKEN
    app_token_env: SLACK_APP
    channel: alerts
    api_url: "{api}"
    users: {{U0LI: li}}
contacts:
  li: {{email: li@example.com}}
smtp: {{smarthost: "127.0.0.1:9", tls: none, from: a@example.com}}
policies:
  P0:
    steps:
    - {{notify: [{{receiver: room}}], escalate_after: 10m}}
"""
RULES = """\
groups:
- name: g
  rules:
  - {alert: Down, expr: vector(1), labels: {severity: P0}, annotations: {summary: "It is down"}}
"""


@asynccontextmanager
async def paged(folder: Path, slack: SlackDouble) -> AsyncIterator[tuple[AgentProcess, str]]:
    """An agent that has paged, and the time of the message."""
    (folder / "rules.yml").write_text(RULES)
    (folder / "tocsin.yml").write_text(CONFIG.format(api=slack.api_url))
    agent = AgentProcess(
        folder,
        *("--config.file", "tocsin.yml", "--storage.path", "data"),
        environment={"SLACK_TOKEN": BOT_TOKEN, "SLACK_APP": APP_TOKEN},
    )
    await asyncio.to_thread(agent.start)
    try:
        await until(lambda: slack.messages, 30)
        await slack.connected(within=30)
        yield agent, next(iter(slack.messages))
    finally:
        await asyncio.to_thread(agent.kill)


async def incident(agent: AgentProcess) -> Any:
    return await asyncio.to_thread(agent.get, "/api/v1/incidents/1")


async def answers_of_li(agent: AgentProcess) -> list[str]:
    history = (await incident(agent))["history"]
    by_slack = [one for one in history if one["data"].get("via") == "slack room"]
    return [one["event"] for one in by_slack if one["event"] in ("acked", "unacked")]


async def test_from_the_page_to_the_end_in_slack(tmp_path: Path) -> None:
    async with SlackDouble() as slack:
        async with paged(tmp_path, slack) as (agent, ts):
            assert slack.messages[ts]["text"].startswith("[P0] ")
            await slack.press(ts, "ack", "U0MALLORY")
            await until(lambda: len(slack.whispers) == 1, 10)
            assert (await incident(agent))["state"] == "TRIGGERED"

            envelope = await slack.press(ts, "ack", at="1767225701.1")
            await slack.until(lambda: envelope in slack.acknowledged)
            story = await incident(agent)
            assert (story["state"], story["owner"]) == ("ACKED", "li")
            acked = [entry for entry in story["history"] if entry["event"] == "acked"]
            assert [(entry["actor"], entry["data"]["via"]) for entry in acked] == [
                ("li", "slack room")
            ]
            await until(lambda: slack.messages[ts]["text"].startswith("[P0 acknowledged]"), 20)
            assert list(buttons_of(slack.messages[ts])) == ["resolve", "unack"]
            assert slack.whispers[-1]["text"] == "Acknowledged. You have it."

            await slack.sockets[-1].close()  # the agent comes again by itself
            await slack.connected(2, within=30)
            envelope = await slack.press(ts, "resolve", at="1767225702.1")
            again = await slack.press(ts, "resolve", at="1767225702.1")
            await slack.until(lambda: {envelope, again} <= set(slack.acknowledged))
            assert (await incident(agent))["state"] == "RESOLVED"
            await until(lambda: "ack" not in buttons_of(slack.messages[ts]), 20)
            assert slack.complaints == []
            closed = [one for one in (await incident(agent))["history"] if one["actor"] == "li"]
            assert [one["event"] for one in closed].count("closed_by_hand") <= 1
    assert BOT_TOKEN not in agent.said() and APP_TOKEN not in agent.said()


async def test_a_kill_between_press_and_record_loses_no_answer_in_silence(tmp_path: Path) -> None:
    """Either Slack was told that it is done, and then it is; or it was not, and shows an error."""
    async with SlackDouble() as slack:
        async with paged(tmp_path, slack) as (agent, ts):
            value = buttons_of(slack.messages[ts])["ack"]["value"]
            for number, pause_s in enumerate((0.002, 0.01, 0.05)):
                at, verb = f"17672257{number:02}.1", ("ack", "unack", "ack")[number]
                envelope = await slack.press(ts, verb, at=at, value=value)
                await asyncio.sleep(pause_s)
                await asyncio.to_thread(agent.kill)
                confirmed = envelope in slack.acknowledged
                opened = len(slack.sockets)
                await asyncio.to_thread(agent.start)
                await slack.connected(opened + 1, within=60)
                done = await answers_of_li(agent)
                assert len(done) == number + 1 or (not confirmed and len(done) == number)
                # pressed again by one who saw the error: the same press is done once
                again = await slack.press(ts, verb, at=at, value=value)
                await slack.until(lambda sent=again: sent in slack.acknowledged)
                assert len(await answers_of_li(agent)) == number + 1
            assert await answers_of_li(agent) == ["acked", "unacked", "acked"]
