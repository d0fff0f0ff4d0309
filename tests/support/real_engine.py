"""A real vLLM or llama.cpp in a process of its own, by scripts/engines."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from support.agent_process import free_port

SCRIPT = Path(__file__).parents[2] / "scripts" / "engines"
START_SECONDS = 600.0  # of vLLM on two cores that others use as well


@dataclass
class Counts:
    """What a client knows of its own requests, from the `usage` of their answers."""

    requests: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0

    @property
    def gaps(self) -> int:
        """Between the tokens of an answer."""
        return self.generated_tokens - self.requests


class RealEngine:
    """`scripts/engines KIND --port PORT ARGUMENTS`; its output goes to `folder`."""

    def __init__(
        self, kind: str, folder: Path, *arguments: str, port: int | None = None, key: str = ""
    ) -> None:
        self.kind = kind
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.target = f"127.0.0.1:{self.port}"
        self.counts = Counts()
        self._arguments = arguments + (("--api-key", key) if key else ())
        self.log_file = folder / f"{kind}-{self.port}.log"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._process: subprocess.Popen[bytes] | None = None
        self._family: list[psutil.Process] = []

    def launch(self) -> None:
        """Starts it and does not wait."""
        command = [str(SCRIPT), self.kind, "--port", str(self.port), *self._arguments]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def wait(self) -> None:
        """Until it serves."""
        deadline = time.monotonic() + START_SECONDS
        while self.status("/health") != 200:
            assert self._process is not None
            gone = self._process.poll() is not None
            assert not gone and time.monotonic() < deadline, self.log_file.read_text()[-2000:]
            time.sleep(0.2)
        self._family = self._relatives()

    def status(self, path: str, timeout: float = 2.0) -> int:
        """The HTTP status without a key, 0 where nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def page(self) -> str:
        with urllib.request.urlopen(self.url + "/metrics", timeout=10) as reply:
            return str(reply.read().decode())

    def chat(self, text: str, limit: int, timeout: float = 120.0) -> None:
        """One streamed answer, read to its end and counted."""
        turns = [{"role": "user", "content": text}]
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        asked = {"messages": turns, "max_tokens": limit, **streamed}
        with self._post(asked, timeout) as reply:
            lines = [line[6:] for line in reply if line.startswith(b"data: {")]
        usage = json.loads(lines[-1])["usage"]
        self.counts.requests += 1
        self.counts.prompt_tokens += usage["prompt_tokens"]
        self.counts.generated_tokens += usage["completion_tokens"]

    def endless(self, timeout: float) -> None:
        """One answer of 1,500 tokens, whatever the model would say; it is not counted."""
        turns = [{"role": "user", "content": "Count."}]
        asked = {"messages": turns, "max_tokens": 1500, "ignore_eos": True}
        self._post(asked, timeout).close()

    def refused(self) -> bool:
        """Whether a request that cannot be is answered with 4xx; it is not counted."""
        try:
            self._post({"messages": "nonsense"}, 10.0).close()
        except urllib.error.HTTPError as error:
            return 400 <= error.code < 500
        return False

    def _post(self, body: dict[str, Any], timeout: float) -> Any:
        headers = {"Content-Type": "application/json", **self._headers}
        url = self.url + "/v1/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        return urllib.request.urlopen(request, timeout=timeout)

    def send(self, number: signal.Signals, core: bool = False) -> None:
        """To the API server, or to vLLM's EngineCore."""
        os.kill(self._core().pid if core else self._api().pid, number)

    def _api(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def _core(self) -> psutil.Process:
        (core,) = (p for p in self._api().children() if p.cmdline()[0] == "VLLM::EngineCore")
        return core

    def kill(self) -> None:
        """With every process that it has started; vLLM's outlive a killed API server."""
        if self._process is None:
            return
        for one in {*self._family, *self._relatives()}:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self._process.wait()

    def _relatives(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        return [self._api(), *self._api().children(recursive=True)]

    def __enter__(self) -> "RealEngine":
        self.launch()
        try:
            self.wait()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


@contextmanager
def launched(engine: RealEngine) -> Iterator[RealEngine]:
    """The engine while it loads; killed at the end."""
    try:
        engine.launch()
        yield engine
    finally:
        engine.kill()
