"""/metrics of `tocsin exporter` beside node_exporter's, in one run and by turns.

Both are asked as Prometheus asks, over one kept-alive connection each. The pause between two turns
is longer than the time for which the agent reuses its cheap readings, so that every answer of
ours, like every one of theirs, reads /proc anew. node_exporter runs twice: as installed, and with
only the collectors that we have.
"""

import argparse
import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tocsin_exporter.collectors import COLLECTORS
from tocsin_exporter.scrape_manager import REFRESH_SECONDS

HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}
OURS = (
    "from tocsin_exporter.exporter import *; "
    "run_exporter(ExporterOptions(listen_addresses=({!r},)))"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def commands(node: str) -> dict[str, tuple[int, list[str]]]:
    """Name -> (port, command) of what is compared; ours comes first."""
    ports = [free_port() for _ in range(3)]
    address = "--web.listen-address=127.0.0.1:{}"
    ours = [name for name, entry in COLLECTORS.items() if entry.area == "host"]
    same = ["--collector.disable-defaults", *(f"--collector.{name}" for name in ours)]
    code = OURS.format(f"127.0.0.1:{ports[0]}")
    return {
        "tocsin": (ports[0], [sys.executable, "-c", code]),
        "node_exporter": (ports[1], [node, address.format(ports[1])]),
        "node_exporter, our collectors": (ports[2], [node, address.format(ports[2]), *same]),
    }


def fetch(connection: http.client.HTTPConnection) -> tuple[float, bytes]:
    """Milliseconds from request to the last byte, and the body as it came."""
    started = time.perf_counter()
    connection.request("GET", "/metrics", headers=HEADERS)
    response = connection.getresponse()
    body = response.read()
    took = (time.perf_counter() - started) * 1000
    if response.status != 200:
        raise SystemExit(f"/metrics answered {response.status}")
    return took, gzip.decompress(body) if response.headers["content-encoding"] else body


def connect(port: int, patience: float = 20.0) -> http.client.HTTPConnection:
    until = time.monotonic() + patience
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.connect()
            return connection
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def samples(body: bytes) -> int:
    return sum(1 for line in body.splitlines() if line and not line.startswith(b"#"))


def measure(ports: dict[str, int], turns: int, pause: float) -> dict[str, dict[str, float]]:
    connections = {name: connect(port) for name, port in ports.items()}
    took: dict[str, list[float]] = {name: [] for name in ports}
    pages: dict[str, bytes] = {}
    for turn in range(turns + 3):  # the first three warm up
        time.sleep(pause)
        for name in list(ports) if turn % 2 else reversed(ports):
            milliseconds, pages[name] = fetch(connections[name])
            if turn >= 3:
                took[name].append(milliseconds)
    return {name: figures(took[name], pages[name]) for name in ports}


def figures(took: list[float], page: bytes) -> dict[str, float]:
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {
        "samples": samples(page),
        "bytes": len(page),
        "p50_ms": round(statistics.median(took), 3),
        "p99_ms": round(cuts[98], 3),
    }


def show(result: dict[str, dict[str, float]], turns: int) -> None:
    print(f"{'':32}{'samples':>9}{'p50 ms':>9}{'p99 ms':>9}{'ours / p50':>12}")
    ours = result["tocsin"]["p50_ms"]
    for name, row in result.items():
        ratio = ours / row["p50_ms"]
        numbers = f"{row['samples']:>9}{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}{ratio:>12.2f}"
        print(f"{name:32}{numbers}")
    print(f"{turns} turns each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--pause", type=float, default=REFRESH_SECONDS * 1.25, help="seconds")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    node = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if node is None:
        raise SystemExit("node_exporter is not installed: apt-get install prometheus-node-exporter")
    chosen = commands(node)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen(command, **quiet) for _, command in chosen.values()]
    try:
        result = measure({n: p for n, (p, _) in chosen.items()}, options.turns, options.pause)
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(10)
    show(result, options.turns)
    if options.json:
        about = {"turns": options.turns, "cpus": os.cpu_count(), "results": result}
        options.json.write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
