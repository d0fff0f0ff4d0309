"""The agent as a user runs it: `tocsin up` in a process of its own."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class AgentProcess:
    """`tocsin up ARGUMENTS` on a free port; its log goes to `log`, and stays when it is killed.

    `output` is a file descriptor that gets its output instead. `tls` is whom to believe where it
    serves https.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        binaries: Path = BIN,
        output: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.output, self.tls = output, tls
        self.binaries = binaries
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.folder = folder
        self.log = folder / "agent.log"
        self.arguments = arguments
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 120) -> None:
        listen = f"--web.listen-address=127.0.0.1:{self.port}"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.binaries / "tocsin"), "up", listen, *self.arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log if self.output is None else self.output,
                stderr=log if self.output is None else self.output,
            )
        self.wait_for("/-/ready", timeout)

    def wait_for(self, path: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no {path}: {self.said()}")
            try:
                with urllib.request.urlopen(self.url + path, timeout=2, context=self.tls):
                    return
            except urllib.error.HTTPError as refused:
                if b"not ready: the journal is down" in refused.read():
                    return  # it pages all the same; nothing else is missing
                time.sleep(0.05)
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)

    def get(self, path: str) -> Any:
        """The `data` of an API answer."""
        with urllib.request.urlopen(self.url + path, timeout=10, context=self.tls) as response:
            return json.load(response)["data"]

    def status(self) -> Any:
        return self.get("/api/v1/status/tocsin")

    def text(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10, context=self.tls) as response:
            return str(response.read().decode())

    def alertctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return alertctl("--url", self.url, *arguments)

    def kill(self) -> None:
        """As a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> float:
        """The seconds that it took to end."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(30)
        return time.monotonic() - began

    def wait_until_said(self, words: str, timeout: float = 10) -> None:
        """Lines are written by a thread of their own, after what they tell of."""
        deadline = time.monotonic() + timeout
        while words not in self.said():
            assert time.monotonic() < deadline, f"not said: {words!r}: {self.said()}"
            time.sleep(0.05)

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def __enter__(self) -> "AgentProcess":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


def alertctl(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [str(BIN / "alertctl"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)
