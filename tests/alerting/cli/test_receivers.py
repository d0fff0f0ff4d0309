"""`alertctl receivers`: what there is, and test messages, through the agent and without one."""

import asyncio
import json
from pathlib import Path

from support.agent_process import AgentProcess
from support.command_line import Ended, alertctl
from support.mailbox import Mailbox
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.cli.receivers import STATES
from tocsin_alerting.notify.samples import SAMPLE_STATES


async def _test(directory: Path, receiver: str, *more: str) -> Ended:
    path = directory / "tocsin.yml"
    path.write_text(f"contacts: {{li: {{email: li@example.com}}}}\nreceivers:\n  it: {receiver}\n")
    words = ("receivers", "test", "it", "--config.file", str(path), *more)
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
    assert ended.err.startswith("alertctl: it: test message not delivered: ")
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
    assert ended.err.startswith("alertctl: it: test message not delivered: ")


async def test_what_is_not_configured(tmp_path: Path) -> None:
    path = tmp_path / "tocsin.yml"
    path.write_text("receivers: {hook: {type: webhook, url: 'http://127.0.0.1:9/'}}")
    ended = alertctl("receivers", "test", "hok", "--config.file", str(path))
    assert (ended.code, ended.err) == (
        1,
        'alertctl: no receiver is called "hok"; did you mean "hook"?\n',
    )
    ended = alertctl("receivers", "test", "hook", "--config.file", str(tmp_path / "none"))
    assert ended.code == 1
    assert "cannot read this file" in ended.err


def test_through_the_agent(agent: AgentProcess) -> None:
    ended = alertctl("--url", agent.url, "receivers", "test", "log")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == "log: delivered logged"
    agent.wait_until_said("TocsinChannelTest")


def test_the_agent_has_no_such_receiver(agent: AgentProcess) -> None:
    for name in ("lgo", "a/b", "?x", "%2e%2e", "日志"):
        ended = alertctl("--url", agent.url, "receivers", "test", name)
        assert ended.code == 1, name
        assert ended.err.startswith(f'alertctl: no receiver is called "{name}"')


def test_a_test_by_the_agent_counts_as_a_delivery(agent: AgentProcess) -> None:
    alertctl("--url", agent.url, "receivers", "test", "log", "--severity", "P2")
    listed = alertctl("--url", agent.url, "receivers", "-o", "json")
    (log,) = json.loads(listed.out)["receivers"]
    assert log["last_delivered"] is not None
    said = alertctl("--url", agent.url, "log", "--since", "1h")
    assert "notified log (test)" in said.out


def test_they_are_listed_with_what_they_are_for(agent: AgentProcess) -> None:
    listed = alertctl("--url", agent.url, "receivers")
    assert listed.code == 0
    header, *rows = listed.out.splitlines()
    *names, zone = header.split()
    assert names == "RECEIVER TYPE STATE WAITING LAST DELIVERED".split()
    assert zone.startswith("(") and zone.endswith(")")
    assert rows[0].split()[:2] == ["log", "log"]
    assert rows[1] == "     used by P0, P1, P2, P3, P4"
    assert all(len(line) <= 80 for line in listed.out.splitlines())


async def test_one_that_is_gone_says_since_when_and_what_to_do() -> None:
    condition = {"state": "failing", "waiting": 0, "error": "HTTP 410", "last_delivered": None}
    condition |= {"last_failed": "2026-01-01T00:01:00.000Z", "last_error": "HTTP 410"}
    limits: dict[str, object] = {"rate": [], "waits_until": None, "fallback": ""}
    about = {"type": "webhook", "used_by": ["P0"], "contacts": [], **condition, **limits}
    hook = {"name": "hook", **about, "gone_since": "2026-01-01T00:01:00.000Z"}
    body = {"status": "success", "data": {"receivers": [hook], "contacts": []}}
    async with WebhookSink(usual=Answer(200, {}, json.dumps(body).encode())) as agent:
        url = f"http://127.0.0.1:{agent.port}"
        listed = await asyncio.to_thread(alertctl, "--url", url, "receivers")
    assert (listed.code, listed.err) == (0, "")
    shown = " ".join(listed.out.split())
    assert "gone since " in shown and "(HTTP 410): not asked until a test arrives" in shown
    assert all(len(line) <= 80 for line in listed.out.splitlines())


def test_the_former_name_works(agent: AgentProcess) -> None:
    for name in ("channels", "receivers"):
        assert alertctl("--url", agent.url, name, "test", "log").code == 0


SECTIONS = """
contacts: {li: {email: li@example.com}}
receivers:
  hook: {type: webhook, url: "http://u:pass-word-1@127.0.0.1:9/abcdefgh1234", headers: {X-Key: key-of-ours}}
  mail: {type: email, smarthost: "127.0.0.1:9", from: a@example.com, to: [b@example.com], tls: none}
  none: {type: email, smarthost: "127.0.0.1:9", from: a@example.com, tls: none}
  log: {type: log}
  call: {type: twilio_voice, account_sid: AC0123456789abcdef0123456789abcdef, auth_token_env: HOME, from: "+15005550006", to: ["+15005550007"]}
external_url: https://tocsin.example.com
"""  # noqa: E501


def _preview(folder: Path, *words: str) -> Ended:
    path = folder / "tocsin.yml"
    path.write_text(SECTIONS)
    return alertctl("receivers", *words, "--config.file", str(path))


def test_a_preview_shows_what_would_be_sent_and_nothing_listens(tmp_path: Path) -> None:
    shown = _preview(tmp_path, "preview", "hook", "--severity", "P1", "--state", "resolved")
    assert (shown.code, shown.err) == (0, "")
    head, _, text = shown.out.partition("\n\n")
    assert head == "> POST http://127.0.0.1:9\nX-Key: ***\nContent-Type: application/json"
    body = json.loads(text)
    assert (body["status"], body["tocsin"]["severity"]) == ("resolved", "P1")
    assert "pass-word-1" not in shown.out and "key-of-ours" not in shown.out
    assert body["tocsin"]["answerURL"] == "https://tocsin.example.com/links/***"
    assert _preview(tmp_path, "preview", "log").out.startswith("> log\n\nP0 InferenceEngineDown ")


def test_a_preview_of_a_mail_in_chinese_with_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ("preview", "mail", "--state", "acknowledged", "--language", "zh", "--html", str(page))
    shown = _preview(tmp_path, *words)
    assert shown.code == 0
    assert shown.out.startswith("> 127.0.0.1:9 for b@example.com\nFrom: a@example.com\n")
    assert "Subject: [P0 已确认]" in shown.out
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert _preview(tmp_path, "preview", "hook", "--html", str(page)).err == (
        "alertctl: this receiver's messages have no HTML\n"
    )


def test_a_preview_of_nothing(tmp_path: Path) -> None:
    assert _preview(tmp_path, "preview", "none").err == (
        "alertctl: nothing would be sent: the receiver has no e-mail address in the configuration;"
        " add one to its keys, or a contact to the message (--contact)\n"
    )
    assert _preview(tmp_path, "preview", "call", "--state", "resolved").err == (
        "alertctl: nothing would be sent: only pages ring\n"
    )
    called = _preview(tmp_path, "preview", "call")
    assert called.out.startswith("> POST https://api.twilio.com\n") and called.code == 0
    assert _preview(tmp_path, "preview", "hok").err == (
        'alertctl: no receiver is called "hok"; did you mean "hook"?\n'
    )
    both = _preview(tmp_path, "preview", "hook", "--incident", "#42")
    assert (both.code, both.out) == (2, "")


def test_every_state_that_is_offered_can_be_shown(tmp_path: Path) -> None:
    assert STATES == list(SAMPLE_STATES)
    for state in STATES:
        shown = _preview(tmp_path, "preview", "log", "--state", state)
        assert (shown.code, shown.err) == (0, ""), state


async def test_a_test_of_a_severity_and_a_state_is_a_drill(tmp_path: Path) -> None:
    async with WebhookSink() as sink:
        receiver = f'{{type: webhook, url: "{sink.url}"}}'
        sent = await _test(tmp_path, receiver, "--severity", "P0", "--state", "resolved")
        dry = await _test(tmp_path, receiver, "--severity", "P0", "--dry-run")
    assert (sent.code, dry.code) == (0, 0)
    (request,) = sink.requests
    told = request.json()
    assert (told["status"], told["tocsin"]["severity"]) == ("resolved", "P0")
    assert told["alerts"][0]["labels"]["alertname"] == "TocsinChannelTest"
    assert json.loads(dry.out.partition("\n\n")[2])["tocsin"]["reason"] == "test"


def test_a_preview_by_the_agent(agent: AgentProcess) -> None:
    for name in ("channels", "receivers"):
        shown = alertctl("--url", agent.url, name, "preview", "log", "--state", "repeat")
        assert (shown.code, shown.err) == (0, "")
        assert shown.out.startswith("> log\n\nP0 InferenceEngineDown")
        listed = alertctl("--url", agent.url, name, "list")
        assert listed.out.startswith("RECEIVER")
    as_data = alertctl("--url", agent.url, "receivers", "preview", "log", "-o", "json")
    assert json.loads(as_data.out)["messages"][0]["to"] == "log"
    dry = alertctl("--url", agent.url, "receivers", "test", "log", "--dry-run")
    assert "TocsinChannelTest" in dry.out
    assert "InferenceEngineDown" not in agent.said()


def test_a_preview_of_an_incident_of_the_agent(agent: AgentProcess) -> None:
    begun = alertctl("--url", agent.url, "drill", "P4", "--no-wait", "-o", "json")
    number = str(json.loads(begun.out)["incident"])
    shown = alertctl("--url", agent.url, "receivers", "preview", "log", "--incident", f"#{number}")
    assert (shown.code, shown.err) == (0, "")
    assert f"(#{number})" in shown.out and "P4" in shown.out
    over = ("--incident", number, "--state", "resolved")
    assert "resolved" in alertctl("--url", agent.url, "receivers", "preview", "log", *over).out
    other = alertctl("--url", agent.url, "receivers", "preview", "log", "--incident", "987")
    assert other.err == "alertctl: no open incident has the number 987\n"


async def test_only_its_own_secrets_are_needed_and_those_of_its_fallbacks(tmp_path: Path) -> None:
    path = tmp_path / "tocsin.yml"
    words = ("receivers", "test", "it", "--config.file", str(path))
    async with WebhookSink() as sink:
        url = f'type: webhook, url: "{sink.url}"'
        path.write_text(
            "smtp: {smarthost: 'mail.example.com:587', from: a@example.com, username: a,"
            " password_file: none-smtp}\n"
            "contacts: {li: {email: li@example.com}}\n"
            "engines: [{url: 'http://127.0.0.1:9', bearer_token_file: none-engine}]\n"
            "heartbeats: {out: [{url_env: NONE_HEARTBEAT, every: 1m}]}\n"
            "receivers:\n"
            f"  it: {{{url}, fallback: second}}\n"
            f"  second: {{{url}, fallback: third}}\n"
            f"  third: {{{url}, bearer_token_file: none-third}}\n"
            f"  other: {{{url}, bearer_token_file: none-other}}\n"
        )
        of_a_fallback = await asyncio.to_thread(alertctl, *words)
        (tmp_path / "none-third").write_text("hunter2")
        sent = await asyncio.to_thread(alertctl, *words)
        shown = await asyncio.to_thread(alertctl, "receivers", "preview", *words[2:])
        other = await asyncio.to_thread(alertctl, *words[:2], "other", *words[3:])
        mail = await asyncio.to_thread(alertctl, *words[:2], "mail", *words[3:])
    assert of_a_fallback.code == 1 and len(of_a_fallback.err.splitlines()) == 1
    assert "none-third" in of_a_fallback.err
    assert (sent.code, sent.err, len(sink.requests)) == (0, "", 1)
    assert (shown.code, shown.err) == (0, "")
    assert other.code == 1 and "none-other" in other.err and "none-smtp" not in other.err
    assert mail.code == 1 and "none-smtp" in mail.err and "none-other" not in mail.err


async def test_what_is_no_secret_stops_it_wherever_it_stands(tmp_path: Path) -> None:
    other = "{type: webhook, url: 'http://127.0.0.1:9/'}\n  other: {type: webhok}"
    ended = await _test(tmp_path, other)
    assert ended.code == 1 and "webhok" in ended.err
