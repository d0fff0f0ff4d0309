"""The real Prometheus on loopback, with an empty configuration: the judge of what a query means."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

START_S = 30.0


class Prometheus:
    """One running server; `url` has no slash at its end."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, endpoint: str, **form: str) -> dict[str, Any]:
        """The JSON body of `/api/v1/<endpoint>`, that of an error too."""
        try:
            with urlopen(f"{self.url}/api/v1/{endpoint}", urlencode(form).encode()) as answer:
                return dict(json.load(answer))
        except HTTPError as error:
            with error:
                return dict(json.load(error))

    def targets(self) -> dict[str, Any]:
        """Active and dropped ones, once there are any: five seconds after its start."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with urlopen(f"{self.url}/api/v1/targets") as answer:
                found = dict(json.load(answer)["data"])
            if found["activeTargets"]:
                return found
            time.sleep(0.1)
        raise AssertionError(f"prometheus had no target within {START_S:g} s")

    def canonical(self, query: str) -> str:
        """How it prints `query`, or the error with which it refuses it."""
        body = self.get("format_query", query=query)
        if body["status"] == "success":
            return str(body["data"])
        return str(body["error"]).removeprefix('invalid parameter "query": ')


@contextmanager
def running_prometheus(
    directory: Path, *flags: str, config: str = "global: {}\n", port: int = 0
) -> Iterator[Prometheus]:
    """Start one with its data in `directory`, on `port` or any; skips the test where there is none.

    `PORT` in `config` stands for its own.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed")
    port = port or _free_port()
    file = directory / "prometheus.yml"
    file.write_text(config.replace("PORT", str(port)))
    command = [
        binary,
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *flags,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield ready(Prometheus(f"http://127.0.0.1:{port}"), process)
    finally:
        process.terminate()
        process.wait(20)


def ready(server: Prometheus, process: subprocess.Popen[bytes]) -> Prometheus:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"{server.url}/-/ready"):
                return server
        except (HTTPError, URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError(f"prometheus was not ready within {START_S:g} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
