"""What HTTP costs: tokens/s of N concurrent streams through the worker's API, against the bare
ContinuousBatchingManager on the same model in the same process.

The two are measured in alternating pairs, so that a machine that gets slower gets slower for both,
and the ratio is that of the medians. The bare manager does not stream and has no client; the HTTP
client runs in this process as well, so its work counts against the API.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import uvicorn

from tocsin_exporter.http_server import ServerConfig
from tocsin_inference import batching, model, settings, weights
from tocsin_inference.application import application
from tocsin_inference.confidence import Scorer
from tocsin_inference.engine import Engine
from tocsin_inference.metrics import Metrics
from tocsin_inference.sampling import GREEDY, Sampling
from tocsin_inference.server import listen, parting
from tocsin_inference.worker import Worker

MODES = {
    "greedy": GREEDY,
    "sampled": Sampling(temperature=0.8, top_p=0.9, top_k=0, seed=0),
}


@dataclass(frozen=True)
class Load:
    """`streams` requests at once, each of exactly `tokens` generated tokens."""

    streams: int
    tokens: int

    def prompts(self, round_: int) -> list[str]:
        """New ones every round, so that no prefix cache helps the second of a pair."""
        return [
            f"{round_} {i}. The lighthouse keeper wrote in his book about the storm of year {i}:"
            for i in range(self.streams)
        ]


def main() -> int:
    arguments = parse()
    _, chosen = settings.read(["--port", "0"], dict_env(arguments), "bench")
    chosen = replace(chosen, max_running=arguments.streams)
    torch.set_num_threads(chosen.threads or torch.get_num_threads())
    source = weights.locate(chosen.model_path, chosen.cache_dir, sys.stderr.isatty())
    loaded = model.load(source, None, arguments.device, "auto")
    load = Load(arguments.streams, arguments.tokens)
    results = asyncio.run(measure(loaded, chosen, load, arguments.pairs))
    report(results, load, loaded)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)
    return 0 if all(r["ratio"] >= arguments.at_least for r in results.values()) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench worker", description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--model-path")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--at-least", type=float, default=0.85, help="exit 1 below this ratio")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def dict_env(arguments: argparse.Namespace) -> dict[str, str]:
    """The environment with --model-path over it."""
    extra = {"MODEL_PATH": arguments.model_path} if arguments.model_path else {}
    return {**os.environ, **extra}


async def measure(
    loaded: model.Model, chosen: settings.Settings, load: Load, pairs: int
) -> dict[str, dict[str, Any]]:
    """Both sides up once; then, for each mode, one pair to warm up and `pairs` that count."""
    engine, server = await start_worker(loaded, chosen)
    bare = batching.build(loaded, batching.shape(chosen.device == "cpu", None, load.streams))
    bare.start()
    port = server.servers[0].sockets[0].getsockname()[1]
    results = {}
    try:
        for mode, sampling in MODES.items():
            sides = {
                "bare": lambda r, s=sampling: asyncio.to_thread(run_bare, bare, loaded, load, r, s),
                "http": lambda r, s=sampling: run_http(port, load, r, s),
            }
            results[mode] = await alternate(sides, load, pairs)
    finally:
        bare.stop(hard_stop=True)
        server.should_exit = True
        engine.stop(2.0)
    return results


async def start_worker(
    loaded: model.Model, chosen: settings.Settings
) -> tuple[Engine, uvicorn.Server]:
    """The worker's real application on a free loopback port, on a thread and loop of its own."""
    ready = threading.Event()
    made: list[Any] = []
    place = listen("127.0.0.1", 0)

    async def serve() -> None:
        shape = batching.shape(chosen.device == "cpu", None, chosen.max_running)
        engine = Engine(loaded, shape, chosen.max_waiting, lambda cause: None)
        await engine.start()
        clock = time.perf_counter
        metrics = Metrics(loaded.name, "bench")
        worker = Worker(chosen, loaded, engine, metrics, clock, clock(), Scorer())
        config = ServerConfig(
            application(worker, "bench", time.time), metrics.connections, 1, parting()
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([place]))
        while not (server.started or serving.done()):  # noqa: ASYNC110  # uvicorn offers no event
            await asyncio.sleep(0.01)
        made.extend([engine, server])
        ready.set()
        await serving

    def run() -> None:
        try:
            asyncio.run(serve())
        finally:
            ready.set()  # whoever waits must not wait for what has failed

    threading.Thread(target=run, daemon=True).start()
    await asyncio.to_thread(ready.wait)
    if not made:
        raise RuntimeError("the worker did not start; its thread says why")
    return made[0], made[1]


async def alternate(
    sides: dict[str, Callable[[int], Awaitable[float]]], load: Load, pairs: int
) -> dict[str, Any]:
    """Tokens/s of each side for each pair; which side goes first alternates too."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(pairs + 1):
        order = list(sides) if round_ % 2 else list(reversed(sides))
        for name in order:
            seconds = await sides[name](round_)
            if round_:
                rates[name].append(load.streams * load.tokens / seconds)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {"rates": rates, "medians": medians, "ratio": medians["http"] / medians["bare"]}


def run_bare(manager: Any, loaded: model.Model, load: Load, round_: int, how: Sampling) -> float:
    """Seconds from the first request to the last result, tokenization included."""
    began = time.perf_counter()
    for i, prompt in enumerate(load.prompts(round_)):
        manager.add_request(
            loaded.encode(prompt, special=True),
            max_new_tokens=load.tokens,
            eos_token_id=-1,
            sampling=replace(how, seed=i),
        )
    left = load.streams
    while left:
        result = manager.get_result(timeout=60)
        if result is None or result.error:
            raise RuntimeError(f"bare manager: {result and result.error}")
        left -= result.is_finished()
    return time.perf_counter() - began


async def run_http(port: int, load: Load, round_: int, how: Sampling) -> float:
    """Seconds from the first connection to the end of the last stream."""
    began = time.perf_counter()
    prompts = enumerate(load.prompts(round_))
    await asyncio.gather(*(stream(port, load, p, replace(how, seed=i)) for i, p in prompts))
    return time.perf_counter() - began


async def stream(port: int, load: Load, prompt: str, how: Sampling) -> None:
    """Reads one answer as it comes and checks that it is whole."""
    body = {
        "prompt": prompt,
        "max_tokens": load.tokens,
        "ignore_eos": True,
        "temperature": how.temperature,
        "top_p": how.top_p,
        "seed": how.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    answer = b""
    while piece := await reader.read(65536):
        answer = (answer + piece)[-1000:]
    writer.close()
    if f'"completion_tokens":{load.tokens},'.encode() not in answer:
        raise RuntimeError(f"not a whole answer: {answer!r}")


def report(results: dict[str, dict[str, Any]], load: Load, loaded: model.Model) -> None:
    """A table for people; --json has every pair."""
    where = f"{loaded.device}, {str(loaded.network.dtype).removeprefix('torch.')}"
    print(f"{loaded.name} on {where}: {load.streams} streams of {load.tokens} tokens, tokens/s")
    print(f"{'':10}{'bare':>10}{'http':>10}{'ratio':>10}{'pairs':>8}")
    for mode, r in results.items():
        medians = r["medians"]
        row = f"{medians['bare']:>10.1f}{medians['http']:>10.1f}{r['ratio']:>10.3f}"
        print(f"{mode:10}{row}{len(r['rates']['http']):>8}")


if __name__ == "__main__":
    sys.exit(main())
