"""Whether the agent is ready, as an exit code."""

import asyncio

import pytest

from support.agent_process import AgentProcess
from support.command_line import alertctl
from support.webhook_sink import Answer, WebhookSink


def test_an_agent_that_is_ready(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "health")
    assert (ended.code, ended.err) == (0, "")
    assert "ready" in ended.out.lower()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(503, body=b"the first round is not over\n"), "the first round is not over"),
        (Answer(404, body=b""), "HTTP 404"),
        (Answer(500, body=b"<html>\n" + b"x" * 100_000), "<html>"),
    ],
)
async def test_an_agent_that_is_not(answer: Answer, said: str) -> None:
    async with WebhookSink(usual=answer) as sink:
        url = f"http://127.0.0.1:{sink.port}"
        ended = await asyncio.to_thread(alertctl, "--url", url, "health")
    assert (ended.code, ended.err) == (1, f"alertctl: {said}\n")
