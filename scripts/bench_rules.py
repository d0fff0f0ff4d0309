"""One group of 100 alerting rules on 5,000 series, evaluated by the real Prometheus and by us.

Prometheus scrapes a target over HTTP; the same pages are appended to our store, which keeps them on
disk as in production. Both were given some minutes of history first, so that every window is full.
Each evaluation of ours follows one of Prometheus's, so the two never run at once. A rule's time is
what each says of itself: the query, the states of the alerts, and the writing of ALERTS. Once with
nothing to say and once with many alerts firing.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from measuring.processes import free_port, prometheus
from measuring.remote_write import RemoteWriter
from measuring.rule_load import KINDS, RuleLoad, kind_of, rule_file
from measuring.table import circumstances, table, write_json
from measuring.target import Target

from tocsin_alerting.config.load import incident_config, load
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.loops.rule_loop import DispatcherInstances
from tocsin_alerting.loops.source_status import StoreSources
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.rules.alert import AlertState
from tocsin_alerting.rules.evaluation import EvaluationDeps
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule_file import read
from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.target_labels import stored_labels, synthetic_labels
from tocsin_exporter.snapshot import Snapshot, Source

JOB = "load"
GROUP = "group"
DAY_MS = 86_400_000
CONFIG = """
global: {{scrape_interval: {every}, scrape_timeout: {every}, evaluation_interval: {every}}}
rule_files: [rules.yml]
scrape_configs:
- job_name: load
  static_configs: [{{targets: ["{address}"]}}]
"""
Times = dict[str, list[float]]
"""Milliseconds by kind of rule, and of the group."""


def now_ms() -> int:
    return round(time.time() * 1000)


class Ours:
    """Store on disk, engine, rules and the incidents' journal, wired as the agent wires them."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.source = source
        self.disk = DiskPersistence(folder, BlockStore(folder, 15 * DAY_MS, 2**31))
        self.store = Store(persistence=self.disk)
        self.disk.start(self.store)
        self.disk.run(time.monotonic)
        self.dispatcher = Dispatcher(
            incident_config(load(None)), SqliteJournal(folder / "j.db"), random.random
        )
        self.instances = DispatcherInstances(self.dispatcher, now_ms)
        deps = EvaluationDeps(
            engine=QueryEngine(self.store),
            write=self.store.append_rule_samples,
            sources=StoreSources(self.store, lambda: [source], lambda: True, now_ms),
            seconds=time.perf_counter,
        )
        self.groups = Groups(deps, 5000)

    async def start(self, rules: str) -> None:
        await self.dispatcher.start(now_ms())
        self.groups.load([read(rules, "rules.yml")], now_ms())
        await self.dispatcher.reconcile([], (), now_ms())

    def scrape(self, load: RuleLoad, page: int, at_ms: int) -> None:
        self.store.append(Snapshot(self.source, at_ms, True, load.layout, load.values(page)))

    async def evaluate(self) -> tuple[Times, float]:
        """The times of one evaluation, and the ms until incidents and journal had it too."""
        (progress,) = self.groups.all
        began, at_ms = time.perf_counter(), now_ms()
        events = await self.groups.evaluate(progress, at_ms)
        if events:
            await self.dispatcher.handle(events, at_ms)
        await self.groups.persist(progress, self.instances)
        times: Times = defaultdict(list)
        for rule in progress.rules:
            times[kind_of(rule.rule.name)].append(rule.evaluation_seconds * 1000)
        times[GROUP] = [progress.evaluation_seconds * 1000]
        return times, (time.perf_counter() - began) * 1000

    def alerts(self) -> Counter[str]:
        (progress,) = self.groups.all
        states = (
            (kind_of(rule.rule.name), alert.state)
            for rule in progress.rules
            for alert in rule.alerts.values()
        )
        return Counter(kind for kind, state in states if state is AlertState.FIRING)

    async def close(self) -> None:
        await self.dispatcher.close(now_ms())
        self.disk.close()


class Theirs:
    """The group as the real Prometheus tells of it."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/rules"
        self._last = ""

    def next(self, every: float) -> Mapping[str, Any]:
        """Waits for an evaluation that was not seen yet; the group, after it."""
        while True:
            with urlopen(self._url, timeout=60) as answer:
                groups = json.load(answer)["data"]["groups"]
            last = groups[0]["lastEvaluation"] if groups else ""
            if last[:4] not in ("", "0001") and last != self._last:
                self._last = last
                return dict(groups[0])
            time.sleep(every / 10)

    def wait_for_turn(self, group: Mapping[str, Any], every: float) -> None:
        """Sleeps until shortly after the next evaluation should have ended: asking has a price."""
        began = datetime.fromisoformat(group["lastEvaluation"]).timestamp()
        time.sleep(max(0.0, began + every + 1.2 * group["evaluationTime"] + 0.1 - time.time()))


def times_of(group: Mapping[str, Any]) -> Times:
    times: Times = defaultdict(list)
    for rule in group["rules"]:
        times[kind_of(rule["name"])].append(rule["evaluationTime"] * 1000)
    times[GROUP] = [group["evaluationTime"] * 1000]
    return times


def firing(group: Mapping[str, Any]) -> Counter[str]:
    states = ((kind_of(r["name"]), a["state"]) for r in group["rules"] for a in r["alerts"])
    return Counter(kind for kind, state in states if state == "firing")


def fill(load: RuleLoad, target: Target, ours: Ours, port: int, seconds: float) -> None:
    """The same history for both: the pages before page 0, at their times."""
    pages = range(-int(seconds / load.every_seconds), 0)
    times = np.array([(target.began + k * load.every_seconds) * 1000 for k in pages], np.int64)
    values = np.stack([load.values(k) for k in pages], axis=1)
    for k, at_ms in zip(pages, times.tolist(), strict=True):
        ours.scrape(load, k, at_ms)
    series = [stored_labels(ours.source, one) for one in load.layout.series]
    series += synthetic_labels(ours.source)
    values = np.vstack([values, np.ones((3, len(times)))])
    writer = RemoteWriter(port, series)
    for start in range(0, len(times), 20):
        writer.write(times[start : start + 20], values[:, start : start + 20])


async def measure(options: argparse.Namespace, fires: bool, folder: Path) -> dict[str, Any]:
    load, port, every = RuleLoad(options.series, fires, options.every), free_port(), options.every
    target = Target(load)
    interval = f"{every * 1000:.0f}ms"
    rules = rule_file(options.each, options.waits, interval)
    (folder / "rules.yml").write_text(rules)
    config = CONFIG.format(every=interval, address=target.address)
    (folder / "ours").mkdir()
    ours = Ours(folder / "ours", Source(JOB, target.address))
    with prometheus(port, folder, config):
        fill(load, target, ours, port, options.history)
        await ours.start(rules)
        found = await turns(options, fires, load, target, ours, Theirs(port))
    await ours.close()
    target.close()
    return found


async def turns(
    options: argparse.Namespace,
    fires: bool,
    load: RuleLoad,
    target: Target,
    ours: Ours,
    theirs: Theirs,
) -> dict[str, Any]:
    """Evaluations by turns: first until what fires does so, then those that count."""
    begin = time.time() + (options.warm_up if fires else 2 * options.every)
    our_times: Times = defaultdict(list)
    their_times: Times = defaultdict(list)
    rounds, slowest = [], 0.0
    while True:
        group = theirs.next(options.every)
        ours.scrape(load, target.page(time.time()), now_ms())
        mine, whole = await ours.evaluate()
        if time.time() < begin:
            slowest = max(slowest, whole)
        else:
            rounds.append(whole)
            for kind, found in times_of(group).items():
                their_times[kind] += found
                our_times[kind] += mine[kind]
            if time.time() >= begin + options.seconds:
                break
        theirs.wait_for_turn(group, options.every)
    return {
        "evaluations": len(rounds),
        "kinds": compared(our_times, their_times),
        "round_ms": statistics.median(rounds),
        "slowest_round_before_ms": slowest,
        "firing": {"ours": ours.alerts(), "theirs": firing(group)},
    }


def compared(ours: Times, theirs: Times) -> dict[str, dict[str, float]]:
    """The medians of both by kind and for the group, and ours through theirs."""
    found = {}
    for kind in (*KINDS, GROUP):
        mine, peer = statistics.median(ours[kind]), statistics.median(theirs[kind])
        found[kind] = {"theirs_ms": peer, "ours_ms": mine, "ratio": mine / peer}
    return found


def show(name: str, found: Mapping[str, Any]) -> None:
    alerts, peers = found["firing"]["ours"], found["firing"]["theirs"]
    print(f"\n{name}: {found['evaluations']} evaluations each, medians")
    head = ("", "Prometheus ms", "ours ms", "ours / theirs", "firing", "theirs")
    rows = [
        (kind, one["theirs_ms"], one["ours_ms"], one["ratio"], alerts[kind], peers[kind])
        for kind, one in found["kinds"].items()
        if kind != GROUP
    ]
    one = found["kinds"][GROUP]
    counts = (alerts.total(), peers.total())
    print(table(head, [*rows, (GROUP, one["theirs_ms"], one["ours_ms"], one["ratio"], *counts)]))
    told = f"with incidents and journal {found['round_ms']:.1f} ms"
    if found["slowest_round_before_ms"]:
        told += f"; the slowest while alerts began {found['slowest_round_before_ms']:.0f} ms"
    print(told)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench rules", description=__doc__)
    parser.add_argument("--series", type=int, default=5000)
    parser.add_argument("--each", type=int, default=20, help="rules of each kind")
    parser.add_argument("--every", type=float, default=5.0, help="seconds from scrape to scrape")
    parser.add_argument("--seconds", type=float, default=60.0, help="measured, for each state")
    parser.add_argument("--for", dest="waits", default="1m", help="the rules' `for`")
    parser.add_argument("--warm-up", type=float, default=75.0, help="until alerts fire, seconds")
    parser.add_argument("--history", type=float, default=360.0, help="seconds given to both first")
    parser.add_argument("--only", choices=("quiet", "firing"))
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    result: dict[str, Any] = {"circumstances": circumstances(), "series": options.series}
    for name in (options.only,) if options.only else ("quiet", "firing"):
        with tempfile.TemporaryDirectory() as folder:
            result[name] = asyncio.run(measure(options, name == "firing", Path(folder)))
        show(name, result[name])
    write_json(options.json, result)


if __name__ == "__main__":
    main()
