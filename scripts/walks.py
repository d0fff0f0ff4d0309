"""How many files and functions one reads to follow the three ways through the agent.

A profiler notes which functions of the product the real code enters. Each is counted once, where
it is entered first, as somebody reads who follows the way and looks up each function once.
"changes" is how often the next function lies in another file, "back" how many of these lead to a
file that was open already.

The stages are those of `tocsin up`, run in this process, one after the other: a scrape of the GPUs
of a fake NVML, a rule that fires by it, and its mail to a real SMTP server; then a query and an
acknowledgement over HTTP. What the stages read before, and what they import, is not counted.
"""

import argparse
import asyncio
import json
import logging
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import numpy as np
from measuring.remote_write import RemoteWriter
from measuring.table import table

from support.fake_nvml import FakeNvml
from support.mailbox import Mailbox
from support.walk import Tracer, Walk
from support.wired_agent import wired_agent
from tocsin_alerting.api.http import server
from tocsin_alerting.app import App
from tocsin_alerting.loops.incident_loop import IncidentLoop

CONFIG = """
collect: {{host: 0s, gpu: 10s, processes: 0s}}
engines: [{{url: "http://127.0.0.1:9"}}]
evaluation_interval: 1s
rule_files: [rules.yml]
contacts: {{li: {{email: li@example.com}}}}
receivers: {{email: {{type: email, smarthost: "{smarthost}", from: tocsin@example.com, tls: none}}}}
policies: {{P1: {{group: {{wait: 200ms}}, steps: [{{notify: [{{contact: li, via: [email]}}]}}]}}}}
"""
RULES = """
groups:
- name: gpu
  rules:
  - alert: GpuError
    expr: DCGM_FI_DEV_XID_ERRORS > 0
    labels: {severity: P1}
    annotations: {summary: "XID {{ $value }} on GPU {{ $labels.gpu }}"}
"""
QUERY = "sum by (pool) (rate(errors_total[5m])) / sum by (pool) (rate(requests_total[5m]))"
PARTS = ("NVML to store", "rule to incident in the journal", "timer to mail")
ALERT, RANGE, ACK = (
    "one alert, GPU to mailbox",
    "query_range, HTTP to answer",
    "ack, HTTP to commit",
)
AT_ANY_TIME = ("store writer", "xid events")  # threads that run whatever goes on
WAIT_SECONDS = 20.0
SETTLE_SECONDS = 0.1
Walks = dict[str, Walk]


async def all_walks(folder: Path, tracer: Tracer, nvml: FakeNvml) -> Walks:
    """By name; the parts of the first one come before it."""
    (folder / "rules.yml").write_text(RULES)
    async with Mailbox() as mailbox:
        with wired_agent(folder, CONFIG.format(smarthost=mailbox.smarthost)) as app:
            await app.start()
            alert = await one_alert(tracer, app, nvml, folder / "data" / "incidents.db")
            requests = await over_http(tracer, app)
            await app.close()
    return alert | requests


async def one_alert(tracer: Tracer, app: App, nvml: FakeNvml, journal_file: Path) -> Walks:
    """Everything has run once, and is quiet, when the GPU reports an error."""
    for scraper in app.agent.scrapers:
        if scraper.target.area != "gpu":
            app.agent.remove(scraper.target.source)
    scraping = asyncio.create_task(app.agent.run())
    incident_loop = IncidentLoop(app.dispatcher, app.delivery_loop, app.clock)
    with closing(sqlite3.connect(journal_file)) as journal:
        await app.agent.arrival()
        await traced(tracer, app.rule_loop.run, partial(evaluations, app, 2))
        tracer.begin()
        nvml.xid(gpu=0, xid=79)
        await app.agent.arrival()
        parts = [
            tracer.end(),
            await traced(tracer, app.rule_loop.run, partial(has_row, journal, INCIDENT)),
            await traced(tracer, incident_loop.run, partial(has_row, journal, DELIVERED)),
        ]
    await ended(scraping)
    return dict(zip(PARTS, parts, strict=True)) | {ALERT: sum(parts, Walk(()))}


async def ended(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


INCIDENT = "SELECT 1 FROM rule_instances, incidents WHERE rule_instances.state = 'firing'"
DELIVERED = "SELECT 1 FROM outbox WHERE state = 'sent'"


async def evaluations(app: App, count: int) -> None:
    times: set[int | None] = {None}
    while len(times) <= count:
        times.add(app.groups.all[0].evaluated_ms)
        await asyncio.sleep(0.01)


async def has_row(journal: sqlite3.Connection, query: str) -> None:
    """Until the journal's file has what is asked for."""
    while not journal.execute(query).fetchall():  # noqa: ASYNC110  (other processes write it too)
        await asyncio.sleep(0.01)


async def traced(
    tracer: Tracer, run: Callable[[], Awaitable[Any]], until: Callable[[], Awaitable[Any]]
) -> Walk:
    """What runs of `run` until `until` ends."""
    tracer.begin()
    running = asyncio.ensure_future(run())
    done = asyncio.ensure_future(until())
    first, _ = await asyncio.wait(
        {running, done}, timeout=WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED
    )
    await asyncio.sleep(SETTLE_SECONDS)
    walk = tracer.end()
    await ended(running, done)
    if done not in first:
        raise SystemExit(f"{run}: did not come to its end: {running}")
    return walk


async def over_http(tracer: Tracer, app: App) -> Walks:
    port = app.setup.sockets[0].getsockname()[1]
    web = server.server(app.application(), app.scrapes.connections)
    serving = asyncio.create_task(web.serve(app.setup.sockets))
    while not web.started:  # noqa: ASYNC110  (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    await asyncio.to_thread(write_counters, port, app.clock.now_ms())
    await asyncio.sleep(SETTLE_SECONDS)
    now = app.clock.now_ms() / 1000
    ask = {"query": QUERY, "start": now - 600, "end": now, "step": 15}
    walks = {
        RANGE: await requested(tracer, port, f"/api/v1/query_range?{urlencode(ask)}"),
        ACK: await requested(tracer, port, "/api/v1/incidents/1/ack", {"by": "li"}),
    }
    web.should_exit = True
    await serving
    return walks


def write_counters(port: int, now_ms: int) -> None:
    series = [
        (("__name__", name), ("instance", "a"), ("job", "web"), ("pool", pool))
        for name in ("errors_total", "requests_total")
        for pool in ("blue", "green")
    ]
    times = np.arange(now_ms - 1_200_000, now_ms, 15_000, np.int64)
    values = np.tile(np.arange(1, len(times) + 1, dtype=np.float64), (len(series), 1))
    RemoteWriter(port, series).write(times, values)


async def requested(
    tracer: Tracer, port: int, path: str, body: Mapping[str, str] | None = None
) -> Walk:
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})

    def ask() -> Any:
        with urlopen(request, timeout=WAIT_SECONDS) as response:
            return json.load(response)

    tracer.begin()
    answer = await asyncio.to_thread(ask)
    await asyncio.sleep(SETTLE_SECONDS)  # the connection ends
    walk = tracer.end()
    if answer["status"] != "success" or not answer["data"]:
        raise SystemExit(f"{path}: {answer}")
    return walk


def figures(walk: Walk) -> dict[str, int]:
    return {
        "files": len(walk.files),
        "functions": len(walk.functions),
        "lines": walk.lines,
        "changes": walk.changes,
        "back": walk.back,
    }


def reading_list(name: str, walk: Walk) -> str:
    """The functions in order, under the file in which each stands."""
    lines, last = [f"\n{name}"], ""
    for function in walk.functions:
        if function.file != last:
            lines.append(f"  {function.file}")
        last = function.file
        lines.append(f"    {function.line:>4} {function.name}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/walks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--files", action="store_true", help="the functions in order, by file")
    parser.add_argument("--json", action="store_true", help="figures and functions for programs")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    nvml = FakeNvml()
    with (
        tempfile.TemporaryDirectory() as name,
        Tracer(AT_ANY_TIME).installed() as tracer,
    ):
        result = asyncio.run(all_walks(Path(name), tracer, nvml))
    if options.json:
        as_json = {
            name: figures(walk) | {"read": [asdict(function) for function in walk.functions]}
            for name, walk in result.items()
        }
        print(json.dumps(as_json, indent=1))
        return
    rows = [(name, *figures(walk).values()) for name, walk in result.items()]
    print(table(("", *figures(Walk(()))), rows))
    if options.files:
        for name in (*PARTS, RANGE, ACK):
            print(reading_list(name, result[name]))


if __name__ == "__main__":
    main()
