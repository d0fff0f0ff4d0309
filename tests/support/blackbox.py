"""The real blackbox_exporter on loopback, with a file of modules."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

START_S = 20.0
_LINE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Page = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@contextmanager
def running_blackbox(modules: Path) -> Iterator[str]:
    """Its address; skips the test where there is none."""
    binary = shutil.which("prometheus-blackbox-exporter") or shutil.which("blackbox_exporter")
    if binary is None:
        pytest.skip("blackbox_exporter is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [binary, f"--web.listen-address={address}", f"--config.file={modules}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(address)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def accepts(modules: Path) -> bool:
    """Whether it takes the file; skips the test where there is none."""
    binary = shutil.which("prometheus-blackbox-exporter") or shutil.which("blackbox_exporter")
    if binary is None:
        pytest.skip("blackbox_exporter is not installed")
    command = [binary, f"--config.file={modules}", "--config.check"]
    return subprocess.run(command, capture_output=True, timeout=20).returncode == 0


def asked(address: str, target: str, module: str) -> str:
    query = urlencode({"target": target, "module": module})
    with urlopen(f"http://{address}/probe?{query}", timeout=20) as answer:
        return str(answer.read().decode())


def page_of(text: str) -> Page:
    """Values by name and labels."""
    found: Page = {}
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line)) is not None and not line.startswith("#"):
            labels = tuple(_LABEL.findall(match["labels"] or ""))
            found[match["name"], labels] = float(match["value"])
    return found


def types_of(text: str) -> dict[str, str]:
    lines = (line.split() for line in text.splitlines() if line.startswith("# TYPE"))
    return {name: kind for _, _, name, kind in lines}


def _wait(address: str) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            with urlopen(f"http://{address}/-/healthy", timeout=10):
                return
        except URLError:
            if time.monotonic() > until:
                raise
