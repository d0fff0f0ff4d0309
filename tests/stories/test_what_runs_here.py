"""The agent among what runs already: engines are watched, other servers are left alone."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from support.agent_process import BIN, AgentProcess, free_port
from support.engine_process import EngineProcess
from support.story import until


async def test_an_engine_is_watched_and_no_worker_is_started(tmp_path: Path) -> None:
    with EngineProcess(free_port()) as engine:
        agent = AgentProcess(tmp_path, f"--engine.port={engine.port}", *_worker_on(tmp_path))
        with agent:
            assert agent.status()["engines"] == [engine.url]
            assert agent.status()["worker"] == "none"
            await until(lambda: f"vLLM at {engine.url}" in agent.said(), 10)
            await until(_is_up(agent), 10)
            assert agent.process is not None
            assert psutil.Process(agent.process.pid).children() == []


async def test_an_engine_on_the_workers_port_is_not_taken_for_one(tmp_path: Path) -> None:
    """It may be the demo of another agent, which goes when it likes."""
    with EngineProcess(free_port()) as engine:
        nowhere = f"--engine.port={free_port()}"
        with AgentProcess(tmp_path, nowhere, *_worker_on(tmp_path, engine.port)) as agent:
            assert agent.status()["engines"] == []
            assert agent.status()["worker"] == "none"


async def test_whoever_has_the_workers_port_is_named(tmp_path: Path) -> None:
    """A server that is no engine: no worker is started, and the agent goes on without."""
    pytest.importorskip("torch")  # whose absence is told first
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        nowhere = f"--engine.port={free_port()}"
        with AgentProcess(tmp_path, nowhere, *_worker_on(tmp_path, port)) as agent:
            await until(lambda: "look at" in agent.said(), 10)
            mine = psutil.Process()
            taken = f"port {port} is in use by {mine.name()} (pid {mine.pid})"
            assert taken in agent.said()
            assert "no inference engine yet" in agent.said()
            assert agent.status()["worker"] == "none"
            assert "node_load1 " in agent.text("/metrics")


def test_whoever_has_our_own_address_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        ended = subprocess.run(
            [str(BIN / "tocsin"), "up", "--no-worker", f"--web.listen-address={address}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    mine = psutil.Process()
    assert ended.returncode == 1
    assert f"{address} is in use by {mine.name()} (pid {mine.pid})" in ended.stderr
    assert "--web.listen-address" in ended.stderr
    assert "Traceback" not in ended.stderr


def _worker_on(folder: Path, port: int | None = None) -> tuple[str]:
    """The flag of a configuration with the worker on this port, or on a free one."""
    file = folder / "tocsin.yml"
    file.write_text(
        f"worker: {{port: {port or free_port()}}}\ncollect: {{host: 1s, engines: 1s}}\n"
    )
    return (f"--config.file={file}",)


def _is_up(agent: AgentProcess) -> Callable[[], bool]:
    def up() -> bool:
        found = agent.get("/api/v1/query?query=llm_engine_up")["result"]
        return [one["value"][1] for one in found] == ["1"]

    return up
