"""The serving process: start, signals, the engine's death, the end. Owns the worker's clock."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

import torch
import uvicorn

from tocsin_exporter import http_server, output
from tocsin_inference import memory, model, weights
from tocsin_inference.application import application
from tocsin_inference.batching import shape
from tocsin_inference.confidence import Scorer
from tocsin_inference.engine import Engine
from tocsin_inference.errors import EngineStopped
from tocsin_inference.metrics import ENGINE, Metrics
from tocsin_inference.responses import JsonResponse
from tocsin_inference.settings import Settings
from tocsin_inference.worker import Worker

log = logging.getLogger("tocsin.worker")
_LINGER = 6.0  # seconds in which a scrape can still see that memory ran out
_GRACE = 1  # seconds for open answers to end
_PART = 0.3  # seconds to tell the others so
_JOIN = 1.5  # seconds for the batching thread to end its iteration


class Server(uvicorn.Server):
    """uvicorn that ends with an exit code, and takes an open generation with it."""

    exit_code = 0

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """In place of uvicorn's own, which raises the signal again after a clean end."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self.finish, 0)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then those whose requests it has cancelled are told, before we block."""
        await super().shutdown(sockets)
        if open_requests := self.server_state.tasks:
            await asyncio.wait(open_requests, timeout=_PART)

    def finish(self, code: int) -> None:
        """Ends the serving with `code`; the second call ends the process at once."""
        if self.should_exit:
            output.flush()
            os._exit(code or 1)
        self.exit_code = code
        self.should_exit = True
        self._engine.close()


class Death:
    """What to do when the batching thread ends by itself: say why, linger, exit with 1."""

    def __init__(self) -> None:
        self.ooms = 0
        self.server: Server | None = None

    def __call__(self, cause: BaseException | None) -> None:
        log.critical("engine thread died: %r; exiting for a restart", cause)
        full = memory.is_out_of_memory(cause)
        self.ooms += full
        if self.server is not None:
            asyncio.get_running_loop().call_later(_LINGER if full else 1.0, self.server.finish, 1)


def serve(settings: Settings) -> NoReturn:
    """Loads the model, serves it until a signal or the engine's death, and ends the process.

    Raises WeightsError where there is no model to serve, OSError where the address is taken.
    """
    with listen(settings.host, settings.port) as listener:  # before the seconds of loading
        _serve_on(listener, settings)


def _serve_on(listener: socket.socket, settings: Settings) -> NoReturn:
    memory.bound_compiled(os.environ)
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    began = time.perf_counter()
    source = weights.locate(settings.model_path, settings.cache_dir, sys.stderr.isatty())
    loaded = model.load(source, settings.served_name, settings.device, settings.dtype)
    log.info("loaded %s in %.1f s", loaded.name, time.perf_counter() - began)
    config = uvicorn.Config("", loop="auto", log_config=None)
    factory = config.get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        code = runner.run(run(settings, loaded, listener))
        output.flush()
        os._exit(code)  # the interpreter would take another second, and wait for every thread


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises OSError, with the address in it, where that cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    result = socket.socket(family, socket.SOCK_STREAM)
    result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        result.bind((host, port))
    except OSError as error:
        result.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return result


async def run(settings: Settings, loaded: model.Model, listener: socket.socket) -> int:
    """Wires the parts in the order of a request's way through them, and serves; returns the exit
    code."""
    release = package_version()
    on_cpu = loaded.device.type == "cpu"
    death = Death()
    metrics = Metrics(loaded.name, release)
    if settings.output_anomalies:
        metrics.judges()
    sizes = shape(on_cpu, settings.kv_cache_tokens, settings.max_running)
    engine = Engine(loaded, sizes, settings.max_waiting, death)
    await engine.start()
    observe(metrics, engine, death)
    worker = Worker(
        settings, loaded, engine, metrics, time.perf_counter, time.perf_counter(), Scorer()
    )
    app = application(worker, release, time.time)
    server = Server(http_server.ServerConfig(app, metrics.connections, _GRACE, parting()), engine)
    death.server = server
    log.info("serving %s on http://%s:%d", loaded.name, *listener.getsockname()[:2])
    try:
        await server.serve(sockets=[listener])
    finally:
        engine.stop(_JOIN)
    return server.exit_code


def parting() -> JsonResponse:
    """What a request gets that is still open when the worker ends."""
    gone = EngineStopped("the worker is shutting down")
    return JsonResponse(gone.body(), status_code=gone.status, headers=gone.headers())


def observe(metrics: Metrics, engine: Engine, death: Death) -> None:
    """The gauges that are read from the engine when the page is."""
    loaded = engine.model
    weight_bytes = loaded.weight_bytes()
    gpu = str(loaded.device.index or 0) if loaded.device.type == "cuda" else None
    metrics.watch("llm_kv_cache_usage_ratio", "Share in use, 0 to 1.", engine.cache_usage)
    metrics.watch("llm_kv_cache_capacity_tokens", "Size in tokens.", lambda: engine.cache_tokens)
    metrics.watch("llm_queue_capacity", "Requests that may wait.", lambda: engine.queue_capacity)

    def read() -> memory.MemoryUsage:
        return memory.read(loaded.device, weight_bytes, engine.cache_bytes(), death.ooms)

    metrics.registry.register(memory.MemoryCollector(read, loaded.name, ENGINE, gpu))


def package_version() -> str:
    """The installed version of the distribution, `unknown` in a bare checkout."""
    try:
        return version("tocsin")
    except PackageNotFoundError:
        return "unknown"
