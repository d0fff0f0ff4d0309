"""/metrics of `tocsin exporter` beside node_exporter's, in one run and by turns.

Both are asked as Prometheus asks, over one kept-alive connection each. The pause between two turns
is longer than the time for which the agent reuses its cheap readings, so that every answer of
ours, like every one of theirs, reads /proc anew. node_exporter runs twice: as installed, and with
only the collectors that we have on. We are asked twice: for the whole page, and for the host's
metrics alone, which are about as many as node_exporter's. "cpu ms" is the processor's time for an
answer, without that of an idle second, which is "idle %" of one core.
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

from tocsin_exporter.collector_settings import ENABLED
from tocsin_exporter.scrape_manager import REFRESH_SECONDS

HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}
PATHS = {"/metrics": "", "/metrics?collect[]=host": ", the host alone"}
SETTLE_S = 3.0
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
    ours = [f"--collector.{name}" for name, is_on in ENABLED.items() if is_on]
    same = ["--collector.disable-defaults", *ours]
    code = OURS.format(f"127.0.0.1:{ports[0]}")
    return {
        "tocsin": (ports[0], [sys.executable, "-c", code]),
        "node_exporter": (ports[1], [node, address.format(ports[1])]),
        "node_exporter, our collectors": (ports[2], [node, address.format(ports[2]), *same]),
    }


def fetch(connection: http.client.HTTPConnection, path: str) -> tuple[float, bytes]:
    """Milliseconds from request to the last byte, and the body as it came."""
    started = time.perf_counter()
    connection.request("GET", path, headers=HEADERS)
    response = connection.getresponse()
    body = response.read()
    took = (time.perf_counter() - started) * 1000
    if response.status != 200:
        raise SystemExit(f"{path} answered {response.status}")
    return took, gzip.decompress(body) if response.headers["content-encoding"] else body


def cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def idle_ms(pids: dict[str, int], seconds: float) -> dict[str, float]:
    """Milliseconds of CPU in a second in which nobody asks."""
    before = {name: cpu_ms(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    return {name: (cpu_ms(pid) - before[name]) / seconds for name, pid in pids.items()}


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


def measure(
    ports: dict[str, int], pids: dict[str, int], turns: int, pause: float
) -> dict[str, dict[str, float]]:
    """One path at a time, so that the CPU of a process is that of one row."""
    for port in ports.values():
        connect(port).close()
    time.sleep(SETTLE_S)
    idle = idle_ms(pids, turns * pause)
    rows: dict[str, dict[str, float]] = {}
    for path, asked in PATHS.items():
        names = [name for name in ports if name == "tocsin" or path == "/metrics"]
        answers = in_turns({name: ports[name] for name in names}, pids, path, turns, pause)
        for name, (took, page, cpu, seconds) in answers.items():
            own = (cpu - idle[name] * seconds) / turns
            rows[f"{name}{asked}"] = figures(took, page, own, idle[name])
    return rows


def in_turns(
    ports: dict[str, int], pids: dict[str, int], path: str, turns: int, pause: float
) -> dict[str, tuple[list[float], bytes, float, float]]:
    """For each its times, its last page, and its CPU in how many seconds."""
    connections = {name: connect(port) for name, port in ports.items()}
    took: dict[str, list[float]] = {name: [] for name in ports}
    pages: dict[str, bytes] = {}
    for turn in range(turns + 3):  # the first three warm up
        if turn == 3:
            before, started = {name: cpu_ms(pids[name]) for name in ports}, time.monotonic()
        time.sleep(pause)
        for name in list(ports) if turn % 2 else reversed(ports):
            milliseconds, pages[name] = fetch(connections[name], path)
            if turn >= 3:
                took[name].append(milliseconds)
    seconds = time.monotonic() - started
    used = {name: cpu_ms(pids[name]) - before[name] for name in ports}
    return {name: (took[name], pages[name], used[name], seconds) for name in ports}


def figures(took: list[float], page: bytes, cpu: float, idle: float) -> dict[str, float]:
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {
        "samples": samples(page),
        "bytes": len(page),
        "p50_ms": round(statistics.median(took), 3),
        "p99_ms": round(cuts[98], 3),
        "cpu_ms": round(cpu, 2),
        "idle_percent": round(idle / 10, 2),
    }


def show(result: dict[str, dict[str, float]], turns: int) -> None:
    heads = "".join(f"{head:>9}" for head in ("samples", "p50 ms", "p99 ms", "cpu ms", "idle %"))
    print(f"{'':32}{heads}")
    for name, row in result.items():
        numbers = (row[key] for key in ("p50_ms", "p99_ms", "cpu_ms", "idle_percent"))
        print(f"{name:32}{row['samples']:>9}{''.join(f'{number:>9.2f}' for number in numbers)}")
    theirs = result["node_exporter"]
    for name in (f"tocsin{asked}" for asked in PATHS.values()):
        p50, p99 = (result[name][key] / theirs[key] for key in ("p50_ms", "p99_ms"))
        print(f"{name} of node_exporter: p50 {p50:.2f}, p99 {p99:.2f}")
    print(f"{turns} turns each, load {os.getloadavg()[0]:.1f}")


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
    nowhere = subprocess.DEVNULL
    running = [
        subprocess.Popen(command, stdout=nowhere, stderr=nowhere) for _, command in chosen.values()
    ]
    pids = {name: process.pid for name, process in zip(chosen, running, strict=True)}
    ports = {name: port for name, (port, _) in chosen.items()}
    try:
        result = measure(ports, pids, options.turns, options.pause)
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
