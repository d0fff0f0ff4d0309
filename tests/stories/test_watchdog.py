"""What systemd hears of an agent: ready, alive, ending; and nothing from one that hangs."""

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

from support.agent_process import AgentProcess


async def test_systemd_hears_that_the_loop_turns_and_when_it_does_not(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1200000"}
        agent = AgentProcess(tmp_path, "--no-worker", environment=environment)
        try:
            await asyncio.to_thread(agent.start)
            await asyncio.to_thread(_story, agent, heard)
        finally:
            agent.kill()


def _story(agent: AgentProcess, heard: socket.socket) -> None:
    assert agent.process is not None
    heard.settimeout(10)
    assert heard.recv(1000).startswith(b"READY=1\nSTATUS=serving at http://127.0.0.1:")
    _until(heard, b"WATCHDOG=1")
    agent.process.send_signal(signal.SIGHUP)
    _until(heard, b"RELOADING=1")
    _until(heard, b"READY=1")
    agent.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, agent.process.pid, os.WSTOPPED)
    heard.settimeout(1.2)
    silent = False
    while not silent:
        try:
            heard.recv(1000)
        except TimeoutError:
            silent = True
    agent.process.send_signal(signal.SIGCONT)
    heard.settimeout(10)
    _until(heard, b"WATCHDOG=1")
    agent.process.terminate()
    _until(heard, b"STOPPING=1")
    assert agent.process.wait(20) == 0


def _until(heard: socket.socket, word: bytes) -> None:
    deadline = time.monotonic() + 10
    while not heard.recv(1000).startswith(word):
        assert time.monotonic() < deadline
