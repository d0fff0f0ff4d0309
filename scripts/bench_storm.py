"""Thousands of alerts at once and two seconds later a P0, at the real Alertmanager and at us.

Alertmanager is given the alerts over its API in one request. Ours makes them itself: samples come
by remote write, and rules that run every second fire; so its times have up to a second of waiting
and the evaluation in them. Both tell one webhook, which answers at once. Once with all alerts as
one incident (a group of Alertmanager's), and once with each as one of its own. With --storms ours
tells of these by one summary, as it does unless the configuration says otherwise; --alone leaves
Alertmanager out.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from measuring.processes import agent, binary, free_port, running
from measuring.remote_write import RemoteWriter
from measuring.table import circumstances, table, write_json
from measuring.webhook_counter import WebhookCounter

Push = Callable[[str, bool], None]
"""Begins (True) or ends what an alert says: "Storm", of all machines, or "Fault"."""
BY = {"one": "[alertname]", "each": "[alertname, machine]"}
TEXT = "A longer text that describes what is going on and what to do about it, as many rules have."
STEPS = "{group: {wait: 0s}, steps: [{notify: [{receiver: hook}]}]}"
OURS = """
collect: {{host: 0s, engines: 0s, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: [rules.yml]
group: {{by: {by}}}
receivers: {{hook: {{type: webhook, url: "{url}"}}}}
policies: {{P0: {steps}, P2: {steps}}}
storm: {{incidents: {storm}}}
"""
RULES = """
groups:
- name: storm
  rules:
  - alert: Storm
    expr: Storm == 1
    labels: {{severity: {severity}}}
    annotations: {{summary: "storm on {{{{ $labels.machine }}}}", description: "{text}"}}
- name: fault
  rules:
  - {{alert: Fault, expr: Fault == 1, labels: {{severity: P0}}}}
"""
THEIRS = """
route: {{receiver: hook, group_by: {by}, group_wait: 0s, group_interval: 1s}}
receivers: [{{name: hook, webhook_configs: [{{url: "{url}"}}]}}]
"""


STORM = 20  # the default


def machines(name: str, count: int) -> list[str]:
    return [f"m{number}" for number in range(count if name == "Storm" else 1)]


@contextmanager
def ours(
    folder: Path, options: argparse.Namespace, by: str, url: str
) -> Iterator[tuple[int, int, Push]]:
    limit = STORM if options.storms else 0
    (folder / "tocsin.yml").write_text(OURS.format(by=by, url=url, steps=STEPS, storm=limit))
    (folder / "rules.yml").write_text(RULES.format(severity=options.severity, text=TEXT))
    port = free_port()

    def push(name: str, fires: bool) -> None:
        labels = (("__name__", name), ("instance", ""), ("job", "load"), ("machine", ""))
        series = [
            tuple((key, value or one) for key, value in labels)
            for one in machines(name, options.alerts)
        ]
        times = np.array([round(time.time() * 1000)], np.int64)
        RemoteWriter(port, series).write(times, np.full((len(series), 1), float(fires)))

    arguments = ("--config.file=tocsin.yml", "--storage.path=data", "--no-worker")
    with agent(port, folder, *arguments) as pid:
        yield pid, port, push


@contextmanager
def theirs(
    folder: Path, options: argparse.Namespace, by: str, url: str
) -> Iterator[tuple[int, int, Push]]:
    (folder / "alertmanager.yml").write_text(THEIRS.format(by=by, url=url))
    port = free_port()
    command = [
        binary("prometheus-alertmanager", "prometheus-alertmanager"),
        "--config.file=alertmanager.yml",
        "--storage.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]

    def push(name: str, fires: bool) -> None:
        ends = {} if fires else {"endsAt": datetime.now(UTC).isoformat()}
        severity = options.severity if name == "Storm" else "P0"
        alerts = [
            {
                "labels": {"alertname": name, "severity": severity, "machine": one},
                "annotations": {"summary": f"storm on {one}", "description": TEXT},
                **ends,
            }
            for one in machines(name, options.alerts)
        ]
        headers = {"Content-Type": "application/json"}
        target = f"http://127.0.0.1:{port}/api/v2/alerts"
        urlopen(Request(target, json.dumps(alerts).encode(), headers), timeout=60).close()

    with running(command, port, "/-/ready", folder) as pid:
        yield pid, port, push


def measure(side: Any, options: argparse.Namespace, kind: str) -> dict[str, float]:
    counter = WebhookCounter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with side(folder, options, BY[kind], counter.url) as (pid, port, push):
            time.sleep(2)
            with slowest_answer(port) as slowest:
                found = storm(options, kind, counter, push)
            found["answer s"] = slowest[0]
            status = Path(f"/proc/{pid}/status").read_text()
            found["peak MB"] = int(status.split("VmHWM:")[1].split()[0]) / 1024
            found["MB at the end"] = int(status.split("VmRSS:")[1].split()[0]) / 1024
            used = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            found["CPU s"] = (int(used[11]) + int(used[12])) / 100
            files = [one for one in (folder / "data").rglob("*") if one.is_file()]
            found["disk MB"] = sum(one.stat().st_size for one in files) / 2**20
    return found


@contextmanager
def slowest_answer(port: int) -> Iterator[list[float]]:
    """How long the longest of its answers took meanwhile, asked twenty times a second."""
    slowest, asking = [0.0], threading.Event()

    def ask() -> None:
        while not asking.wait(0.05):
            began = time.time()
            with suppress(OSError):
                urlopen(f"http://127.0.0.1:{port}/-/healthy", timeout=60).close()
            slowest[0] = max(slowest[0], time.time() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield slowest
    finally:
        asking.set()
        thread.join()


def storm(
    options: argparse.Namespace, kind: str, counter: WebhookCounter, push: Push
) -> dict[str, float]:
    count = options.alerts if kind == "each" else 1
    if kind == "each" and options.storms:  # of P0 so many singly, and the summary
        count = STORM + 1 if options.severity == "P0" else 1

    def told(alertname: str, status: str, wanted: int, since: float) -> list[float]:
        names = ("Storm", "TocsinIncidentStorm") if alertname == "Storm" else (alertname,)
        until = time.time() + options.patience
        while True:
            times = [at for name in names for at in counter.times(name, status)]
            if len(times) >= wanted or time.time() > until:
                return [at - since for at in times]
            time.sleep(0.02)

    began = time.time()
    push("Storm", True)
    time.sleep(max(0.0, began + 2 - time.time()))
    fault = time.time()
    push("Fault", True)
    page = told("Fault", "firing", 1, fault)
    firing = told("Storm", "firing", count, began)
    ended = time.time()
    push("Storm", False)
    resolved = told("Storm", "resolved", count, ended)
    return {
        "P0 after s": min(page, default=float("inf")),
        "first s": min(firing, default=float("inf")),
        "last s": max(firing, default=float("inf")),
        "messages": len(firing),
        "end: first s": min(resolved, default=float("inf")),
        "end: last s": max(resolved, default=float("inf")),
        "ends": len(resolved),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench storm", description=__doc__)
    parser.add_argument("--alerts", type=int, default=5000)
    parser.add_argument("--severity", default="P2", choices=("P0", "P2"), help="of the storm")
    parser.add_argument("--alone", action="store_true", help="without Alertmanager")
    parser.add_argument("--storms", action="store_true", help="one summary of many incidents")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds for all messages")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    result: dict[str, Any] = {"circumstances": circumstances(), "alerts": options.alerts}
    for kind in BY:
        sides = {"ours": ours} if options.alone else {"theirs": theirs, "ours": ours}
        found = {name: measure(side, options, kind) for name, side in sides.items()}
        result[kind] = found
        print(f"\n{options.alerts} alerts of {options.severity}, by {BY[kind]}")
        titles = ("Alertmanager", "ours")[-len(found) :]
        rows = [(name, *(one[name] for one in found.values())) for name in found["ours"]]
        print(table(("", *titles), rows))
    write_json(options.json, result)


if __name__ == "__main__":
    main()
