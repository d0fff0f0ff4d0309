"""A day of 100 alerting rules on 1,500 series, replayed by `alertctl backtest` and by vmalert.

The same samples lie in a file of OpenMetrics, in the data directory of an agent, in blocks of a
real Prometheus (promtool), and in a VictoriaMetrics (remote write). Ours reads each of the first
three; `vmalert -replay` reads the last, and writes what fires back to it. Seconds are those of the
processor: of the command, and of the server while it was asked. Ours also plays incidents and
pages, which vmalert does not.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from measuring.processes import agent, binary, free_port, prometheus, victoria_metrics
from measuring.rule_day import RuleDay, rule_file
from measuring.table import circumstances, table, write_json

SOURCES = ("file", "agent", "prometheus", "vmalert")
QUIET = "collect: {host: 0s, engines: 0s, gpu: 0s, processes: 0s}\nrule_files: []\n"
HOUR_MS = 3_600_000


def spent(pid: int) -> float:
    """Seconds of the processor that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def of_ended() -> float:
    times = os.times()
    return times.children_user + times.children_system


def measured(command: Sequence[str], server: int | None = None) -> tuple[dict[str, float], str]:
    """Seconds, and what the command printed."""
    before, began = of_ended(), time.monotonic()
    of_server = spent(server) if server else 0.0
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr[-2000:]
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
    found = {"command": of_ended() - before, "wall": time.monotonic() - began}
    found["server"] = spent(server) - of_server if server else 0.0
    return found, done.stdout + done.stderr


def ours(day: RuleDay, folder: Path, *source: str, pid: int | None = None) -> dict[str, Any]:
    alertctl = str(Path(sys.executable).parent / "alertctl")
    before = ["--timeout=300", *source] if source and source[0] == "--url" else []
    command = [alertctl, *before, "backtest", str(folder / "rules.yml"), "-o", "json"]
    command += [] if before else list(source)
    command += ["--start", str(day.start_ms // 1000), "--end", str(day.end_ms // 1000)]
    found, out = measured(command, pid)
    shown, _ = json.JSONDecoder().raw_decode(out)
    fired = sum(rule["fired"] for rule in shown["rules"])
    return {**found, "fired": fired, "incidents": shown["incidents"], "pages": shown["pages"]}


def from_file(day: RuleDay, folder: Path) -> dict[str, Any]:
    day.to_file(folder / "day.om")
    return ours(day, folder, "--samples", str(folder / "day.om"))


def from_agent(day: RuleDay, folder: Path) -> dict[str, Any]:
    day.to_directory(folder / "storage" / "samples")
    (folder / "tocsin.yml").write_text(QUIET)
    port = free_port()
    arguments = ("--config.file=tocsin.yml", "--storage.path=storage", "--no-worker")
    with agent(port, folder, *arguments) as pid:
        return ours(day, folder, "--url", f"http://127.0.0.1:{port}", pid=pid)


def from_prometheus(day: RuleDay, folder: Path) -> dict[str, Any]:
    day.to_file(folder / "day.om")
    blocks = [binary("promtool"), "tsdb", "create-blocks-from", "openmetrics", "day.om", "data"]
    subprocess.run(blocks, cwd=folder, check=True, capture_output=True)
    port = free_port()
    with prometheus(port, folder, "global: {}\n", "--storage.tsdb.retention.time=30d") as pid:
        return ours(day, folder, "--url", f"http://127.0.0.1:{port}", pid=pid)


def by_vmalert(day: RuleDay, folder: Path) -> dict[str, Any]:
    port = free_port()
    with victoria_metrics(port, folder) as pid:
        day.to_server(port)
        urlopen(f"http://127.0.0.1:{port}/internal/force_flush").close()
        url = f"http://127.0.0.1:{port}"
        command = [
            binary("vmalert", "victoria-metrics"),
            f"-rule={folder / 'rules.yml'}",
            f"-datasource.url={url}",
            f"-remoteWrite.url={url}",
            f"-replay.timeFrom={_clock(day.start_ms)}",
            f"-replay.timeTo={_clock(day.end_ms)}",
            "-replay.rulesDelay=1ms",
            "-replay.disableProgressBar",
            f"-httpListenAddr=127.0.0.1:{free_port()}",
        ]
        found, said = measured(command, pid)
        imported = re.search(r"Imported (\d+) samples", said)
        if imported is None:
            raise SystemExit(f"vmalert did not tell what it wrote:\n{said[-2000:]}")
        return {**found, "written": int(imported[1])}


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%FT%TZ")


WAYS = dict(zip(SOURCES, (from_file, from_agent, from_prometheus, by_vmalert), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench backtest", description=__doc__)
    parser.add_argument("--series", type=int, default=1500)
    parser.add_argument("--rules", type=int, default=100)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--every", type=float, default=15.0, help="seconds between samples")
    parser.add_argument("--only", choices=SOURCES, action="append", help="again for more than one")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    ago_ms = round((options.hours + 1) * HOUR_MS)
    start_ms = (round(time.time() * 1000) - ago_ms) // HOUR_MS * HOUR_MS
    day = RuleDay(start_ms, options.series, options.every, options.hours)
    result: dict[str, Any] = {"circumstances": circumstances(), "samples": day.values.size}
    for name in options.only or SOURCES:
        with tempfile.TemporaryDirectory() as folder:
            rules = rule_file(options.rules, "1m", f"{options.every:g}s")
            (Path(folder) / "rules.yml").write_text(rules)
            result[name] = WAYS[name](day, Path(folder))
    show(result)
    write_json(options.json, result)


def show(result: dict[str, Any]) -> None:
    peer = result.get("vmalert")
    theirs = peer["command"] + peer["server"] if peer else 0.0
    rows = []
    for name in (one for one in SOURCES if one in result):
        one = result[name]
        whole = one["command"] + one["server"]
        counts = [str(one.get(key, "-")) for key in ("fired", "incidents", "pages", "written")]
        ratio = f"{whole / theirs:.2f}" if theirs else "-"
        seconds = [f"{one[key]:.1f}" for key in ("command", "server", "wall")]
        rows.append((name, *seconds, ratio, *counts))
    head = ("", "command s", "server s", "wall s", "of vmalert's", "fired")
    print(table((*head, "incidents", "pages", "samples written"), rows))
    print(f"{result['samples']:,} samples; load average {result['circumstances']['load_average']}")


if __name__ == "__main__":
    main()
