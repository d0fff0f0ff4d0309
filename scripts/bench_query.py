"""What dashboards ask, end to end over HTTP, of Prometheus, VictoriaMetrics and a running agent.

All hold the same samples: ours in a data directory that the agent is started on, theirs by remote
write. They are asked by turns, each over a kept-alive connection without compression. Our answers
are compared with Prometheus's; VictoriaMetrics means other windows by the same query, so only how
many series it finds is. Its cache of answers is off. Steps lie between the scrapes, where
Prometheus 2 and 3 mean the same by a window.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring.client import Client, Form, difference, entries
from measuring.history import Stream, to_directory, to_prometheus
from measuring.processes import agent, free_port, prometheus, victoria_metrics
from measuring.rule_load import RuleLoad
from measuring.table import circumstances, table, write_json

from tocsin_exporter.snapshot import Source

HOUR, DAY = 3600.0, 86_400.0
NAMED = "rate of 1,665 counters, 1 h"
CONFIG = "global: {}\n"


@dataclass(frozen=True)
class Question:
    path: str
    form: Form


def questions(end: float, days: float) -> dict[str, Question]:
    """By name; the first is the one with a demand on it."""

    def over(seconds: float, step: int, query: str) -> Question:
        times = {"start": f"{end - seconds:.3f}", "end": f"{end:.3f}", "step": str(step)}
        return Question("query_range", {"query": query, **times})

    hour = {"start": f"{end - HOUR:.3f}", "end": f"{end:.3f}"}
    quantile = "histogram_quantile(0.95, sum by (le, shard) (rate(b_bucket{job='load'}[5m])))"
    return {
        NAMED: over(HOUR, 15, 'rate(c{job="load"}[5m])'),
        "sum by of it": over(HOUR, 15, 'sum by (shard) (rate(c{job="load"}[5m]))'),
        "histogram_quantile, 1 h": over(HOUR, 15, quantile),
        "84 gauges, 6 h": over(6 * HOUR, 15, 'gauge{job="load",shard="s1"}'),
        f"50 rates, {days:g} d by 1 h": over(days * DAY, 3600, 'rate(c{job="long"}[1h])'),
        f"avg of gauges, {days:g} d": over(days * DAY, 3600, 'avg(gauge{job="long"})'),
        "a sum of rates, now": Question(
            "query", {"query": 'sum(rate(c{job="load"}[5m]))', "time": f"{end:.3f}"}
        ),
        "/labels, 1 h": Question("labels", {"match[]": '{job="load"}', **hour}),
        "/label/replica/values": Question(
            "label/replica/values", {"match[]": '{job="load"}', **hour}
        ),
        "/series of the counters": Question("series", {"match[]": 'c{job="load"}', **hour}),
    }


def streams(options: argparse.Namespace, end_ms: int) -> list[Stream]:
    """5,000 series for some hours every 15 s, and 150 for days every minute."""
    load = RuleLoad(options.series, True, 15.0)
    long = RuleLoad(min(150, options.series), True, 60.0)
    return [
        Stream(Source("load", "a:1"), load, int(options.hours * 240) + 1, end_ms),
        Stream(Source("long", "b:1"), long, int(options.days * 1440) + 1, end_ms),
    ]


def measure(ports: Mapping[str, int], asked: Mapping[str, Question], turns: int) -> dict[str, Any]:
    clients = {name: Client(port) for name, port in ports.items()}
    found = {}
    for name, one in asked.items():
        took: dict[str, list[float]] = {side: [] for side in clients}
        bodies: dict[str, bytes] = {}
        for turn in range(turns + 1):  # the first warms up
            for side in sorted(clients, reverse=bool(turn % 2)):
                form = {**one.form, "nocache": "1"} if side == "victoria" else one.form
                milliseconds, bodies[side] = clients[side].ask(one.path, form)
                if turn:
                    took[side].append(milliseconds)
        median = {side: statistics.median(some) for side, some in took.items()}
        mine, theirs, victoria = (median[side] for side in ("ours", "theirs", "victoria"))
        found[name] = {
            "theirs_ms": theirs,
            "victoria_ms": victoria,
            "ours_ms": mine,
            "ratio": mine / min(theirs, victoria),
            "victoria_series": entries(bodies["victoria"]),
            "series": entries(bodies["ours"]),
            "bytes": len(bodies["ours"]),
            "difference": difference(bodies["ours"], bodies["theirs"]),
        }
    return found


def side_by_side(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Fills all three, starts them, and asks them."""
    end = int(time.time()) // 15 * 15
    history = streams(options, end * 1000)
    ours, theirs, victoria = (folder / name for name in ("ours", "theirs", "victoria"))
    for one in (ours, theirs, victoria):
        one.mkdir()
    ports = {"ours": free_port(), "theirs": free_port(), "victoria": free_port()}
    flags = ["--storage.tsdb.retention.time=30d"]
    arguments = ["--no-worker", "--storage.path=data", "--engine.url=http://127.0.0.1:9"]
    with (
        prometheus(ports["theirs"], theirs, CONFIG, *flags),
        victoria_metrics(ports["victoria"], victoria),
    ):
        to_prometheus(history, ports["theirs"])
        to_prometheus(history, ports["victoria"])
        to_directory(history, ours / "data")
        with agent(ports["ours"], ours, *arguments):
            time.sleep(options.settle)
            # Between two scrapes, and not after the last.
            return measure(ports, questions(end - 8.0, options.days), options.turns)


def show(found: Mapping[str, Any], turns: int) -> None:
    head = ("", "Prometheus ms", "VictoriaMetrics ms", "ours ms", "ours / faster one", "KiB",
            "as Prometheus", "series")  # fmt: skip
    rows = [
        (name, r["theirs_ms"], r["victoria_ms"], r["ours_ms"], r["ratio"], r["bytes"] // 1024,
         r["difference"] or "yes", f"{r['series']} / {r['victoria_series']}")
        for name, r in found.items()
    ]  # fmt: skip
    print(table(head, rows))
    print(f"{turns} turns each, medians")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench query", description=__doc__)
    parser.add_argument("--series", type=int, default=5000)
    parser.add_argument("--hours", type=float, default=6.5, help="of those series")
    parser.add_argument("--days", type=float, default=15.0, help="of 150 series more")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--settle", type=float, default=10.0, help="seconds after the start")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    result: dict[str, Any] = {"circumstances": circumstances(), "turns": options.turns}
    with tempfile.TemporaryDirectory() as folder:
        result["questions"] = side_by_side(options, Path(folder))
    show(result["questions"], options.turns)
    write_json(options.json, result)


if __name__ == "__main__":
    main()
