"""Nobody reads the log: whoever must be woken is woken, and every page is answered."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.agent_process import BIN, free_port
from support.full_pipe import full_pipe
from support.story import PAGE_SECONDS, story, until
from support.tiny_model import write_tiny_model

FLOOD = 400  # requests that each put a line and a traceback into the log


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
async def test_a_stopped_reader_of_the_log_silences_nobody(
    tmp_path: Path, number: signal.Signals
) -> None:
    with full_pipe() as (_, entry):
        async with story(tmp_path, output=entry) as one:
            assert one.agent.process is not None
            for _ in range(FLOOD):
                one.agent.process.send_signal(number)
                await asyncio.sleep(0.002)
            began = time.time()
            one.engine.send(signal.SIGKILL)
            page = (await one.first.wait_for(1, within=20))[0]
            assert page.at - began < PAGE_SECONDS
            assert await one.metric("tocsin_loop_lag_seconds") < 1
            ended = asyncio.to_thread(one.agent.terminate)
            assert await ended < 5


async def test_no_room_for_the_banner_is_no_reason_not_to_page(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    async with story(tmp_path, output=full) as one:
        os.close(full)
        began = time.time()
        one.engine.send(signal.SIGKILL)
        page = (await one.first.wait_for(1, within=20))[0]
        assert page.at - began < PAGE_SECONDS
        await until(lambda: one.agent.get(LOST)["result"], within=20)


LOST = "/api/v1/query?query=tocsin_log_lines_dropped_total%7Breason=%22failed%22%7D%3E0"


@contextmanager
def started(command: list[str], output: int) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_the_exporter_and_the_worker_answer_without_a_reader(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny")
    ports = free_port(), free_port()
    exporter = [str(BIN / "tocsin"), "exporter", f"--web.listen-address=127.0.0.1:{ports[0]}"]
    worker = [sys.executable, "-m", "tocsin_inference", "--port", str(ports[1])]
    worker += ["--model-path", str(model), "--threads", "1", "--log-level", "debug"]
    with full_pipe() as (_, entry), started(exporter, entry) as a, started(worker, entry) as b:
        for process, port in zip((a, b), ports, strict=True):
            await until(lambda port=port: page(port), within=60)  # type: ignore[misc]
            for _ in range(FLOOD):
                process.send_signal(signal.SIGUSR1)
                await asyncio.sleep(0.002)
            assert "tocsin_log_lines_dropped_total" in await asyncio.to_thread(page, port)
            process.terminate()
            assert await asyncio.to_thread(process.wait, 20) == 0


def page(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=3) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
