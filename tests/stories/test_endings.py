"""Ctrl-C and SIGTERM end everything in time, whatever hangs; a power cut leaves no child."""

import asyncio
import itertools
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import psutil
import pytest

from support import fake_nvml
from support.agent_process import AgentProcess, free_port
from support.broken_server import broken_server, silence
from support.story import config_file, until

END_SECONDS = 5.0
DEAF_WORKER = """\
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
time.sleep(600)
"""
Scene = AbstractAsyncContextManager[AgentProcess]


@asynccontextmanager
async def _running(agent: AgentProcess) -> AsyncIterator[AgentProcess]:
    try:
        await asyncio.to_thread(agent.start)
        yield agent
    finally:
        agent.kill()


@asynccontextmanager
async def plain(folder: Path) -> AsyncIterator[AgentProcess]:
    async with _running(AgentProcess(folder, "--no-worker")) as agent:
        yield agent


def hung_nvml(function: str) -> Callable[[Path], Scene]:
    @asynccontextmanager
    async def scene(folder: Path) -> AsyncIterator[AgentProcess]:
        environment = {
            "LD_LIBRARY_PATH": str(fake_nvml.library().parent),
            "FAKE_NVML_HANG": function,
        }
        async with _running(AgentProcess(folder, "--no-worker", environment=environment)) as agent:
            await asyncio.sleep(1.5)  # two rounds of the GPU: a call hangs now
            yield agent

    return scene


@asynccontextmanager
async def engine_that_never_answers(folder: Path) -> AsyncIterator[AgentProcess]:
    async with broken_server(silence) as port:
        url = f"--engine.url=http://127.0.0.1:{port}"
        async with _running(AgentProcess(folder, url)) as agent:
            yield agent


@asynccontextmanager
async def clients_that_stay(folder: Path) -> AsyncIterator[AgentProcess]:
    """One idle, one in the middle of a request, one that does not read its long answer."""
    requests = (
        b"",
        b"POST /api/v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nquery=",
        b"GET /api/v1/query_range?query={__name__=~%22.%2B%22}&start=" + _soon() + b" HTTP/1.1\r\n"
        b"Host: localhost\r\n\r\n",
    )
    async with _running(AgentProcess(folder, "--no-worker")) as agent:
        clients = [socket.create_connection(("127.0.0.1", agent.port)) for _ in requests]
        for client, request in zip(clients, requests, strict=True):
            client.sendall(request)
        await asyncio.sleep(1)
        yield agent
        for client in clients:
            client.close()


def _soon() -> bytes:
    now = int(time.time())
    return f"{now}&end={now + 200}&step=0.02".encode()


@asynccontextmanager
async def worker_that_will_not_end(folder: Path) -> AsyncIterator[AgentProcess]:
    package = folder / "path" / "tocsin_inference"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(DEAF_WORKER)
    (folder / "tocsin.yml").write_text(f"worker: {{port: {free_port()}}}\n")
    environment = {"PYTHONPATH": str(package.parent)}
    nowhere = f"--engine.port={free_port()}"
    agent = AgentProcess(folder, "--config.file=tocsin.yml", nowhere, environment=environment)
    async with _running(agent):
        await until(lambda: agent.status()["worker"] == "running", 10)
        await asyncio.sleep(0.5)
        yield agent


@asynccontextmanager
async def channels_that_hang(folder: Path) -> AsyncIterator[AgentProcess]:
    async with broken_server(silence) as port:
        dead = f"http://127.0.0.1:{free_port()}"
        hook = f"http://127.0.0.1:{port}/hook"
        config_file(folder, dead, hook, hook, hook, f"127.0.0.1:{port}", "1h")
        agent = AgentProcess(folder, "--config.file=tocsin.yml", "--no-worker")

        def sending() -> bool:
            found = agent.get("/api/v1/incidents")["incidents"]
            told = [agent.get(f"/api/v1/incidents/{one['number']}") for one in found]
            states = [m["state"] for one in told for m in one["messages"]]
            return states.count("sending") == 2

        async with _running(agent):
            await until(sending, 20)
            yield agent


SCENES: dict[str, Callable[[Path], Scene]] = {
    "plain": plain,
    "a call of NVML hangs": hung_nvml("nvmlDeviceGetTemperature"),
    "NVML hangs from the start": hung_nvml("nvmlInitWithFlags"),
    "an engine never answers": engine_that_never_answers,
    "clients stay": clients_that_stay,
    "the worker will not end": worker_that_will_not_end,
    "channels hang": channels_that_hang,
}


async def test_everything_ends_in_time(tmp_path: Path) -> None:
    """All scenes are set at the same time, and end two at once, by Ctrl-C or SIGTERM."""
    fake_nvml.library()  # skips here where it cannot be built
    async with asyncio.timeout(100):
        ready, turn = asyncio.Barrier(len(SCENES)), asyncio.Semaphore(2)
        signals = itertools.cycle((signal.SIGINT, signal.SIGTERM))
        endings = [
            _ending(tmp_path / name, name, number, ready, turn)
            for name, number in zip(SCENES, signals, strict=False)
        ]
        assert await asyncio.gather(*endings) == [""] * len(SCENES)


@asynccontextmanager
async def _all_set(ready: asyncio.Barrier, turn: asyncio.Semaphore) -> AsyncIterator[None]:
    await ready.wait()
    async with turn:
        yield


async def _ending(
    folder: Path, name: str, number: signal.Signals, ready: asyncio.Barrier, turn: asyncio.Semaphore
) -> str:
    """What was wrong with the end of one scene; nothing when it was in time and clean."""
    await asyncio.to_thread(folder.mkdir)
    async with SCENES[name](folder) as agent, _all_set(ready, turn):
        assert agent.process is not None
        children = psutil.Process(agent.process.pid).children(recursive=True)
        seconds = await asyncio.to_thread(agent.terminate, number)
        code, said = agent.process.returncode, agent.said()
        left = [child for child in children if child.is_running()]
        clean = code == 0 and "Traceback" not in said and not left
        if clean and seconds < END_SECONDS and (bool(children) == ("worker" in name)):
            return ""
        return f"{name}: {seconds:.1f} s, exit code {code}, {children}, left {left}: {said}"


async def test_the_worker_ends_with_the_agent(tmp_path: Path) -> None:
    """Our own worker with a model in it: Ctrl-C reaches both at once; a kill only the agent."""
    pytest.importorskip("torch")
    from support.tiny_model import write_tiny_model

    model = await asyncio.to_thread(write_tiny_model, tmp_path / "model")
    numbers = (signal.SIGINT, signal.SIGKILL)
    endings = (_worker_ends(tmp_path / one.name, model, one) for one in numbers)
    assert max(await asyncio.gather(*endings)) < END_SECONDS


async def _worker_ends(folder: Path, model: Path, number: signal.Signals) -> float:
    """How many seconds the agent took; its worker is gone then, too."""
    await asyncio.to_thread(folder.mkdir)
    (folder / "tocsin.yml").write_text(f"worker: {{port: {free_port()}, model_path: {model}}}\n")
    agent = AgentProcess(
        folder, "--config.file=tocsin.yml", "--load=20", f"--engine.port={free_port()}"
    )
    async with _running(agent):
        await until(lambda: "tocsin_load_requests_total" in agent.text("/metrics"), 60)
        assert agent.process is not None
        (child,) = psutil.Process(agent.process.pid).children()
        if number == signal.SIGINT:
            os.kill(child.pid, signal.SIGINT)
        seconds = await asyncio.to_thread(agent.terminate, number)
        await until(lambda: not _alive(child), 2)
    assert "Traceback" not in agent.said(), agent.said()
    return seconds


def _alive(child: psutil.Process) -> bool:
    try:
        return child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
