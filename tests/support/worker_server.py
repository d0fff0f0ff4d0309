"""The worker's real application on a real socket, in the test's own event loop."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from tocsin_exporter.http_server import ServerConfig
from tocsin_inference import settings
from tocsin_inference.application import application
from tocsin_inference.batching import shape
from tocsin_inference.confidence import Scorer
from tocsin_inference.engine import Engine
from tocsin_inference.metrics import Metrics
from tocsin_inference.model import Model
from tocsin_inference.server import Death, observe, parting
from tocsin_inference.worker import Worker


@dataclass(frozen=True)
class WorkerServer:
    """A running worker and a client for it."""

    worker: Worker
    client: httpx2.AsyncClient
    port: int

    async def samples(self) -> dict[str, float]:
        """`/metrics` as `name{status="x"}`, of faults `name{kind="x"}`, or `name` -> value;
        histograms by their _count."""
        text = (await self.client.get("/metrics")).text
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                which = "kind" if "anomalies" in sample.name else "status"
                value = sample.labels.get(which)
                found[sample.name + (f'{{{which}="{value}"}}' if value else "")] = sample.value
        return found

    async def ended(self, status: str) -> float:
        return (await self.samples())[f'llm_requests_total{{status="{status}"}}']

    async def until(self, status: str, count: float) -> None:
        """Waits until so many requests ended with `status`; fails after 10 s."""
        async with asyncio.timeout(10):
            while await self.ended(status) < count:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(
    model: Model, env: Mapping[str, str] | None = None, flags: str = ""
) -> AsyncGenerator[WorkerServer]:
    """Serves `model` under settings from `env` and `flags`."""
    base = "--max-running 4 --max-waiting 4 --kv-cache-tokens 20000 "
    _, chosen = settings.read((base + flags).split(), env or {}, "test")
    death = Death()
    metrics = Metrics(model.name, "test")
    if chosen.output_anomalies:
        metrics.judges()
    engine = Engine(
        model,
        shape(True, chosen.kv_cache_tokens, chosen.max_running),
        chosen.max_waiting,
        death,
    )
    await engine.start()
    observe(metrics, engine, death)
    worker = Worker(
        chosen, model, engine, metrics, time.perf_counter, time.perf_counter(), Scorer()
    )
    app = application(worker, "test", time.time)
    server = uvicorn.Server(ServerConfig(app, metrics.connections, 1, parting()))
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server._serve([listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        port = listener.getsockname()[1]
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits
        ) as client:
            yield WorkerServer(worker, client, port)
    finally:
        engine.close()
        server.should_exit = True
        await task
        engine.stop(5.0)


async def assert_accounts_balance(server: WorkerServer) -> None:
    s = await server.samples()
    ended = sum(v for name, v in s.items() if name.startswith("llm_requests_total"))
    now = s["llm_num_requests_running"] + s["llm_num_requests_waiting"]
    assert s["llm_requests_started_total"] == ended + now


def events(text: str) -> list[Any]:
    """The data of an event stream; checks its end."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]
