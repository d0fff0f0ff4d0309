"""Incidents as people see them and answer them, on a real agent."""

import json

from support.agent_process import AgentProcess
from support.command_line import alertctl
from support.webhook_sink import Answer, WebhookSink


def test_the_list(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "incidents")
    header, row = ended.out.splitlines()
    assert header.split() == ["ID", "SEVERITY", "STATE", "WHAT", "OPENED", "OWNER", "MUTED", "BY"]
    assert row.split()[:2] == ["#1", "P1"]
    assert "AlwaysFiring" in row


def test_the_list_for_programs(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "incidents", "--all", "-o", "json")
    (incident,) = json.loads(ended.out)["incidents"]
    assert incident["number"] == 1
    assert incident["severity"] == "P1"
    assert incident["alerts"][0]["labels"]["place"] == "here"


def test_one_incident_with_its_history(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "incidents", "1")
    assert ended.out.startswith("#1 [P1] ")
    assert "summary: It fires at 42." in ended.out
    assert "opened" in ended.out
    for_programs = alertctl("--url", agent.url, "incidents", "1", "-o", "json")
    assert {"history", "timers", "messages"} <= json.loads(for_programs.out).keys()


def test_an_incident_that_is_not_there(agent: AgentProcess) -> None:
    for words in (("incidents", "99"), ("ack", "99"), ("resolve", "99")):
        ended = alertctl("--url", agent.url, *words)
        assert ended.code == 1, words
        assert "99" in ended.err


def test_ack_and_resolve(agent: AgentProcess) -> None:
    acked = alertctl("--url", agent.url, "ack", "1", "--by", "li", "--note", "on it")
    assert (acked.code, acked.err) == (0, "")
    assert acked.out.endswith(": ACKED, owned by li\n")
    history = json.loads(alertctl("--url", agent.url, "incidents", "1", "-o", "json").out)
    assert [e["actor"] for e in history["history"] if e["event"] == "acked"] == ["li"]
    resolved = alertctl("--url", agent.url, "resolve", "1", "--by", "li", "--false-positive")
    assert resolved.code == 0
    assert "RESOLVED" in resolved.out or "CLOSED" in resolved.out


async def test_what_would_steer_the_terminal_is_not_printed() -> None:
    import asyncio

    one = {
        "number": 1,
        "severity": "P0",
        "state": "TRIGGERED",
        "title": "evil\x1b[2J\nname",
        "opened_at_ms": 0,
        "owner": "",
        "muted_by": [],
    }
    body = json.dumps({"status": "success", "data": {"incidents": [one]}}).encode()
    async with WebhookSink(usual=Answer(body=body)) as sink:
        url = f"http://127.0.0.1:{sink.port}"
        ended = await asyncio.to_thread(alertctl, "--url", url, "incidents")
    assert "\x1b" not in ended.out
    assert len(ended.out.splitlines()) == 2
