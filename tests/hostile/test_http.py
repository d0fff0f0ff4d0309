"""Clients without manners at the agent, the exporter and the worker, as real processes.

During each trial an engine dies, and its page goes out as if nobody else were there.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from support import hostile_clients as clients
from support.agent_process import BIN, free_port
from support.hostile_clients import HEAD, ask, silent
from support.story import PAGE_SECONDS, Story, story, until
from support.tiny_model import write_tiny_model
from tocsin_exporter.connections import raise_descriptor_limit

T = TypeVar("T")
GROWTH_MIB = 150
ALIVE = HEAD + b"Connection: close\r\n\r\n"
BIG = b"GET /metrics?original=true HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20
LIMITED = """\
#!/bin/sh
ulimit -n 1024
exec {real} "$@"
"""


@pytest.fixture(autouse=True)
def descriptors() -> None:
    raise_descriptor_limit()


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no VmRSS of {pid}")


def pid(process: "subprocess.Popen[bytes] | None") -> int:
    assert process is not None
    return process.pid


async def paged(one: Story) -> None:
    """The engine is killed, and whoever is to know it knows."""
    began = time.time()
    one.engine.send(signal.SIGKILL)
    page = (await one.first.wait_for(1, within=20))[0]
    assert page.at - began < PAGE_SECONDS


async def in_the_end(asked: Callable[[], Awaitable[T]]) -> T:
    """Fifty large pages are made at that moment: on a busy machine the agent says that it is busy,
    until it has given up those who read none."""
    until_s = time.monotonic() + 20
    while True:
        try:
            return await asked()
        except urllib.error.HTTPError as error:
            assert error.code == 503 and time.monotonic() < until_s
            await asyncio.sleep(0.1)


@asynccontextmanager
async def crowd(port: int) -> AsyncIterator[None]:
    """1,100 that say nothing, 100 in the middle of a head, 100 in the middle of a form, and 50 that
    ask for 20 pages each and read none."""
    async with AsyncExitStack() as stack:
        for count, said in ((1100, b""), (100, HEAD), (100, clients.FORM), (50, BIG)):
            await stack.enter_async_context(silent(port, count, said))
        yield


async def test_a_crowd_silences_nobody_where_the_agent_may_have_1024_open_files(
    tmp_path: Path,
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tocsin").write_text(LIMITED.format(real=BIN / "tocsin"))
    (tmp_path / "bin" / "tocsin").chmod(0o755)
    async with story(tmp_path, binaries=tmp_path / "bin") as one:
        before = resident_mib(pid(one.agent.process))
        async with crowd(one.agent.port):
            open_files = len(os.listdir(f"/proc/{pid(one.agent.process)}/fd"))
            assert open_files < 700
            await paged(one)
            assert await in_the_end(lambda: one.metric("tocsin_http_connections_max")) == 512
            assert await ask(one.agent.port, ALIVE) == b"HTTP/1.1 200 OK\r\n"
            assert await one.metric("tocsin_loop_lag_seconds") < PAGE_SECONDS
            failed = 'count(tocsin_collector_success{target=""} == 0) or vector(0)'
            query = urllib.parse.quote(failed)
            answer = await asyncio.to_thread(one.agent.get, f"/api/v1/query?query={query}")
            assert answer["result"][0]["value"][1] == "0"
        assert resident_mib(pid(one.agent.process)) - before < GROWTH_MIB
        assert "Too many open files" not in one.agent.said()
        assert "Traceback" not in one.agent.said()


async def test_long_and_broken_requests_silence_nobody_and_fill_neither_memory_nor_log(
    tmp_path: Path,
) -> None:
    async with story(tmp_path) as one:
        port, before = one.agent.port, resident_mib(pid(one.agent.process))
        lines = len(one.agent.said().splitlines())
        trials = asyncio.gather(
            clients.long_headers(port),
            clients.many_headers(port),
            clients.long_url(port),
            clients.long_trailer(port),
            clients.broken_off(port, 500),
        )
        await paged(one)
        answers = (await trials)[:4]
        assert [line[9:12] for line in answers] == [b"431", b"431", b"414", b"431"]
        assert resident_mib(pid(one.agent.process)) - before < GROWTH_MIB
        assert await one.metric("tocsin_loop_lag_seconds") < PAGE_SECONDS
        assert "Traceback" not in one.agent.said()
        assert len(one.agent.said().splitlines()) - lines < 100


@pytest.mark.long
async def test_requests_that_are_sent_at_once_and_tiny_chunks_silence_nobody(
    tmp_path: Path,
) -> None:
    async with story(tmp_path) as one:
        port, before = one.agent.port, resident_mib(pid(one.agent.process))
        taken = [asyncio.create_task(clients.ask_without_end(port, 15)) for _ in range(10)]
        chunks = [asyncio.create_task(clients.tiny_chunks(port)) for _ in range(10)]
        await paged(one)
        assert await one.metric("tocsin_loop_lag_seconds") < PAGE_SECONDS
        assert {line[9:12] for line in await asyncio.gather(*chunks)} == {b"413"}
        assert sum(await asyncio.gather(*taken)) < 100 * clients.MB
        assert resident_mib(pid(one.agent.process)) - before < GROWTH_MIB
        assert "Traceback" not in one.agent.said()


@contextmanager
def started(port: int, path: str, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                    break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None, "it did not start"
                time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


async def withstood(port: int, process: "subprocess.Popen[bytes]") -> tuple[list[bytes], bytes]:
    """The statuses of what was too long, and what another client got meanwhile."""
    before = resident_mib(process.pid)
    async with crowd(port):
        answers = await asyncio.gather(
            clients.long_headers(port),
            clients.many_headers(port),
            clients.long_url(port),
            clients.long_trailer(port),
        )
        alive = await ask(port, ALIVE, within=5)
    assert resident_mib(process.pid) - before < GROWTH_MIB
    await until(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) < 200, within=20)
    return [line[9:12] for line in answers[:3]], alive


WITHSTOOD = [b"431", b"431", b"414"], b"HTTP/1.1 200 OK\r\n"


async def test_the_exporter_withstands_them() -> None:
    port = free_port()
    command = [str(BIN / "tocsin"), "exporter", f"--web.listen-address=127.0.0.1:{port}"]
    with started(port, "/-/healthy", *command) as process:
        assert await withstood(port, process) == WITHSTOOD


@pytest.mark.long
async def test_the_worker_withstands_them(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    port = free_port()
    flags = ["--model-path", str(model), "--port", str(port), "--threads", "1"]
    command = [sys.executable, "-m", "tocsin_inference", "serve", *flags]
    with started(port, "/health", *command) as process:
        assert await withstood(port, process) == WITHSTOOD
