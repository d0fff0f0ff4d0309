"""Commands that do well, badly, and all that they should not."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from support.notifications import NEW_YEAR_MS, notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.exec.channel import Exec, ExecSettings
from tocsin_alerting.notify.secret import Vault

ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "AGENT_TOKEN": "of-the-agent"}


@asynccontextmanager
async def _command(*command: str, **settings: Any) -> AsyncIterator[Exec]:
    data = {"type": "exec", "command": list(command), "timeout": "20s", **settings}
    vault = Vault(ENVIRONMENT, lambda path: path.read_text("utf-8"))
    channel = Exec("modem", ExecSettings.model_validate(data), ChannelDeps(vault=vault))
    try:
        yield channel
    finally:
        await channel.close()


async def _sent(*command: str, **settings: Any) -> Outcome:
    async with _command(*command, **settings) as channel:
        return await channel.send(notification(), NEW_YEAR_MS)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _pid(file: Path) -> int:
    return int(file.read_text())


def _written(file: Path) -> bool:
    return file.exists() and file.read_text().endswith("\n")


async def test_the_command_gets_the_webhook_body_and_the_texts(tmp_path: Path) -> None:
    got = tmp_path / "got"
    outcome = await _sent("sh", "-c", f"cat > {got}; echo sent as 17")
    body = json.loads(got.read_text())
    assert outcome == Delivered(detail="exit status 0: sent as 17")
    assert body["version"] == "4" and body["tocsin"]["incident"] == 42
    assert body["alerts"][0]["labels"]["alertname"] == "InferenceEngineDown"
    assert body["tocsin"]["subject"].startswith("[P0] gpu-1: The engine at 127.0.0.1:8000")
    assert "alertctl ack 42" in body["tocsin"]["text"] and "#42" in body["tocsin"]["line"]


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ("exit 75", RetryAt("exit status 75")),
        ("echo line busy >&2; exit 75", RetryAt("exit status 75: line busy")),
        ("echo no such number >&2; exit 1", Permanent("exit status 1: no such number")),
        ("echo said on stdout; exit 64", Permanent("exit status 64: said on stdout")),
        ("kill -9 $$", RetryAt("killed by SIGKILL")),
        ("kill -35 $$", RetryAt("killed by signal 35")),
        ("true", Delivered(detail="exit status 0")),
    ],
)
async def test_the_exit_status_says_how_it_ended(script: str, outcome: Outcome) -> None:
    assert await _sent("sh", "-c", script) == outcome


async def test_a_program_that_is_not_there_or_no_program_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    missing = await _sent("/no/such/program")
    forbidden = await _sent(str(plain))
    assert missing == Permanent("failed to run the command: No such file or directory")
    assert forbidden == Permanent("failed to run the command: Permission denied")


async def test_no_shell_reads_the_arguments() -> None:
    outcome = await _sent("printf", "%s", "$(id) `id` ; id | cat > /dev/null && $HOME")
    assert outcome == Delivered(detail="exit status 0: $(id) `id` ; id | cat > /dev/null && $HOME")


async def test_the_environment_is_empty_but_for_what_was_given(tmp_path: Path) -> None:
    pin, seen = tmp_path / "pin", tmp_path / "seen"
    pin.write_text("1234567\n")
    given: dict[str, Any] = {"env": {"MODEM": "/dev/ttyUSB0"}, "env_files": {"PIN": str(pin)}}
    await _sent("/usr/bin/env", **given)
    await _sent(
        sys.executable,
        "-c",
        f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ)))",
        **given,
    )
    environment = eval(seen.read_text())
    assert environment.keys() - {"LC_CTYPE"} == {"PATH", "LANG", "MODEM", "PIN"}
    assert environment["PIN"] == "1234567" and environment["PATH"] == ENVIRONMENT["PATH"]


async def test_a_command_has_no_descriptor_of_ours_and_its_signals_are_as_usual() -> None:
    """A lock or a socket of ours would live as long as it does; SIGTERM could not end it."""
    script = (
        "import os, signal; fds = os.listdir('/proc/self/fd');"
        "print(len(fds), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,"
        " signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN, os.getcwd())"
    )
    with socket.socket() as ours:
        ours.set_inheritable(True)
        outcome = await _sent(sys.executable, "-I", "-c", script)
    assert outcome == Delivered(detail="exit status 0: 4 True True /")


async def test_secrets_and_the_answer_link_are_masked() -> None:
    """Half a secret too, where the tail begins in the middle of one."""
    secret = "pin-of-the-modem"
    script = "cat; for i in $(seq 400); do printf %s $PIN; done; echo; echo $PIN; exit 3"
    async with _command("sh", "-c", script, env={"PIN": secret}) as channel:
        transcript: list[str] = []
        outcome = await channel.send(notification(), NEW_YEAR_MS, transcript)
    shown = "\n".join([*transcript, repr(outcome), repr(channel)])
    assert "-the-" not in shown and "of-" not in shown and "-modem" not in shown
    said = [line for line in transcript if line.startswith("< stdout: ")]
    assert said and sum(map(len, said)) <= 1100
    assert outcome == Permanent("exit status 3: ***")


async def test_a_command_that_reads_nothing_and_writes_much_is_done() -> None:
    script = "import sys; sys.stdout.write('x' * 3_000_000); sys.stderr.write('y' * 3_000_000)"
    outcome = await _sent(sys.executable, "-I", "-c", script)
    assert isinstance(outcome, Delivered) and len(outcome.detail) < 400


async def test_a_command_that_ignores_sigterm_is_killed_with_all_that_it_began(
    tmp_path: Path,
) -> None:
    """Its children too, and one that has made itself a daemon."""
    child, daemon = tmp_path / "child", tmp_path / "daemon"
    script = (
        f"trap '' TERM; sleep 600 & echo $! > {child};"
        f" setsid sh -c '(trap \"\" TERM; echo $$ > {daemon}; exec sleep 600) &' & wait; sleep 600"
    )
    began = time.monotonic()
    outcome = await _sent("sh", "-c", script, timeout="1s")
    assert outcome == RetryAt("the command did not finish within 1 s and was killed")
    assert time.monotonic() - began < 10
    assert not _runs(_pid(child)) and not _runs(_pid(daemon))


async def test_a_command_that_ends_leaves_nothing_behind(tmp_path: Path) -> None:
    daemon = tmp_path / "daemon"
    script = (
        f"setsid sh -c 'echo $$ > {daemon}; exec sleep 600' & while ! test -s {daemon}; do :; done"
    )
    began = time.monotonic()
    assert await _sent("sh", "-c", script) == Delivered(detail="exit status 0")
    assert not _runs(_pid(daemon)) and time.monotonic() - began < 10


async def test_a_command_that_hangs_delays_no_other(tmp_path: Path) -> None:
    flag = tmp_path / "hangs"
    script = f"if test -e {flag}; then exit 0; fi; touch {flag}; exec sleep 600"
    async with _command("sh", "-c", script) as channel:
        hanging = asyncio.create_task(channel.send(notification(), NEW_YEAR_MS))
        await _until(flag.exists)
        assert await channel.send(notification(), NEW_YEAR_MS) == Delivered(detail="exit status 0")
        assert not hanging.done()
        hanging.cancel()


async def test_no_thread_is_begun_for_a_message() -> None:
    async with _command("true") as channel:
        channel.begin()
        before = psutil.Process().num_threads()
        for _ in range(5):
            await channel.send(notification(), NEW_YEAR_MS)
        assert psutil.Process().num_threads() == before


async def test_sixteen_at_once_each_get_their_own_answer(tmp_path: Path) -> None:
    async with _command(
        "sh", "-c", "grep -o '\"step\": [0-9]*' | head -n 1; cat > /dev/null"
    ) as channel:
        results = await asyncio.gather(
            *(channel.send(notification(step=step), NEW_YEAR_MS) for step in range(12))
        )
    assert results == [Delivered(detail=f'exit status 0: "step": {step}') for step in range(12)]


async def test_closing_ends_what_runs(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    async with _command("sh", "-c", f"echo $$ > {pid}; exec sleep 600") as channel:
        sending = asyncio.create_task(channel.send(notification(), NEW_YEAR_MS))
        await _until(lambda: _written(pid))
    assert isinstance(await sending, RetryAt) and not _runs(_pid(pid))
    assert not [c for c in psutil.Process().children() if "exec.runner" in str(c.cmdline())]


async def test_a_runner_that_was_killed_is_replaced_and_its_command_ends(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"if test -e {pid}; then exit 0; fi; echo $$ > {pid}; exec sleep 600"
    async with _command("sh", "-c", script) as channel:
        sending = asyncio.create_task(channel.send(notification(), NEW_YEAR_MS))
        await _until(lambda: _written(pid))
        (runner,) = (c for c in psutil.Process().children() if "exec.runner" in str(c.cmdline()))
        runner.send_signal(signal.SIGKILL)
        assert isinstance(await sending, RetryAt)
        await _until(lambda: not _runs(_pid(pid)))
        assert await channel.send(notification(), NEW_YEAR_MS) == Delivered(detail="exit status 0")


async def test_a_keeper_that_was_killed_leaves_its_command_to_the_runner(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    async with _command("sh", "-c", f"echo $$ > {pid}; exec sleep 600") as channel:
        sending = asyncio.create_task(channel.send(notification(), NEW_YEAR_MS))
        await _until(lambda: _written(pid))
        keeper = psutil.Process(_pid(pid)).parent()
        assert keeper is not None
        keeper.send_signal(signal.SIGKILL)
        said = await sending
        await _until(lambda: not _runs(_pid(pid)))
    assert said == RetryAt(
        "failed to run the command: the process that watched the command was killed"
    )


_AGENT = """
import asyncio, sys
from support.notifications import notification
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.exec.channel import Exec, ExecSettings
from tocsin_alerting.notify.secret import Vault
settings = ExecSettings.model_validate({"type": "exec", "command": ["sh", "-c", sys.argv[1]]})
asyncio.run(Exec("m", settings, ChannelDeps(vault=Vault({}, lambda p: ""))).send(notification(), 0))
"""


async def test_what_runs_ends_with_an_agent_that_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ > {pid}; while :; do sleep 1; done"
    environment = {**os.environ, "PYTHONPATH": "tests"}
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _AGENT, script, env=environment
    )
    try:
        await _until(lambda: _written(pid))
    finally:
        agent.kill()
        await agent.wait()
    await _until(lambda: not _runs(_pid(pid)))
    assert not _runs(_pid(pid))


@pytest.mark.parametrize(
    "settings",
    [
        {"command": []},
        {"command": ["bin/send"]},
        {"command": ["send", "a\0b"]},
        {"command": "send-sms"},
        {"command": ["send"], "env": {"A=B": "c"}},
        {"command": ["send"], "env": {"A": "c\0d"}},
        {"command": ["send"], "env_files": {"": "f"}},
    ],
)
def test_what_cannot_be_run_is_an_error_of_the_configuration(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExecSettings.model_validate({"type": "exec", **settings})
