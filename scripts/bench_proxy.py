"""What a proxy adds: the time to the first byte of a stream, direct, through nginx, and through
`tocsin proxy`, by turns, one stream at a time.

The engine answers at once with a stream of events, so that what is measured is the way. nginx runs
with `proxy_buffering off` and kept connections, as docs of engines advise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

_EVENT = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
_STREAM = b"".join(b"%x\r\n%s\r\n" % (len(_EVENT), _EVENT) for _ in range(20)) + b"0\r\n\r\n"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_BODY = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user"}]}).encode()
_REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(_BODY)
) + _BODY
_NGINX = """
daemon off; pid {folder}/pid; error_log stderr error; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 1000000;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off;
    }}
  }}
}}
"""


def main() -> int:
    arguments = parse()
    if shutil.which("nginx") is None:
        print("bench proxy: nginx is not here; install nginx-light", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        results = uvloop.run(measure(arguments, Path(folder)))
    report(results)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=2), encoding="utf-8")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench proxy", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--json")
    return parser.parse_args()


class _FastEngine(asyncio.Protocol):
    """Answers each request at once."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport, self.got = transport, b""

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self.got.endswith(_BODY):
            self.got = b""
            self.transport.write(_HEAD + _STREAM)


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    loop = asyncio.get_running_loop()
    engine = await loop.create_server(_FastEngine, "127.0.0.1", 0)
    direct = engine.sockets[0].getsockname()[1]
    nginx, proxy, pages = free_port(), free_port(), free_port()
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, engine=direct, port=nginx))
    program = "from tocsin_alerting.cli.tocsin import main; main()"
    ours = [sys.executable, "-c", program, "proxy", f"--upstream=http://127.0.0.1:{direct}"]
    ours += [f"--listen=127.0.0.1:{proxy}", f"--metrics.listen=127.0.0.1:{pages}"]
    peers = {"direct": direct, "nginx": nginx, "tocsin proxy": proxy}
    with running(["nginx", "-c", str(folder / "nginx.conf")]), running(ours):
        streams = {name: await connected(port) for name, port in peers.items()}
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
        for _ in range(arguments.requests):
            for name, stream in streams.items():
                seconds[name].append(await timed(*stream))
        for _, writer in streams.values():
            writer.close()
    return {name: figures(found[len(found) // 10 :]) for name, found in seconds.items()}


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(60):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)


async def timed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[float, float]:
    """Seconds to the first byte of the body, and to the last."""
    begun = time.perf_counter()
    writer.write(_REQUEST)
    await reader.readuntil(b"data:")
    first = time.perf_counter()
    await reader.readuntil(b"0\r\n\r\n")
    return first - begun, time.perf_counter() - begun


def figures(seconds: list[tuple[float, float]]) -> dict[str, float]:
    firsts, wholes = zip(*seconds, strict=True)
    cuts = statistics.quantiles(firsts, n=100)
    return {
        "first_p50_ms": 1000 * statistics.median(firsts),
        "first_p99_ms": 1000 * cuts[98],
        "whole_p50_ms": 1000 * statistics.median(wholes),
    }


def report(results: dict[str, dict[str, float]]) -> None:
    print(f"{'':14}{'first byte p50':>16}{'p99':>10}{'whole p50':>12}{'added p50':>12}   ms")
    for name, found in results.items():
        added = found["first_p50_ms"] - results["direct"]["first_p50_ms"]
        numbers = (found["first_p50_ms"], found["first_p99_ms"], found["whole_p50_ms"], added)
        print(
            f"{name:14}"
            + "".join(f"{n:{w}.3f}" for n, w in zip(numbers, (16, 10, 12, 12), strict=True))
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
