"""Ten things go wrong at once, and the page answers in 100 ms, says what failed, keeps the rest."""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from support import troubled_exporter
from support.agent_process import free_port
from support.full_pipe import full_pipe
from support.hostile_engine import HostileEngine

Page = dict[str, list[tuple[dict[str, str], float]]]
_LINE = re.compile(r"(\w+)(?:{(.*)})? (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
TESTS = Path(__file__).parents[1]


class Exporter:
    """That of `troubled_exporter`, whose log nobody reads."""

    def __init__(self, log: int, *engines: str) -> None:
        self.took: list[float] = []
        self.url = f"http://127.0.0.1:{free_port()}/metrics"
        port = self.url.split(":")[-1].split("/")[0]
        self.process = subprocess.Popen(
            [sys.executable, troubled_exporter.__file__, port, *engines],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            text=True,
        )

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def page(self) -> Page:
        page: Page = {}
        started = time.monotonic()
        with urlopen(self.url, timeout=10) as answer:
            said = answer.read().decode()
        self.took.append(time.monotonic() - started)
        for line in said.splitlines():
            if parts := _LINE.fullmatch(line):
                labels = dict(_LABEL.findall(parts[2] or ""))
                page.setdefault(parts[1], []).append((labels, float(parts[3])))
        return page


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[list[str]]:
    """One is dead, one answers with a web page, one with a million series."""
    ports = [free_port() for _ in range(3)]
    (tmp_path / "garbage").mkdir()
    (tmp_path / "million").mkdir()
    with (
        HostileEngine(ports[1], tmp_path / "garbage") as garbage,
        HostileEngine(ports[2], tmp_path / "million") as million,
    ):
        garbage.turn("a web page")
        million.turn("a million series")
        yield [f"http://127.0.0.1:{port}" for port in ports]


@pytest.fixture
def exporter(engines: list[str]) -> Iterator[Exporter]:
    with full_pipe() as (_, entry):
        started = Exporter(entry, *engines)
        yield started
        started.process.kill()
        started.process.communicate()


def value(page: Page, name: str, **labels: str) -> float:
    """The sum of what has these labels; -1 for nothing."""
    found = [v for own, v in page.get(name, ()) if labels.items() <= own.items()]
    return sum(found) if found else -1


def until(exporter: Exporter, true: Callable[[Page], bool], seconds: float = 90) -> Page:
    deadline = time.monotonic() + seconds
    while True:
        try:
            page = exporter.page()
        except OSError:
            page = {}
        if page and true(page):
            return page
        assert time.monotonic() < deadline, sorted(page)
        time.sleep(0.5)


def test_the_page_answers_says_what_failed_and_keeps_the_rest(
    exporter: Exporter, engines: list[str]
) -> None:
    until(
        exporter,
        lambda page: (
            value(page, "gpu_devices") == 3
            and value(page, "tocsin_collector_success", collector="gpu") == 1
        ),
    )
    exporter.tell("log 20000")
    exporter.tell("jump 3600")
    for thread in ("netclass", "mount", "gpu 2", "xid events"):
        exporter.tell(f"kill {thread}")
    told = {
        "the mount": lambda page: (
            value(page, "node_filesystem_device_error", mountpoint=troubled_exporter.HUNG_MOUNT)
            == 1
        ),
        "the GPUs": lambda page: value(page, "tocsin_collector_success", collector="gpu") == 0,
        "one GPU": lambda page: value(page, "gpu_devices") == 1,
        "the log": lambda page: value(page, "tocsin_log_lines_dropped_total") > 0,
        "the clock": lambda page: value(page, "tocsin_clock_steps_total") == 1,
        "a thread": lambda page: (
            value(page, "tocsin_collector_timeouts_total", collector="netclass") > 0
        ),
    }
    pages = {}
    for what, true in told.items():
        pages[what] = until(exporter, true)
    page = pages["a thread"]
    for engine in engines[:2]:
        assert value(page, "llm_engine_up", target=engine.removeprefix("http://")) == 0
    for kept in ("node_load1", "node_memory_MemTotal_bytes", "node_disk_reads_completed_total"):
        assert value(page, kept) > 0, kept
    recovered = until(
        exporter,
        lambda page: (
            value(page, "tocsin_collector_success", collector="netclass") == 1
            and value(page, "tocsin_collector_success", collector="filesystem") == 1
            and value(page, "DCGM_FI_DEV_GPU_TEMP", gpu="2") > 0
        ),
    )
    assert statistics.median(exporter.took) < 0.1, exporter.took
    assert value(recovered, "node_network_up") >= 0
    assert value(recovered, "node_filesystem_avail_bytes", mountpoint="/") == 0, "the full disk"
