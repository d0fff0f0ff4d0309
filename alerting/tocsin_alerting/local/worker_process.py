"""Our own inference worker as a supervised child: restarted with back-off, never a danger to us."""

import asyncio
import importlib.util
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from tocsin_alerting.config.watching import WorkerSection

log = logging.getLogger(__name__)

PACKAGE = "tocsin_inference"  # a program of its own: it is started, never imported
NO_TORCH = (
    "the worker needs torch: pip install 'tocsin[inference]', or use --no-worker and watch your "
    "own engine with --engine.url"
)


def installed() -> bool:
    """Whether this Python has what the worker needs, found out without loading it."""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers", "fastapi"))


def command(*arguments: str) -> list[str]:
    """How to start the worker as a process of its own. `-P`: no file of the current directory may
    run in place of a library."""
    return [sys.executable, "-P", "-m", PACKAGE, *arguments]


def become_worker(arguments: Sequence[str]) -> NoReturn:
    """Go on as the worker, in this process."""
    if not installed():
        sys.exit(f"tocsin: {NO_TORCH}")
    os.execv(sys.executable, command(*arguments))


class WorkerState(StrEnum):
    STOPPED = "stopped"
    RUNNING = "running"
    WAITING = "waiting to restart"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """At most `most` restarts in a row; a run of `settled_s` seconds starts the count anew."""

    most: int = 5
    first_s: float = 1.0
    longest_s: float = 60.0
    settled_s: float = 120.0

    def delay(self, failures: int) -> float | None:
        """Seconds to wait after so many failures in a row (from 1); None: give up."""
        if failures > self.most:
            return None
        return min(self.longest_s, self.first_s * 2.0 ** (failures - 1))


class WorkerProcess:
    """Runs `command`; the child is told our pid, so that it dies with us."""

    def __init__(
        self,
        command: Sequence[str],
        restart: RestartPolicy,
        monotonic: Callable[[], float],
    ) -> None:
        self.command = [*command, "--parent-pid", str(os.getpid())]
        self.restart = restart
        self.state = WorkerState.STOPPED
        self.restarts = 0
        self._monotonic = monotonic
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    async def run(self) -> None:
        """Keep the child running until `stop`, or until it has failed too often in a row."""
        failures = 0
        while not self._stopping:
            began = self._monotonic()
            code = await self._run_once()
            if self._stopping:
                break
            settled = self._monotonic() - began >= self.restart.settled_s
            failures = 1 if settled else failures + 1
            if not await self._wait(code, failures):
                return
        self.state = WorkerState.STOPPED

    async def stop(self, grace_s: float) -> None:
        """End the child: SIGTERM, then SIGKILL after `grace_s` seconds."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        _signal(process, signal.SIGCONT)  # a stopped child would not see the next one
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await process.wait()
        except TimeoutError:
            _signal(process, signal.SIGKILL)
            await process.wait()

    async def _run_once(self) -> int | str:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.DEVNULL
            )
        except OSError as error:
            return f"cannot start {self.command[0]}: {error.strerror}"
        if self._stopping:  # while it was being started
            _signal(self._process, signal.SIGKILL)
        self.state = WorkerState.RUNNING
        log.info("worker started", extra={"pid": self._process.pid})
        return await self._process.wait()

    async def _wait(self, code: int | str, failures: int) -> bool:
        delay = self.restart.delay(failures)
        ended = {"worker_ended": describe_exit(code), "failures": failures}
        if delay is None:
            self.state = WorkerState.GIVEN_UP
            log.error("worker is crash-looping; giving up", extra=ended)
            return False
        self.state = WorkerState.WAITING
        log.warning("worker exited; restarting", extra={**ended, "in_seconds": delay})
        await asyncio.sleep(delay)
        self.restarts += 1
        return True


def describe_exit(code: int | str) -> str:
    """`exit code 1`, `SIGKILL`, or the reason why there was no process."""
    if isinstance(code, str):
        return code
    if code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except ProcessLookupError:
        return


def worker_from_config(settings: WorkerSection, log_format: str) -> WorkerProcess:
    """The worker that a configuration asks for; nothing runs yet."""
    where = ["--host", settings.host, "--port", str(settings.port), "--device", settings.device]
    model = ["--model-path", settings.model_path] if settings.model_path else []
    restart = RestartPolicy(settings.restart.max, settings.restart.backoff / 1000)
    logs = ["--log-format", log_format]
    return WorkerProcess(command("serve", *where, *model, *logs), restart, time.monotonic)
