"""From the moment a value crosses its threshold to the webhook, beside Prometheus + Alertmanager.

One engine's page is scraped by both each second; both evaluate the same rule each second, and
Alertmanager's group_wait is 0. The value crosses at a random moment, goes back when both have told
it, and crosses again when both have told the end. The rule's group has another name for us after
each round of trials, because a name decides when in the second a Prometheus evaluates the group.
"""

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from measuring.processes import agent, binary, free_port, prometheus, running
from measuring.table import circumstances, table, write_json
from measuring.webhook_counter import WebhookCounter

PAGE = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="qwen"}} 1
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="qwen"}} {waiting}
"""
RULES = """
groups:
- name: {group}
  interval: 1s
  rules:
  - alert: QueueLong
    expr: vllm:num_requests_waiting > 100
    labels: {{severity: P0}}
"""
OURS = """
collect: {{host: 0s, engines: 1s, gpu: 0s, processes: 0s}}
evaluation_interval: 1s
rule_files: [rules.yml]
engines: [{{url: "http://127.0.0.1:{engine}"}}]
receivers: {{hook: {{type: webhook, url: "{url}"}}}}
policies: {{P0: {{group: {{wait: 0s}}, steps: [{{notify: [{{receiver: hook}}]}}]}}}}
reopen_within: 1s
"""
PROMETHEUS = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]}}
scrape_configs: [{{job_name: llm, static_configs: [{{targets: ["127.0.0.1:{engine}"]}}]}}]
"""
ALERTMANAGER = """
route: {{receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s}}
receivers: [{{name: hook, webhook_configs: [{{url: "{url}"}}]}}]
"""


class Engine:
    """Speaks vLLM's metrics on a free port; `waiting` is its queue."""

    def __init__(self) -> None:
        self.waiting = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                version = b'{"version": "0.33.0"}'
                pages = {"/metrics": PAGE.format(waiting=outer.waiting).encode()}
                body = {**pages, "/health": b"", "/version": version}.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads a line a scrape."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


@contextmanager
def theirs(folder: Path, engine: int, url: str) -> Iterator[None]:
    (folder / "alertmanager.yml").write_text(ALERTMANAGER.format(url=url))
    (folder / "rules.yml").write_text(RULES.format(group="queue"))
    port = free_port()
    command = [
        binary("prometheus-alertmanager", "prometheus-alertmanager"),
        "--config.file=alertmanager.yml",
        "--storage.path=notified",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    text = PROMETHEUS.format(port=port, engine=engine)
    with running(command, port, "/-/ready", folder), prometheus(free_port(), folder, text):
        yield


@contextmanager
def ours(folder: Path, engine: int, url: str, group: str) -> Iterator[None]:
    (folder / "tocsin.yml").write_text(OURS.format(engine=engine, url=url))
    (folder / "rules.yml").write_text(RULES.format(group=group))
    options = ("--config.file=tocsin.yml", "--storage.path=data", "--no-worker")
    with agent(free_port(), folder, *options):
        yield


def told(counter: WebhookCounter, status: str, count: int, until: float) -> float:
    """When the `count`-th message came that says so; infinity for never."""
    while time.time() < until:
        times = counter.times("QueueLong", status)
        if len(times) >= count:
            return times[count - 1]
        time.sleep(0.005)
    return float("inf")


def trials(
    engine: Engine, counters: Sequence[WebhookCounter], count: int, dice: random.Random
) -> list[list[float]]:
    """For each counter the seconds from crossing to message."""
    found: list[list[float]] = [[] for _ in counters]
    before = [{s: len(c.times("QueueLong", s)) for s in ("firing", "resolved")} for c in counters]
    for number in range(1, count + 1):
        time.sleep(dice.uniform(1.5, 3.5))
        for waiting, status in ((500, "firing"), (0, "resolved")):
            engine.waiting = waiting
            crossed = time.time()
            for counter, seen, seconds in zip(counters, before, found, strict=True):
                at = told(counter, status, seen[status] + number, crossed + 30)
                if status == "firing":
                    seconds.append(at - crossed)
            time.sleep(dice.uniform(0, 1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench latency", description=__doc__)
    parser.add_argument("--trials", type=int, default=20, help="of each name of the group")
    groups = ["queue", "a", "engine.rules", "zz"]
    parser.add_argument("--groups", nargs="+", default=groups, help="names of our group")
    parser.add_argument("--seed", type=int, default=4911)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    dice, engine = random.Random(options.seed), Engine()
    result: dict[str, Any] = {"circumstances": circumstances(), "groups": {}}
    rows = []
    with ExitStack() as peers:
        peer = WebhookCounter()
        folder = Path(peers.enter_context(tempfile.TemporaryDirectory()))
        peers.enter_context(theirs(folder, engine.port, peer.url))
        for group in options.groups:
            with tempfile.TemporaryDirectory() as name:
                mine = WebhookCounter()
                with ours(Path(name), engine.port, mine.url, group):
                    time.sleep(3)
                    their, our = trials(engine, (peer, mine), options.trials, dice)
            result["groups"][group] = {"theirs": their, "ours": our}
            row = [f(seconds) for seconds in (their, our) for f in (statistics.median, max)]
            rows.append((group, *row, row[2] / row[0]))
    print(table(("group", "theirs s", "max", "ours s", "max", "ratio"), rows))
    write_json(options.json, result)


if __name__ == "__main__":
    main()
