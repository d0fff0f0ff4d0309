"""Signals of an operator or a terminal, at the start and under load: nothing ends."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.agent_process import BIN, free_port
from support.story import until
from support.tiny_model import write_tiny_model

SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
STEP_SECONDS = 0.15
UNGUARDED_SECONDS = 0.4  # of processor time: 0.03 to the first line of ours, 0.8 for all imports
STACK = "Thread MainThread (most recent call first):"


def up(folder: Path, port: int) -> list[str]:
    address = f"--web.listen-address=127.0.0.1:{port}"
    return [str(BIN / "tocsin"), "up", "--no-worker", address]


def exporter(folder: Path, port: int) -> list[str]:
    return [str(BIN / "tocsin"), "exporter", f"--web.listen-address=127.0.0.1:{port}"]


def worker(folder: Path, port: int) -> list[str]:
    model = str(write_tiny_model(folder / "tiny"))
    options = ["--port", str(port), "--model-path", model, "--threads", "1"]
    return [str(BIN / "tocsin"), "worker", *options]


def worker_module(folder: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "tocsin_inference", *worker(folder, port)[2:]]


Program = Callable[[Path, int], list[str]]


@contextmanager
def started(command: list[str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5):
            return True
    except OSError:
        return False


def guard(pid: int) -> None:
    """Until signals wait: before, they end the interpreter, as no line of ours has run."""
    wanted = sum(1 << (number - 1) for number in SIGNALS)
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        safe = 0
        for kind in ("SigBlk", "SigIgn", "SigCgt"):
            safe |= int(status.partition(f"{kind}:")[2].split()[0], 16)
        if safe & wanted == wanted:
            return
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        assert sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") < UNGUARDED_SECONDS
        time.sleep(0.002)


@pytest.mark.parametrize("program", [up, exporter, worker, worker_module])
async def test_no_signal_at_any_moment_of_the_start_ends_it(
    program: Program, tmp_path: Path
) -> None:
    port = free_port()
    with started(program(tmp_path, port), tmp_path) as process:
        deadline = time.monotonic() + 90
        await asyncio.to_thread(guard, process.pid)
        while not await asyncio.to_thread(answers, port):
            await asyncio.sleep(STEP_SECONDS)
            for number in SIGNALS:
                process.send_signal(number)
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
        assert STACK in (tmp_path / "log").read_text()
        answer = "configuration reloaded (SIGHUP)" if program is up else "SIGHUP ignored"
        await until(lambda: answer in (tmp_path / "log").read_text(), within=20)
        process.terminate()
        assert await asyncio.to_thread(process.wait, 20) == 0


@pytest.mark.parametrize("program", [up, exporter, worker])
async def test_stacks_asked_for_under_load_end_nothing(program: Program, tmp_path: Path) -> None:
    port, over = free_port(), threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers(port)

    with started(program(tmp_path, port), tmp_path) as process:
        await until(lambda: answers(port), within=90)
        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        try:
            for _ in range(40):
                process.send_signal(signal.SIGUSR1)
                await asyncio.sleep(0.05)
        finally:
            over.set()
            for client in clients:
                client.join()
        assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
        assert (tmp_path / "log").read_text().count(STACK) > 10
        assert await asyncio.to_thread(answers, port)


@pytest.mark.parametrize("program", [up, exporter, worker])
async def test_no_signal_while_it_ends_changes_how_it_ends(
    program: Program, tmp_path: Path
) -> None:
    port = free_port()
    with started(program(tmp_path, port), tmp_path) as process:
        await until(lambda: answers(port), within=90)
        process.terminate()
        deadline = time.monotonic() + 20
        while process.poll() is None:
            for number in SIGNALS:
                process.send_signal(number)
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        assert process.returncode == 0


@pytest.mark.parametrize("command", [["tocsin", "service", "--help"], ["alertctl", "--help"]])
def test_what_does_not_serve_ends_as_usual(command: list[str], tmp_path: Path) -> None:
    """By a signal that it does not know; whoever starts the tests may have ignored SIGHUP."""
    shown = tmp_path / "shown"
    os.mkfifo(shown)
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, time\natexit.register(lambda: (open('shown', 'w').close(), time.sleep(60)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        [str(BIN / command[0]), *command[1:]],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    shown.open().close()
    process.send_signal(signal.SIGUSR1)
    try:
        assert process.wait(20) == -signal.SIGUSR1
    finally:
        process.kill()
        process.wait()
