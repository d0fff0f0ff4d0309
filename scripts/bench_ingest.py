"""Samples in: a scrape of 5,000 series appended, and remote write end to end beside Prometheus.

Remote write goes to a real agent and to the real Prometheus (--web.enable-remote-write-receiver) by
turns, the very same requests to both, made before the clock starts, over connections that are
kept alive. Both keep what they get on disk. At the end both are asked how many samples they hold.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
import psutil
from measuring.flood import flood
from measuring.processes import agent, anonymous_mb, free_port, prometheus
from measuring.rule_load import RuleLoad
from measuring.table import circumstances, table, write_json
from measuring.write_requests import Scrape, WriteRequests

from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.target_labels import (
    SAMPLES_SCRAPED,
    SCRAPE_DURATION,
    UP,
    stored_labels,
    synthetic_labels,
)
from tocsin_exporter.snapshot import Snapshot, Source

SOURCE = Source("load", "bench:9100")
# How a scrape is cut into requests: Prometheus sends 500 samples, newer ones 2,000.
CASES = {
    "500, cut alike": (WriteRequests.whole, 500),
    "500, as Prometheus cuts": (WriteRequests.streamed, 500),
    "2,000, cut alike": (WriteRequests.whole, 2000),
    "2,000, as Prometheus cuts": (WriteRequests.streamed, 2000),
}
STEP_MS = 5_000
DAY_MS = 86_400_000
NAMES = ("gauge", "c", "b_bucket", UP, SCRAPE_DURATION, SAMPLES_SCRAPED)
HELD = " + ".join(f'sum(count_over_time({name}{{job="{SOURCE.job}"}}[2h]))' for name in NAMES)
AGENT = """
collect: {host: 5s, gpu: 0s, processes: 0s}
engines: [{url: "http://127.0.0.1:9"}]
"""


@dataclass
class Part:
    """What one server did with one part of the requests."""

    samples: int
    seconds: float
    server_cpu: float
    client_cpu: float


@dataclass
class Side:
    """A server under measurement."""

    name: str
    port: int
    pid: int
    parts: dict[str, list[Part]] = field(default_factory=dict)
    lag: float = 0.0

    def send(self, case: str, shares: Sequence[Sequence[bytes]], samples: int) -> None:
        process = psutil.Process(self.pid)
        before, client = process.cpu_times(), time.process_time()
        began = time.perf_counter()
        flood(self.port, shares)
        seconds = time.perf_counter() - began
        after = process.cpu_times()
        cpu = after.user + after.system - before.user - before.system
        part = Part(samples, seconds, cpu, time.process_time() - client)
        self.parts.setdefault(case, []).append(part)


def append(load: RuleLoad, scrapes: int) -> dict[str, float]:
    """Microseconds of Store.append, with the disk at work as in the agent."""
    with tempfile.TemporaryDirectory() as folder:
        disk = DiskPersistence(Path(folder), BlockStore(Path(folder), 15 * DAY_MS, 2 << 30))
        store = Store(persistence=disk)
        disk.start(store)
        disk.run(time.monotonic)
        now_ms = int(time.time() * 1000) - scrapes * STEP_MS
        took = []
        for number in range(scrapes + 10):  # the first ten place the series and warm up
            at_ms = now_ms + number * STEP_MS
            snapshot = Snapshot(SOURCE, at_ms, True, load.layout, load.values(number), 0.1)
            began = time.perf_counter()
            store.append(snapshot)
            took.append((time.perf_counter() - began) * 1e6)
        disk.close()
    cuts = statistics.quantiles(took[10:], n=100, method="inclusive")
    return {
        "samples": load.series,
        "p50_us": cuts[49],
        "p99_us": cuts[98],
        "max_us": max(took[10:]),
    }


def scrapes(load: RuleLoad, count: int, first: int, begin_ms: int) -> Iterator[Scrape]:
    """`count` scrapes with what a Prometheus adds to each; `first` is the number of the first."""
    for number in range(first, first + count):
        added = (1.0, 0.1, float(load.series))
        yield begin_ms + number * STEP_MS, np.concatenate([load.values(number), added])


def ask(port: int, query: str) -> float:
    with urlopen(f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': query})}") as answer:
        result = json.load(answer)["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


def loop_lag(port: int) -> float:
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(one.split()[1]) for one in lines if one.startswith("tocsin_loop_lag_seconds"))


def remote_write(options: argparse.Namespace, load: RuleLoad, sides: list[Side]) -> None:
    series = [stored_labels(SOURCE, one) for one in load.layout.series]
    series += synthetic_labels(SOURCE)
    requests = WriteRequests(series)
    total = options.rounds * options.parts * len(CASES)
    begin_ms = int(time.time() * 1000) - (total + 1) * STEP_MS
    number = 0
    for case, (cut, each) in CASES.items():
        for part in range(options.parts):
            some = scrapes(load, options.rounds, number, begin_ms)
            shares = cut(requests, some, each, options.connections)
            number += options.rounds
            for side in sides if part % 2 else sides[::-1]:
                side.send(case, shares, options.rounds * len(series))
                if side.name == "tocsin":
                    side.lag = max(side.lag, loop_lag(side.port))
    for side in sides:
        if ask(side.port, HELD) != total * len(series):
            raise SystemExit(f"{side.name} lost some of {total * len(series)} samples")


def figures(sides: list[Side]) -> list[dict[str, Any]]:
    rows = []
    for case in CASES:
        for side in sides:
            parts = side.parts[case]
            samples = sum(one.samples for one in parts)
            rates = [one.samples / one.seconds for one in parts]
            rows.append(
                {
                    "name": side.name,
                    "case": case,
                    "samples": samples,
                    "samples_a_second": statistics.median(rates),
                    "server_cpu_us_a_sample": sum(one.server_cpu for one in parts) / samples * 1e6,
                    "client_cpu_us_a_sample": sum(one.client_cpu for one in parts) / samples * 1e6,
                }
            )
    return rows


def show(appended: dict[str, float], rows: list[dict[str, Any]], sides: list[Side]) -> None:
    print(table(["one scrape", *appended], [["Store.append", *appended.values()]]), "\n")
    peers = {one["case"]: one["samples_a_second"] for one in rows[1::2]}
    head = [
        "remote write",
        "samples a request",
        "samples/s",
        "to Prometheus",
        "server us",
        "client us",
    ]
    body = [
        [
            one["name"],
            one["case"],
            one["samples_a_second"],
            one["samples_a_second"] / peers[one["case"]],
            one["server_cpu_us_a_sample"],
            one["client_cpu_us_a_sample"],
        ]
        for one in rows
    ]
    print(table(head, body))
    memory = ", ".join(f"{side.name} {anonymous_mb(side.pid):.0f} MB" for side in sides)
    print(f"CPU is of one sample; loop lag {sides[0].lag * 1000:.0f} ms at most; RssAnon: {memory}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=40, help="scrapes, a part")
    parser.add_argument("--parts", type=int, default=5, help="of each case, by turns")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    load = RuleLoad(options.series)
    appended = append(load, 300)
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        (folders[0] / "tocsin.yml").write_text(AGENT)
        ports = [free_port(), free_port()]
        pids = [
            stack.enter_context(agent(ports[0], folders[0], "--config.file=tocsin.yml")),
            stack.enter_context(prometheus(ports[1], folders[1], "global: {}\n")),
        ]
        names = ("tocsin", "prometheus")
        sides = [Side(*one) for one in zip(names, ports, pids, strict=True)]
        remote_write(options, load, sides)
        rows = figures(sides)
        show(appended, rows, sides)
    about = {**circumstances(), "connections": options.connections, "loop_lag": sides[0].lag}
    write_json(options.json, {**about, "append": appended, "remote_write": rows})


if __name__ == "__main__":
    main()
