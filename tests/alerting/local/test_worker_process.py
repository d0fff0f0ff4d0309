"""The supervisor with real child processes: this Python, told to fail, to hang or to linger."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import psutil
import pytest

from tocsin_alerting.local.worker_process import (
    RestartPolicy,
    WorkerProcess,
    WorkerState,
    describe_exit,
)

FOREVER = "import time; time.sleep(600)"
DEAF = (
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
)


def worker(code: str, restart: RestartPolicy | None = None) -> WorkerProcess:
    command = [sys.executable, "-c", code]
    return WorkerProcess(command, restart or RestartPolicy(most=2, first_s=0.01), time.monotonic)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_child_that_keeps_ending_is_given_up() -> None:
    failing = worker("raise SystemExit(3)")
    async with asyncio.timeout(30):
        await failing.run()
    assert failing.state is WorkerState.GIVEN_UP
    assert failing.restarts == 2


async def test_a_command_that_does_not_exist_is_given_up_too() -> None:
    missing = WorkerProcess(["/nonexistent/tocsin-worker"], RestartPolicy(0), time.monotonic)
    await missing.run()
    assert missing.state is WorkerState.GIVEN_UP


async def test_a_killed_child_is_started_again() -> None:
    child = worker(FOREVER)
    running = asyncio.create_task(child.run())
    await until(lambda: child.pid)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.pid not in (None, first))
    await child.stop(5)
    await running
    assert child.restarts == 1


@pytest.mark.parametrize("stopped", [False, True])
async def test_stop_ends_it_even_when_it_was_stopped_by_a_signal(stopped: bool) -> None:
    child = worker(FOREVER)
    running = asyncio.create_task(child.run())
    await until(lambda: child.pid)
    pid = child.pid
    assert pid is not None
    if stopped:
        os.kill(pid, signal.SIGSTOP)
    await child.stop(5)
    await running
    assert child.state is WorkerState.STOPPED
    assert not psutil.pid_exists(pid)


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    child = worker(DEAF, RestartPolicy(0))
    running = asyncio.create_task(child.run())
    await until(lambda: child.pid)
    pid = child.pid
    assert pid is not None
    await until(lambda: psutil.Process(pid).status() == psutil.STATUS_SLEEPING)
    await child.stop(0.2)
    await running
    assert not psutil.pid_exists(pid)


def test_it_backs_off_to_a_limit_and_gives_up() -> None:
    restart = RestartPolicy(most=4, first_s=1, longest_s=5)
    assert [restart.delay(n) for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 5, None]


def test_exits_are_described_in_words() -> None:
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-9) == "SIGKILL"


async def test_one_that_ran_for_long_before_it_ended_begins_the_count_anew() -> None:
    minutes = count(0, 200)  # each look at the clock is later than a run must last to be settled
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    child = WorkerProcess(command, RestartPolicy(most=1, first_s=0.01), lambda: next(minutes))
    running = asyncio.create_task(child.run())
    await until(lambda: child.restarts >= 4)
    await child.stop(10)
    await running
    assert child.restarts >= 4 and child.state is WorkerState.STOPPED


async def test_one_that_is_ended_while_it_starts_ends() -> None:
    child = worker(FOREVER)
    running = asyncio.create_task(child.run())
    await asyncio.sleep(0)
    assert child.pid is None
    await child.stop(10)
    async with asyncio.timeout(20):
        await running
    assert child.pid is None and child.state is WorkerState.STOPPED


async def test_one_that_was_stopped_hears_that_it_is_to_end(tmp_path: Path) -> None:
    ready, ended = tmp_path / "ready", tmp_path / "ended"
    code = (
        "import pathlib, signal, sys, time\n"
        f"def end(*_): pathlib.Path({str(ended)!r}).touch(); sys.exit(0)\n"
        f"signal.signal(15, end); pathlib.Path({str(ready)!r}).touch(); time.sleep(600)"
    )
    child = worker(code)
    running = asyncio.create_task(child.run())
    await until(ready.exists)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    await child.stop(30)
    await running
    assert ended.exists()
