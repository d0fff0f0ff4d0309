"""What systemd hears of an agent: ready, alive, ending; and nothing from one that hangs."""

import asyncio
import os
import signal
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError

from support.agent_process import AgentProcess
from support.story import until


async def test_systemd_hears_that_the_loop_turns_and_when_it_does_not(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1200000"}
        agent = AgentProcess(tmp_path, "--no-worker", environment=environment)
        try:
            await asyncio.to_thread(agent.start)
            words, code = await asyncio.to_thread(_story, agent, heard)
            assert words == ["READY", "WATCHDOG", "RELOADING", "READY", "", "WATCHDOG", "STOPPING"]
            assert code == 0
        finally:
            agent.kill()


def _story(agent: AgentProcess, heard: socket.socket) -> tuple[list[str], int]:
    """What was heard, "" for a silence longer than a watchdog's time; the exit status."""
    assert agent.process is not None
    heard.settimeout(10)
    first = heard.recv(1000)
    assert first.startswith(b"READY=1\nSTATUS=serving at http://127.0.0.1:")
    words = ["READY", _next(heard, "WATCHDOG")]
    agent.process.send_signal(signal.SIGHUP)
    words += [_next(heard, "RELOADING"), _next(heard, "READY")]
    agent.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, agent.process.pid, os.WSTOPPED)
    words.append(_silence(heard))
    agent.process.send_signal(signal.SIGCONT)
    words.append(_next(heard, "WATCHDOG"))
    agent.process.terminate()
    words.append(_next(heard, "STOPPING"))
    return words, agent.process.wait(20)


def _next(heard: socket.socket, word: str) -> str:
    """The word once it comes; the last that came where it does not within 10 s."""
    heard.settimeout(10)
    deadline = time.monotonic() + 10
    while True:
        last = heard.recv(1000).decode().partition("=")[0]
        if last == word or time.monotonic() > deadline:
            return last


def _silence(heard: socket.socket) -> str:
    """What was said before it stood still may lie there yet."""
    heard.settimeout(1.2)
    for _ in range(100):
        try:
            last = heard.recv(1000).decode()
        except TimeoutError:
            return ""
    return last


async def test_a_disk_that_takes_no_writes_is_no_reason_to_be_restarted(tmp_path: Path) -> None:
    """The journal cannot be written: it is not ready, it is healthy, and systemd hears it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1200000"}
        arguments = ("--no-worker", "--storage.path=data")
        agent = AgentProcess(tmp_path, *arguments, environment=environment)
        try:
            await asyncio.to_thread(agent.start)
            with closing(sqlite3.connect(tmp_path / "data" / "incidents.db")) as other:
                other.execute("BEGIN IMMEDIATE")
                await until(lambda: _asked(agent, "/-/ready")[0] == 503, 60)
                status, why = _asked(agent, "/-/ready")
                assert status == 503 and "journal" in why, why
                for _ in range(3):
                    assert _next(heard, "WATCHDOG") == "WATCHDOG"
                    assert _asked(agent, "/-/healthy")[0] == 200
                other.rollback()
            await until(lambda: _asked(agent, "/-/ready")[0] == 200, 60)
        finally:
            agent.kill()
        assert "systemd restarts" not in agent.said()


def _asked(agent: AgentProcess, path: str) -> tuple[int, str]:
    try:
        return 200, agent.text(path)
    except HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()
