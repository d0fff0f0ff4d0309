"""The real Alertmanager and amtool: the judges of what their API means."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from support.agent_process import free_port
from support.prometheus import Prometheus, ready

Asked = tuple[int, Any]
"""A status, and what the answer holds."""
CONFIG = "route: {receiver: none}\nreceivers: [{name: none}]\n"


@contextmanager
def running_alertmanager(folder: Path, config: str = CONFIG) -> Iterator[str]:
    """Its URL; skips the test where there is none."""
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if binary is None:
        pytest.skip("prometheus-alertmanager is not installed")
    (folder / "am.yml").write_text(config)
    url = f"127.0.0.1:{free_port()}"
    command = [binary, "--config.file=am.yml", "--storage.path=am", "--cluster.listen-address="]
    process = subprocess.Popen(
        [*command, f"--web.listen-address={url}"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield ready(Prometheus(f"http://{url}"), process).url
    finally:
        process.terminate()
        process.wait(20)


def posted(url: str, body: bytes, kind: str = "application/json") -> tuple[int, str]:
    """Status and text of a POST."""
    request = Request(url, body, {"Content-Type": kind}, method="POST")
    try:
        with urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ask(method: str, url: str, sent: Any = None) -> Asked:
    """Status and JSON of the answer."""
    data = None if sent is None else json.dumps(sent).encode()
    headers = {"Content-Type": "application/json"} if data else {}
    request = Request(url, data, headers, method=method)
    try:
        with urlopen(request, timeout=20) as answer:
            return answer.status, decoded(answer.read())
    except HTTPError as error:
        with error:
            return error.code, decoded(error.read())


def decoded(text: bytes) -> Any:
    return json.loads(text) if text.strip() else None


def amtool(url: str, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """`amtool WORDS` for the Alertmanager at `url`; skips the test where there is none."""
    if shutil.which("amtool") is None:
        pytest.skip("amtool is not installed")
    command: list[Any] = ["amtool", "--no-version-check", *words]
    if url:
        command.insert(1, f"--alertmanager.url={url}")
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
