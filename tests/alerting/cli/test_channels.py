"""`alertctl channels test`: the conversation is shown, through the agent and without one."""

import asyncio
from pathlib import Path

from support.agent_process import AgentProcess
from support.command_line import Ended, alertctl
from support.mailbox import Mailbox
from support.webhook_sink import Answer, WebhookSink


async def _test(directory: Path, receiver: str, *more: str) -> Ended:
    path = directory / "tocsin.yml"
    path.write_text(f"contacts: {{li: {{email: li@example.com}}}}\nreceivers:\n  it: {receiver}\n")
    words = ("channels", "test", "it", "--config.file", str(path), *more)
    return await asyncio.to_thread(alertctl, *words)


async def test_a_webhook_gets_a_message_and_its_secrets_are_masked(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2")
    async with WebhookSink() as sink:
        (tmp_path / "url").write_text(f"{sink.url}?key=topsecret")
        ended = await _test(
            tmp_path, "{type: webhook, url_file: url, bearer_token_file: token, max_alerts: 1}"
        )
    assert (ended.code, ended.err) == (0, "")
    (request,) = sink.requests
    assert request.json()["alerts"][0]["labels"]["alertname"] == "TocsinChannelTest"
    assert request.headers["authorization"] == "Bearer hunter2"
    assert ended.out.splitlines()[-1].startswith("it: delivered")
    assert len(ended.out.splitlines()) > 2
    assert "hunter2" not in ended.out and "topsecret" not in ended.out


async def test_a_webhook_that_refuses(tmp_path: Path) -> None:
    async with WebhookSink(usual=Answer(403, body=b"not you")) as sink:
        ended = await _test(tmp_path, f'{{type: webhook, url: "{sink.url}"}}')
    assert ended.code == 1
    assert "403" in ended.err
    assert ended.err.startswith("alertctl: it: not delivered: ")
    assert "not you" in ended.out + ended.err


async def test_a_mail_to_the_receiver_and_to_a_contact(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    async with Mailbox(users={"alerts": "hunter2"}) as mailbox:
        receiver = (
            f'{{type: email, smarthost: "{mailbox.smarthost}", from: a@example.com, tls: none, '
            "to: [ops@example.com], username: alerts, password_file: password}"
        )
        to_ops = await _test(tmp_path, receiver)
        to_li = await _test(tmp_path, receiver, "--contact", "li")
        to_nobody = await _test(tmp_path, receiver, "--contact", "wang")
    assert (to_ops.code, to_li.code, to_nobody.code) == (0, 0, 1), to_ops
    assert [letter.to for letter in mailbox.messages] == [("ops@example.com",), ("li@example.com",)]
    assert "> AUTH as alerts\n" in to_ops.out
    assert "hunter2" not in to_ops.out
    assert "contact wang has no e-mail address" in to_nobody.err


async def test_nobody_listens(tmp_path: Path) -> None:
    ended = await _test(tmp_path, '{type: webhook, url: "http://127.0.0.1:9/"}')
    assert ended.code == 1
    assert ended.err.startswith("alertctl: it: not delivered: ")


async def test_what_is_not_configured(tmp_path: Path) -> None:
    path = tmp_path / "tocsin.yml"
    path.write_text("receivers: {hook: {type: webhook, url: 'http://127.0.0.1:9/'}}")
    ended = alertctl("channels", "test", "hok", "--config.file", str(path))
    assert (ended.code, ended.err) == (
        1,
        'alertctl: no receiver is called "hok"; did you mean "hook"?\n',
    )
    ended = alertctl("channels", "test", "hook", "--config.file", str(tmp_path / "none"))
    assert ended.code == 1
    assert "cannot read this file" in ended.err


def test_through_the_agent(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "channels", "test", "log")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == "log: delivered logged"
    assert "TocsinChannelTest" in agent.said()


def test_the_agent_has_no_such_receiver(agent: AgentProcess) -> None:
    for name in ("lgo", "a/b", "?x", "%2e%2e", "日志"):
        ended = alertctl("--url", agent.url, "channels", "test", name)
        assert ended.code == 1, name
        assert ended.err.startswith(f'alertctl: no receiver is called "{name}"')
