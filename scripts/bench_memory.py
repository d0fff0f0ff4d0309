"""What history costs: bytes on disk beside Prometheus's blocks, and memory while it is served.

disk: pages of our own agent with its worker under load, recorded every 5 s now or before (--pages),
as blocks by promtool and as our segments. Identical samples, but for the stale markers that ours
hold besides.

memory: an agent on a data directory with 15 days of 1,500 series every 15 s, at rest and while
clients ask what dashboards ask without a pause; RssAnon, every 50 ms. A Prometheus with the same
samples, restarted and asked the same, beside it.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

from measuring.blocks import blocks, segments
from measuring.client import Client, Form
from measuring.history import Stream, to_directory, to_prometheus
from measuring.processes import agent, anonymous_mb, free_port, prometheus
from measuring.recording import record
from measuring.rule_load import RuleLoad
from measuring.table import circumstances, table, write_json

from tocsin_exporter.snapshot import Source

HOUR, DAY = 3600, 86_400
WHERE = "--storage.path=data"


def disk(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    recording = options.pages or folder / "pages"
    if options.pages is None:
        (folder / "agent").mkdir()
        config = folder / "agent" / "tocsin.yml"
        config.write_text(f"worker: {{port: {free_port()}}}\n")
        more = ["--config.file=tocsin.yml", WHERE, "--engine.port", str(free_port())]
        port = free_port()
        with agent(port, folder / "agent", f"--load={options.load:g}", *more):
            record(f"http://127.0.0.1:{port}/metrics", recording, options.minutes * 60)
    (folder / "ours").mkdir()
    (folder / "theirs").mkdir()
    theirs, chunks = blocks(recording, folder / "theirs")
    ours, samples = segments(recording, folder / "ours")
    return {
        "pages": len(list(recording.glob("*.prom.gz"))),
        "samples": samples,
        "theirs_bytes": theirs,
        "chunks_bytes": chunks,
        "ours_bytes": ours,
        "ratio": ours / theirs,
    }


def forms(end: float, days: float) -> list[tuple[str, Form]]:
    """What a client asks, again and again."""

    def over(seconds: float, step: float, query: str) -> tuple[str, Form]:
        times = {"start": f"{end - seconds:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        return "query_range", {"query": query, **times}

    long = {"start": f"{end - days * DAY:.3f}", "end": f"{end:.3f}"}
    return [
        over(HOUR, 15, "rate(c[5m])"),
        over(HOUR, 15, "sum by (shard) (rate(c[5m]))"),
        over(DAY, 60, 'gauge{shard="s1"}'),
        over(DAY, 300, "histogram_quantile(0.95, sum by (le, shard) (rate(b_bucket[10m])))"),
        over(days * DAY, HOUR, 'rate(c{shard="s2"}[1h])'),
        over(days * DAY, HOUR, "avg by (zone) (gauge)"),
        ("labels", long),
        ("series", {"match[]": "gauge", **long}),
        ("label/replica/values", long),
    ]


class Watch:
    """RssAnon of a process every 50 ms, until it is closed."""

    def __init__(self, pid: int) -> None:
        self._pid, self._over = pid, threading.Event()
        self.seen: list[float] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.seen.append(anonymous_mb(self._pid))

    def close(self) -> list[float]:
        self._over.set()
        self._thread.join()
        return self.seen


def watched(pid: int, port: int, options: argparse.Namespace, end: float) -> dict[str, Any]:
    """MB at rest, while queries run, and afterwards; the time of each query once it was asked."""
    time.sleep(options.settle)
    found: dict[str, Any] = {"rest_mb": anonymous_mb(pid)}
    watch, until = Watch(pid), time.time() + options.seconds
    asked = forms(end, options.days)
    with ThreadPoolExecutor(options.clients) as clients:
        turns = [asked[n:] + asked[:n] for n in range(0, 2 * options.clients, 2)]
        every = clients.map(lambda turn: ask_until(port, turn, until), turns)
    seen = watch.close()
    time.sleep(options.settle)
    times: dict[str, list[float]] = defaultdict(list)
    for name, milliseconds in chain.from_iterable(every):
        times[name].append(milliseconds)
    found |= {
        "serving_mb": statistics.median(seen),
        "peak_mb": max(seen),
        "after_mb": anonymous_mb(pid),
        "ms": {name: statistics.median(one) for name, one in times.items()},
    }
    return found


def ask_until(port: int, asked: list[tuple[str, Form]], until: float) -> list[tuple[str, float]]:
    """One client: every query again and again, and the milliseconds that each took."""
    client = Client(port)
    found = []
    while time.time() < until:
        for path, form in asked:
            found.append((form.get("query", path), client.ask(path, form)[0]))
    client.close()
    return found


def served(started: float, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """How long the start took, and what `work` found."""
    return {"start_seconds": time.time() - started} | work()


def memory(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    end = int(time.time()) // 15 * 15
    load = RuleLoad(options.series, True, 15.0)
    pages = int(options.days * DAY / 15)
    history = [Stream(Source("load", "a:1"), load, pages, end * 1000)]
    ours, port = folder / "ours", free_port()
    ours.mkdir()
    began = time.time()
    to_directory(history, ours / "data")
    found: dict[str, Any] = {"samples": history[0].samples, "build_seconds": time.time() - began}
    found["segments_bytes"] = sum(o.stat().st_size for o in ours.glob("data/samples/*"))
    began = time.time()
    with agent(port, ours, "--no-worker", WHERE, "--engine.url=http://127.0.0.1:9") as pid:
        found["ours"] = served(began, lambda: watched(pid, port, options, end - 8.0))
    if options.peer:
        found["theirs"] = peer(options, folder / "theirs", history, end - 8.0)
    return found


def peer(
    options: argparse.Namespace, folder: Path, history: list[Stream], end: float
) -> dict[str, Any]:
    folder.mkdir()
    port, flags = free_port(), ["--storage.tsdb.retention.time=30d"]
    with prometheus(port, folder, "global: {}\n", *flags):
        to_prometheus(history, port)
    began = time.time()
    with prometheus(port, folder, "global: {}\n", *flags) as pid:
        return served(began, lambda: watched(pid, port, options, end))


def show_disk(found: dict[str, Any]) -> None:
    head = ("disk", "bytes", "bytes / sample")
    rows = [
        (name, found[key], found[key] / found["samples"])
        for name, key in (
            ("Prometheus's blocks", "theirs_bytes"),
            ("  their chunks alone", "chunks_bytes"),
            ("our segments", "ours_bytes"),
        )
    ]
    print(table(head, rows))
    print(
        f"{found['pages']} pages, {found['samples']:,} samples: ours {found['ratio']:.3f} times\n"
    )


def show_memory(found: dict[str, Any]) -> None:
    sides = {"ours": "the agent", "theirs": "Prometheus"}
    rows = [
        (name, *(found[side][k] for k in ("start_seconds", "rest_mb", "serving_mb", "peak_mb",
                                          "after_mb")))
        for side, name in sides.items()
        if side in found
    ]  # fmt: skip
    head = ("RssAnon, MB", "start s", "at rest", "serving (median)", "peak", "afterwards")
    print(table(head, rows))
    for query, took in found["ours"]["ms"].items():
        theirs = found.get("theirs", {}).get("ms", {}).get(query)
        beside = "" if theirs is None else f" (Prometheus {theirs:.1f} ms)"
        print(f"  {took:8.1f} ms{beside}: {query}")
    print(f"{found['samples']:,} samples on {found['segments_bytes']:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__)
    parser.add_argument("--only", choices=("disk", "memory"))
    parser.add_argument("--pages", type=Path, help="a folder that was recorded before")
    parser.add_argument("--minutes", type=float, default=60.0, help="to record")
    parser.add_argument("--load", type=float, default=0.5, help="chat requests a second")
    parser.add_argument("--series", type=int, default=1500)
    parser.add_argument("--days", type=float, default=15.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of queries")
    parser.add_argument("--clients", type=int, default=2, help="who ask at once")
    parser.add_argument("--settle", type=float, default=10.0, help="seconds before and after them")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="without Prometheus")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    result: dict[str, Any] = {"circumstances": circumstances()}
    for name, work, show in (("disk", disk, show_disk), ("memory", memory, show_memory)):
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                result[name] = work(options, Path(folder))
            show(result[name])
    write_json(options.json, result)


if __name__ == "__main__":
    main()
