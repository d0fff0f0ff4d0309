"""What `tocsin proxy` says of many streams beside their clients: bytes, times, tokens, aborts.

    scripts/bench streams --upstream http://127.0.0.1:8080

The streams go through the proxy twice. First a tap between proxy and engine keeps what the engine
sent, and each client's bytes must be in it. Then they go without it, and the means of the clients'
own times stand beside those of the proxy's histograms. Then requests are aborted, half of them in
the middle of their answer, and the proxy's memory and descriptors stand before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

_PROGRAM = "from tocsin_alerting.cli.tocsin import main; main()"
_PATIENCE = 600.0


@dataclass
class Seen:
    """What a client saw: wire bytes of the body, and when each piece with text came."""

    begun: float
    body: bytes = b""
    texts: list[float] = field(default_factory=list)
    ended: float = 0.0
    tokens: int = 0


def main() -> int:
    arguments = parse()
    results = uvloop.run(measure(arguments))
    report(results)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=2), encoding="utf-8")
    return 0 if results["changed"] == 0 else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench streams", description=__doc__)
    parser.add_argument("--upstream", required=True, help="URL of the engine")
    parser.add_argument("--model", default="m")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--apart", type=float, default=0.03, help="seconds between two starts")
    parser.add_argument("--aborts", type=int, default=1000)
    parser.add_argument("--json")
    return parser.parse_args()


async def measure(arguments: argparse.Namespace) -> dict[str, float]:
    parts = urlsplit(arguments.upstream)
    engine = (parts.hostname or "", parts.port or 80)
    results: dict[str, float] = {"load": os.getloadavg()[0]}
    async with tapped(engine) as (tap, kept), proxied(tap) as (port, _):
        seen = await streams(port, arguments)
        wires = [bytes(wire) for wire in kept]
        results["changed"] = sum(not any(one.body in wire for wire in wires) for one in seen)
    async with proxied(engine[1]) as (port, pages):
        seen = await streams(port, arguments)
        results |= compared(seen, await page(pages))
        before = await page(pages)
        await abort(port, arguments)
        after = await settled(pages, arguments.aborts)
        results |= left(before, after)
    return results


def compared(seen: list[Seen], said: dict[str, float]) -> dict[str, float]:
    """Means in ms of the clients and of the proxy."""
    gaps = [b - a for one in seen for a, b in zip(one.texts, one.texts[1:], strict=False)]
    own = {
        "time_to_first_token": [one.texts[0] - one.begun for one in seen if one.texts],
        "inter_token_latency": gaps,
        "e2e_request_latency": [one.ended - one.begun for one in seen],
    }
    results: dict[str, float] = {
        "client tokens": sum(one.tokens for one in seen),
        "proxy tokens": said["llm_generation_tokens_total"],
    }
    for name, values in own.items():
        results[f"client {name} ms"] = 1000 * sum(values) / len(values)
        count = said[f"llm_{name}_seconds_count"]
        results[f"proxy {name} ms"] = 1000 * said[f"llm_{name}_seconds_sum"] / count
    return results


def left(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {
        "cancelled": after["cancelled"] - before["cancelled"],
        "running after": after["llm_num_requests_running"],
        "connections to the engine after": after["tocsin_proxy_engine_connections"],
        "descriptors more": after["process_open_fds"] - before["process_open_fds"],
        "MB more": (after["rss"] - before["rss"]) / 1e6,
    }


def report(results: dict[str, float]) -> None:
    for name, value in results.items():
        print(f"{name:36}{value:14.3f}")


async def streams(port: int, arguments: argparse.Namespace) -> list[Seen]:
    return list(
        await asyncio.gather(*(stream(port, arguments, n) for n in range(arguments.streams)))
    )


def request(arguments: argparse.Namespace, number: int) -> bytes:
    message = {"role": "user", "content": f"Count to {number + 3}."}
    asked = {"model": arguments.model, "stream": True, "max_tokens": arguments.tokens}
    more = {"messages": [message], "stream_options": {"include_usage": True}}
    body = json.dumps(asked | more).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        + (b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    )


async def stream(port: int, arguments: argparse.Namespace, number: int) -> Seen:
    """On a connection that is open, as clients keep theirs. All of them run at once; a burst of
    starts would measure who comes first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /.well-known/tocsin-proxy HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"}")
    await asyncio.sleep(number * arguments.apart)
    seen = Seen(time.perf_counter())
    writer.write(request(arguments, number))
    async with asyncio.timeout(_PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0], head
        rest = b""
        while not seen.body.endswith(b"0\r\n\r\n"):
            piece = await reader.read(65536)
            now = time.perf_counter()
            seen.body += piece
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                read(line, seen, now)
    seen.ended = time.perf_counter()
    writer.close()
    return seen


def read(line: bytes, seen: Seen, now: float) -> None:
    if not line.startswith(b"data: {"):
        return
    said = json.loads(line[6:])
    seen.tokens = (said.get("usage") or {}).get("completion_tokens", seen.tokens)
    if any((choice.get("delta") or {}).get("content") for choice in said.get("choices", ())):
        seen.texts.append(now)


async def abort(port: int, arguments: argparse.Namespace) -> None:
    """Half of them before anything has come, half after the first bytes; 32 at once."""
    turn = asyncio.Semaphore(32)

    async def one(number: int) -> None:
        async with turn:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(arguments, number))
            await writer.drain()
            if number % 2:
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(100), 20)
            else:
                await asyncio.sleep(0.02)
            writer.transport.abort()

    await asyncio.gather(*(one(number) for number in range(arguments.aborts)))


async def settled(pages: int, aborts: int) -> dict[str, float]:
    """The page once all of them have ended."""
    async with asyncio.timeout(120):
        while True:
            said = await page(pages)
            if said["llm_num_requests_running"] == 0:
                return said
            await asyncio.sleep(1)


async def page(port: int) -> dict[str, float]:
    """Sums by name over all labels; of requests those that were cancelled, and the RSS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n" % port)
    text = (await reader.read(-1)).decode()
    writer.close()
    found: dict[str, float] = {"cancelled": 0.0, "rss": 0.0}
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        if not series or series.startswith("#"):
            continue
        name = series.partition("{")[0]
        with suppress(ValueError):
            found[name] = found.get(name, 0.0) + float(value)
            if name == "llm_requests_total" and 'status="cancelled"' in series:
                found["cancelled"] += float(value)
    found["rss"] = found.get("process_resident_memory_bytes", 0.0)
    return found


@asynccontextmanager
async def tapped(engine: tuple[str, int]) -> AsyncIterator[tuple[int, list[bytearray]]]:
    """A port that leads to the engine, and what came back on each connection."""
    kept: list[bytearray] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection(*engine)
        wire = bytearray()
        kept.append(wire)

        async def pump(
            source: asyncio.StreamReader, sink: asyncio.StreamWriter, back: bool
        ) -> None:
            with suppress(ConnectionError):
                while data := await source.read(65536):
                    if back:
                        wire.extend(data)
                    sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, onward, False), pump(there, writer, True))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], kept


@asynccontextmanager
async def proxied(upstream: int) -> AsyncIterator[tuple[int, int]]:
    """The proxy's port, and that of its metrics."""
    port, pages = free_port(), free_port()
    command = [sys.executable, "-c", _PROGRAM, "proxy", f"--upstream=http://127.0.0.1:{upstream}"]
    command += [f"--listen=127.0.0.1:{port}", f"--metrics.listen=127.0.0.1:{pages}"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(60):
            while True:
                with suppress(OSError):
                    await page(pages)
                    break
                await asyncio.sleep(0.1)
        yield port, pages
    finally:
        process.terminate()
        await process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
