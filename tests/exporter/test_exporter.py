"""The exporter as a whole, beside its real peers: node_exporter and promtool."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from prometheus_client import Metric
from prometheus_client import parser as text_parser

from support.node_exporter import page as node_page
from support.node_exporter import running_node_exporter
from support.prometheus import Prometheus, running_prometheus
from tocsin_exporter.catalogue import TABLES
from tocsin_exporter.clock import Clock
from tocsin_exporter.collector_settings import ENABLED, CollectorSettings, HostView
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.exporter import ExporterOptions, build
from tocsin_exporter.exposition import render
from tocsin_exporter.loop_watchdog import LoopWatchdog
from tocsin_exporter.scrape import Scraper
from tocsin_exporter.scrape_manager import ScrapeManager
from tocsin_exporter.targets import SCRAPE_CONFIGS, local_targets

Key = tuple[str, frozenset[tuple[str, str]]]

UNWATCHED = LoopWatchdog(lambda: None, Clock().monotonic)
_BUILD_INFO = "node_exporter_build_info"
# A series a state, absent while nothing is in it: those that hold as long as `one_connection`.
_LASTING = {
    "node_tcp_connection_states": {"established", "listen", "rx_queued_bytes", "tx_queued_bytes"},
    "node_processes_state": {"S"},
    "node_processes_threads_state": {"S"},
}
# Not read at a scrape but up to 5 s before, and moving by more than 5 % on a busy machine. On the
# trees of test_machines.py, where nothing moves, they are equal.
_MOVING = re.compile(r"node_(processes|zoneinfo|buddyinfo|slabinfo|memory_numa|tcp_connection)_.*")
_OWN_MEASUREMENT = "node_scrape_collector_duration_seconds"  # differs by nature


def families(page: str) -> dict[str, Metric]:
    parsed = text_parser.text_string_to_metric_families(page)
    return {f.name: f for f in parsed if f.name.startswith("node_") and f.name != _BUILD_INFO}


def values(found: dict[str, Metric]) -> dict[Key, float]:
    """Samples by name and labels; an empty label is none, as in Prometheus."""
    return {
        (s.name, frozenset((k, v) for k, v in s.labels.items() if v)): s.value
        for family in found.values()
        for s in family.samples
        if s.name != _OWN_MEASUREMENT
    }


async def our_page(agent: ScrapeManager) -> str:
    await asyncio.sleep(0.25)  # longer than readings are reused
    return render(await agent.page(["host"]), "text").body.decode()


@contextmanager
def one_connection() -> Iterator[None]:
    """A listener and a connection that stay: so each page counts both states."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()), server.accept()[0]:
            yield


async def three_pages() -> tuple[str, str, str]:
    """Ours, node_exporter's, and ours again: a true value lies between the outer ones."""
    with one_connection():
        return await _three_pages()


async def _three_pages() -> tuple[str, str, str]:
    everything = CollectorSettings(collectors=dict.fromkeys(ENABLED, True))
    options = ExporterOptions(without=frozenset({"gpu"}), machine=HostView(everything))
    agent, _ = build(options, Clock(), UNWATCHED)
    running = asyncio.create_task(agent.run())
    try:
        with running_node_exporter() as address:
            while not agent.ready:
                await asyncio.sleep(0.05)
            before = await our_page(agent)
            theirs = await asyncio.to_thread(node_page, address)
            return before, theirs, await our_page(agent)
    finally:
        running.cancel()


def agrees(kind: str, low: float, theirs: float, high: float) -> bool:
    """Counters within 1 %, gauges within 5 % of what we saw before or after; small ones by 8."""
    share = 0.01 if kind == "counter" else 0.05
    low, high = min(low, high), max(low, high)
    slack = max(abs(low), abs(high)) * share
    return low - max(slack, 8) <= theirs <= high + max(slack, 8)


def said(found: dict[str, Metric]) -> set[object]:
    """Names with type and help, and series with labels."""
    about = {(name, family.type, family.documentation) for name, family in found.items()}
    return {*about, *(key for key in values(found) if not comes_and_goes(key))}


def comes_and_goes(key: Key) -> bool:
    """Whether a series is of a state that lasts milliseconds, such as a handshake's."""
    lasting = _LASTING.get(key[0])
    return lasting is not None and not any(value in lasting for _, value in key[1])


async def test_names_types_and_labels_are_node_exporters() -> None:
    """What differs in each of three tries is wrong; a mount may come while we look."""
    differ: set[object] = set()
    for _ in range(3):
        before, theirs, after = (said(families(page)) for page in await three_pages())
        differ = (theirs - before - after) | (before & after) - theirs
        if not differ:
            return
    assert not differ


async def test_values_are_node_exporters() -> None:
    """What disagrees in each of three tries is wrong; what does in one has moved meanwhile."""
    wrong: set[Key] | None = None
    for _ in range(3):
        pages = await three_pages()
        before, theirs, after = (values(families(page)) for page in pages)
        kinds = {name: family.type for name, family in families(pages[1]).items()}
        disagree = {
            key
            for key, value in theirs.items()
            if key in before and key in after and not _MOVING.fullmatch(key[0])
            if not agrees(
                kinds.get(key[0].removesuffix("_total"), ""), before[key], value, after[key]
            )
        }
        wrong = disagree if wrong is None else wrong & disagree
        if not wrong:
            return
    assert not wrong


async def test_no_counter_falls_and_no_series_disappears() -> None:
    host = Host(now=Clock().wall)
    (target,) = local_targets(host, "h", {"host": SCRAPE_CONFIGS["host"]})
    scraper = Scraper(target, Clock())
    first = await scraper.round(0)
    for _ in range(500):
        before, after = scraper.snapshot, await scraper.refresh(0)
        assert first is not None and before is not None and after is not None
        assert after.layout is first.layout
        counts = [series.family.type == "counter" for series in after.series]
        assert (after.values >= before.values)[counts].all()
    scraper.close()


@pytest.fixture
async def page() -> str:
    agent, _ = build(ExporterOptions(without=frozenset({"gpu"})), Clock(), UNWATCHED)
    running = asyncio.create_task(agent.run())
    while not agent.ready:
        await asyncio.sleep(0.05)
    running.cancel()
    return render(await agent.page(), "text").body.decode()


async def test_promtool_objects_to_nothing_but_nodes_own_names(page: str) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed")
    lint = await asyncio.to_thread(
        partial(
            subprocess.run,
            [promtool, "check", "metrics"],
            input=page,
            capture_output=True,
            text=True,
            check=False,
        )
    )
    said = (lint.stdout + lint.stderr).splitlines()
    assert [line for line in said if not line.startswith("node_")] == []


async def test_everything_on_the_page_is_in_the_catalogue_with_its_labels(page: str) -> None:
    known = {name: labels for table in TABLES.values() for name, labels in table.labels.items()}
    opened = [
        re.compile(re.escape(row.name).replace(r"\{\}", ".+"))
        for table in TABLES.values()
        for row in table.open_rows
    ]
    for family in text_parser.text_string_to_metric_families(page):
        name = family.name + ("_total" if family.type == "counter" else "")
        if any(pattern.fullmatch(name) for pattern in opened):
            continue
        for sample in family.samples:
            assert set(sample.labels) - {"le"} <= set(known[name]), name


@pytest.fixture
def exporter() -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """`tocsin exporter` as a process of its own; its address comes from its log."""
    code = (
        "from tocsin_exporter.exporter import ExporterOptions, run_exporter\n"
        "from tocsin_exporter.logs import configure\n"
        "configure('info', 'logfmt')\n"
        "run_exporter(ExporterOptions(listen_addresses=('127.0.0.1:0',)))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    assert process.stderr is not None
    lines = (re.search(rb"address=(\S+)", line) for line in process.stderr)
    yield next(found[1].decode() for found in lines if found), process
    process.kill()
    process.wait(10)
    process.stderr.close()


def test_the_real_prometheus_scrapes_it_without_a_complaint(
    exporter: tuple[str, "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    with running_prometheus(tmp_path, "--web.enable-lifecycle") as prometheus:
        (tmp_path / "prometheus.yml").write_text(
            "scrape_configs: [{job_name: node, scrape_interval: 250ms, scrape_timeout: 250ms, "
            f"static_configs: [{{targets: ['{exporter[0]}']}}]}}]\n"
        )
        urlopen(Request(f"{prometheus.url}/-/reload", method="POST")).close()
        until = time.monotonic() + 20
        while not (found := asked(prometheus, "count_over_time(up[1m]) > 3")):
            assert time.monotonic() < until
            time.sleep(0.1)
        assert float(found[0]["value"][1]) > 3
        assert asked(prometheus, "min_over_time(up[1m])")[0]["value"][1] == "1"
        with urlopen(f"{prometheus.url}/api/v1/targets") as answer:
            (target,) = json.load(answer)["data"]["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        assert float(asked(prometheus, 'count({job="node"})')[0]["value"][1]) > 300
        assert asked(prometheus, "rate(node_context_switches_total[1m]) > 0")


def asked(prometheus: Prometheus, query: str) -> list[dict[str, Any]]:
    return list(prometheus.get("query", query=query)["data"]["result"])


def test_as_a_process_it_answers_and_ends_on_sigterm(
    exporter: tuple[str, "subprocess.Popen[bytes]"],
) -> None:
    address, process = exporter
    with urlopen(f"http://{address}/metrics", timeout=10) as answer:
        assert b"\nnode_load1 " in answer.read()
    process.terminate()
    assert process.wait(5) == 0
