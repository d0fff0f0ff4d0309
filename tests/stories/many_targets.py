"""How well an agent's own rules hold their times beside many targets of `scrape_configs`. A script.

    many_targets.py [TARGETS [SERIES [SECONDS]]]

A server in a process of its own has so many targets, which take a second to answer; each is scraped
every 15 s, and a rule group on the agent's own data is due each second.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

from support.agent_process import AgentProcess, free_port

ANSWER_SECONDS = 1.0
RULES = """
groups:
- {name: own, interval: 1s, rules: [{record: "own:load", expr: node_load1}]}
"""
SHOWN = (
    "max_over_time(tocsin_loop_lag_seconds[1m])",
    "tocsin_loop_blocked_total",
    "tocsin_rule_group_iterations_missed_total",
    "sum(tocsin_sampling_rounds_missed_total{target=~'many/.*'})",
    "sum(up{job='many'})",
    "rate(tocsin_scrape_page_seconds_total[1m])",
    "rate(process_cpu_seconds_total{job='tocsin'}[1m])",
)


async def serve(port: int, series: int) -> None:
    page = "".join(f'm{{path="/p/{i}",code="200"}} 1\n' for i in range(series)).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readline():
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(ANSWER_SECONDS)
                writer.write(head + page)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", port, backlog=4096)
    await server.serve_forever()


def config(folder: Path, targets: int, port: int) -> None:
    hosts = [f"127.1.{i // 250}.{i % 250 + 1}:{port}" for i in range(targets)]
    static = [{"targets": hosts}]
    job = {"job_name": "many", "scrape_interval": "15s", "static_configs": static}
    (folder / "rules.yml").write_text(RULES)
    whole = {"rule_files": ["rules.yml"], "scrape_configs": [job], "worker": {"enabled": False}}
    (folder / "tocsin.yml").write_text(json.dumps(whole))


def show(agent: AgentProcess) -> None:
    for query in SHOWN:
        found = agent.get("/api/v1/query?" + urlencode({"query": query}))["result"]
        print(f"{query:55} {' '.join(one['value'][1] for one in found)}")


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(int(sys.argv[2]), int(sys.argv[3])))
    given = [int(text) for text in sys.argv[1:]]
    targets, series, seconds = (*given, *(500, 500, 90)[len(given) :])
    port = free_port()
    server = subprocess.Popen([sys.executable, __file__, "serve", str(port), str(series)])
    try:
        with tempfile.TemporaryDirectory() as folder:
            config(Path(folder), targets, port)
            with AgentProcess(Path(folder), "--config.file=tocsin.yml") as agent:
                for part in ("the first", "the second"):
                    time.sleep(seconds / 2)
                    load = os.getloadavg()[0]
                    print(f"{part} {seconds / 2:.0f} s, load {load:.1f}")
                    show(agent)
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
