"""What holds for every command: exit codes, no traceback, and what is imported when."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.agent_process import BIN, AgentProcess
from support.agent_process import alertctl as process
from support.broken_server import Behaviour, broken_server, garbage, half_close, reset, silence
from support.command_line import alertctl
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.cli.alertctl import main
from tocsin_alerting.cli.command_table import COMMANDS

NOWHERE = ("--url", "http://127.0.0.1:9")
ASKING: dict[str, Sequence[str]] = {
    "reload": ("reload",),
    "ack": ("ack", "1"),
    "alerts": ("alerts",),
    "backtest": ("backtest",),
    "assign": ("assign", "1", "--to", "li"),
    "channels": ("channels", "test", "log"),
    "comment": ("comment", "1", "--note", "x"),
    "drill": ("drill", "P0"),
    "engines": ("engines",),
    "escalate": ("escalate", "1"),
    "health": ("health",),
    "heartbeat": ("heartbeat", "list"),
    "incidents": ("incidents",),
    "incidents export": ("incidents", "export", "1"),
    "log": ("log",),
    "oncall": ("oncall", "show"),
    "maintenance": ("maintenance", "list"),
    "one incident": ("incidents", "1"),
    "query": ("query", "instant", "up"),
    "range": ("query", "range", "up"),
    "receivers": ("receivers",),
    "resolve": ("resolve", "1"),
    "route": ("route", "severity=P0"),
    "rules": ("rules",),
    "show": ("show", "1"),
    "snooze": ("snooze", "1", "2h"),
    "stats": ("stats",),
    "status": ("status",),
    "the one that is open": ("ack",),
    "unack": ("unack", "1"),
    "token": ("token", "list"),
    "why": ("why", "1"),
    "silence": ("silence", "list"),
}
MISUSED: dict[str, Sequence[str]] = {
    "reload": ("reload", "now"),
    "ack": ("ack", "x"),
    "alerts": ("alerts", "-o", "xml"),
    "backtest": ("backtest", "--max-noise", "2"),
    "assign": ("assign", "1"),
    "channels": ("channels", "test"),
    "check": ("check", "--fast"),
    "comment": ("comment", "1"),
    "completion": ("completion", "tcsh"),
    "drill": ("drill", "P9"),
    "engines": ("engines", "forget"),
    "escalate": ("escalate", "1", "--step", "-1"),
    "health": ("health", "now"),
    "heartbeat": ("heartbeat", "add", "backup"),
    "incidents": ("incidents", "0"),
    "incidents export": ("incidents", "export", "x"),
    "log": ("log", "--since", "soon"),
    "oncall": ("oncall", "remove"),
    "query": ("query", "instant"),
    "receivers": ("receivers", "-o", "xml"),
    "resolve": ("resolve", "x"),
    "route": ("route",),
    "rules": ("rules", "--state", "resolved"),
    "show": ("show", "0"),
    "snooze": ("snooze", "1"),
    "stats": ("stats", "x"),
    "slo": ("slo", "generate"),
    "status": ("status", "1"),
    "maintenance": ("maintenance", "add", "w", "a=b"),
    "silence": ("silence", "add", "a=b"),
    "templates": ("templates", "show", "a", "b"),
    "test": ("test", "--config.file=a.yml", "b.yml"),
    "unack": ("unack", "one"),
    "token": ("token", "add", "grafana", "--role", "god"),
    "why": ("why", "x"),
}


def test_every_command_is_found_by_its_name() -> None:
    assert {name: command.name for name, command in main.commands.items()} == {
        name: name for name in COMMANDS
    }
    assert "incidents export" in main.commands and "nothing" not in main.commands


def test_every_command_is_tried_here() -> None:
    assert set(MISUSED) == set(main.commands)
    assert set(ASKING) - {"one incident", "range", "the one that is open"} == set(main.commands) - {
        "check",
        "completion",
        "slo",
        "templates",
        "test",
    }


@pytest.mark.parametrize("name", MISUSED)
def test_wrong_usage_ends_with_2(name: str) -> None:
    ended = alertctl(*MISUSED[name])
    assert ended.code == 2
    assert ended.err.startswith("Usage: ")


@pytest.mark.parametrize("name", ASKING)
def test_no_agent_ends_with_4(name: str) -> None:
    ended = alertctl(*NOWHERE, *ASKING[name])
    assert ended.code == 4
    assert ended.out == ""
    assert ended.err.startswith("alertctl: no response from the agent at http://127.0.0.1:9: ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    "url", ["http://[", "nonsense", "ftp://localhost", "http://127.0.0.1:99999", "http://a b/", ""]
)
def test_what_is_no_url_reaches_nobody(url: str) -> None:
    assert alertctl("--url", url, "alerts").code == 4


@pytest.mark.parametrize(
    "command", ["alerts", "incidents", "health", "engines", "query instant up"]
)
def test_where_the_agent_is_may_be_said_anywhere_and_without_http(
    agent: AgentProcess, command: str
) -> None:
    words, there = command.split(), f"127.0.0.1:{agent.port}"
    for arguments in (
        ["--url", there, *words],
        [*words, "--url", there],
        [*words, f"--url={agent.url}"],
        [words[0], "--url", there, *words[1:], "--timeout", "20"],
    ):
        ended = alertctl(*arguments)
        assert ended.code == 0, (arguments, ended.err)


def test_what_follows_two_dashes_is_no_option() -> None:
    assert alertctl("query", "instant", "--url=127.0.0.1:9", "--", "--url").code == 4


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "soon"])
def test_a_timeout_is_a_number_of_seconds(timeout: str) -> None:
    assert alertctl("--timeout", timeout, "alerts").code == 2


@pytest.mark.parametrize("behave", [garbage, half_close, reset, silence], ids=lambda b: b.__name__)
@pytest.mark.parametrize("command", ["alerts", "health"])
async def test_an_agent_that_misbehaves_ends_with_4(behave: Behaviour, command: str) -> None:
    import asyncio

    async with broken_server(behave) as port:
        url = f"http://127.0.0.1:{port}"
        ended = await asyncio.to_thread(alertctl, "--timeout", "1", "--url", url, command)
    assert ended.code == 4


STRANGERS = {
    "a page": b"<html>It works</html>",
    "nothing": b"",
    "a list": b"[]",
    "a number": b"5",
    "no status": b"{}",
    "no data": b'{"status": "success"}',
    "data of another shape": b'{"status": "success", "data": []}',
    "text for data": b'{"status": "success", "data": "x"}',
    "parts of another shape": b'{"status": "success", "data": {"alerts": [5], "incidents": [{}], '
    b'"result": {"a": 1}, "resultType": "vector", "transcript": 5, "delivered": true}}',
    "too deep": b"[" * 100_000,
    "bytes": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_an_agent_of_another_kind_ends_with_4(stranger: str) -> None:
    import asyncio

    asking = {name: words for name, words in ASKING.items() if name != "health"}
    if stranger == "nothing":  # as a Prometheus answers that has reloaded
        del asking["reload"]
    async with WebhookSink(usual=Answer(body=STRANGERS[stranger])) as sink:
        url = f"http://127.0.0.1:{sink.port}"
        for name, words in asking.items():
            ended = await asyncio.to_thread(alertctl, "--url", url, *words)
            assert ended.code == 4, name
            assert "is not a Tocsin agent" in ended.err


def _endless(piece: bytes, pause_s: float) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return behave


@pytest.mark.parametrize(
    ("piece", "pause_s", "code", "said"),
    [
        (b" " * (1 << 20), 0.0, 1, "larger than 64 MiB; ask for fewer"),
        (b" ", 0.05, 4, "has not ended after 1 s"),
    ],
)
async def test_an_answer_without_end_ends(
    piece: bytes, pause_s: float, code: int, said: str
) -> None:
    async with broken_server(_endless(piece, pause_s)) as port:
        url = f"http://127.0.0.1:{port}"
        timeout = "1" if pause_s else "60"
        ended = await asyncio.to_thread(alertctl, "--timeout", timeout, "--url", url, "alerts")
    assert ended.code == code and said in ended.err


async def test_the_agents_refusal_ends_with_1_and_its_words(tmp_path: Path) -> None:
    import asyncio

    refusal = b'{"status": "error", "errorType": "unauthorized", "error": "wrong or missing token"}'
    token = tmp_path / "token"
    token.write_text("hunter2\n")
    async with WebhookSink(usual=Answer(401, body=refusal)) as sink:
        words = ("--url", f"http://127.0.0.1:{sink.port}", "--token-file", str(token), "ack", "1")
        ended = await asyncio.to_thread(alertctl, *words)
    assert (ended.code, ended.err) == (1, "alertctl: wrong or missing token\n")
    assert sink.requests[0].headers["authorization"] == "Bearer hunter2"


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"\xff\x00", "密".encode()])
def test_a_token_file_without_a_token_is_wrong_usage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    ended = alertctl("--token-file", str(tmp_path / "token"), "alerts")
    assert ended.code == 2
    assert "holds no token" in ended.err


@pytest.mark.parametrize("name", ["none", "."])
def test_a_token_file_that_is_none_is_wrong_usage(tmp_path: Path, name: str) -> None:
    assert alertctl("--token-file", str(tmp_path / name), "alerts").code == 2


def test_the_token_is_in_no_repr() -> None:
    from tocsin_alerting.cli.client import AgentClient

    assert "hunter2" not in repr(AgentClient("http://localhost", 1, "hunter2"))


@pytest.mark.parametrize("words", [*ASKING.values(), ("check", "none.yml"), ("test", "none.yml")])
def test_in_a_process_of_its_own(words: Sequence[str]) -> None:
    done = process(*NOWHERE, *words)
    assert done.returncode == (1 if words[0] in ("check", "test") else 4)
    assert "Traceback" not in done.stderr


def test_the_commands_succeed_in_a_process_of_their_own(agent: AgentProcess) -> None:
    for name in ("alerts", "channels", "health", "incidents", "one incident", "query"):
        done = agent.alertctl(*ASKING[name])
        assert (done.returncode, done.stderr) == (0, ""), name


def test_names_that_the_terminal_cannot_show_are_escaped() -> None:
    done = subprocess.run(
        [BIN / "alertctl", "check", b"/none/\xff.yml", "/none/规则.yml"],
        capture_output=True,
        text=True,
        env={"PATH": "", "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 1
    assert done.stdout == "Checking /none/\\udcff.yml\nChecking /none/\\u89c4\\u5219.yml\n"


HEAVY = {"numpy", "pydantic", "starlette", "httpx2", "asyncio", "yaml", "jinja2", "apscheduler"}


@pytest.mark.parametrize(
    ("tool", "command"),
    [("alertctl", "alertctl import main"), ("tocsin", "commands import tocsin")],
)
def test_help_imports_nothing_heavy(tool: str, command: str) -> None:
    code = f"import sys; from tocsin_alerting.cli.{command} as main; main(['--help'], '{tool}', standalone_mode=False); print(*sys.modules)"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    usage, _, modules = done.stdout.rpartition("\n\n")
    assert not HEAVY & set(done.stdout.splitlines()[-1].split())
    assert f"Usage: {tool}" in usage + modules


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
