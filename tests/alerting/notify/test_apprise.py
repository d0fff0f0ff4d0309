import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.broken_server import broken_server, drip, silence
from support.notifications import NEW_YEAR_MS, notification
from support.webhook_sink import WebhookSink
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, RetryAt
from tocsin_alerting.notify.apprise import Apprise, AppriseSettings
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.secret import Vault

# apprise imports it
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def _apprise(url: str, **settings: Any) -> Apprise:
    data = {"type": "apprise", "url_env": "URL", "timeout": "30s", **settings}
    deps = ChannelDeps(vault=Vault({"URL": url}, lambda path: ""))
    return Apprise("phone", AppriseSettings.model_validate(data), deps)


@asynccontextmanager
async def _begun(url: str, **settings: Any) -> AsyncIterator[Apprise]:
    pytest.importorskip("apprise", reason="needs the extra apprise")
    channel = _apprise(url, **settings)
    channel.begin()
    try:
        yield channel
    finally:
        await channel.close()


async def _send(channel: Apprise) -> Outcome:
    return await channel.send(notification(), NEW_YEAR_MS)


def _children() -> set[int]:
    """Processes of apprise that this one has begun and that are not over."""
    return {
        one.pid for one in psutil.Process().children() if "apprise_process" in str(one.cmdline())
    }


async def test_a_message_is_handed_over() -> None:
    async with WebhookSink() as sink, _begun(f"json://127.0.0.1:{sink.port}/") as channel:
        assert await _send(channel) == Delivered(detail="handed over")
        (request,) = await sink.wait_for(1)
    assert request.json()["title"].startswith("[P0] gpu-1: The engine at 127.0.0.1:8000")
    assert "alertctl ack 42" in request.json()["message"]
    assert not _children()


async def test_a_service_that_hangs_is_bounded() -> None:
    began = time.monotonic()
    async with broken_server(silence) as port:
        async with _begun(f"json://127.0.0.1:{port}/", timeout="500ms") as channel:
            result = await _send(channel)
    assert isinstance(result, RetryAt) and time.monotonic() - began < 20


async def test_a_service_that_kept_many_messages_gets_the_next_one() -> None:
    """Each took a thread that nobody could end: after eight the channel was silent for good."""
    kept = asyncio.Event()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not kept.is_set():  # a byte in time, each time: no time limit of a client ends it
            await drip(b"HTTP/1.1 200 OK\r\n", b"a", for_ever=True)(reader, writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with broken_server(server) as port:
        async with _begun(f"json://127.0.0.1:{port}/", timeout="1500ms") as channel:
            outcomes = [await _send(channel)]  # the process may still be starting
            for _ in range(3):
                outcomes += await asyncio.gather(*(_send(channel) for _ in range(8)))
                assert len(_children()) <= 3
            assert all(isinstance(outcome, RetryAt) for outcome in outcomes)
            kept.set()
            for _ in range(20):
                if isinstance(outcome := await _send(channel), Delivered):
                    break
            assert outcome == Delivered(detail="handed over")
        assert not _children()


async def test_a_process_that_is_killed_is_begun_anew() -> None:
    async with WebhookSink() as sink, _begun(f"json://127.0.0.1:{sink.port}/") as channel:
        assert isinstance(await _send(channel), Delivered)
        (first,) = _children()
        os.kill(first, signal.SIGKILL)
        outcomes = [await _send(channel), await _send(channel)]
        assert isinstance(outcomes[-1], Delivered)
        assert _children() != {first}


async def test_a_process_that_hangs_as_a_whole_is_replaced_at_the_next_message() -> None:
    """A service that keeps the interpreter to itself, or a process that is stopped."""
    async with WebhookSink() as sink, _begun(f"json://127.0.0.1:{sink.port}/") as channel:
        assert isinstance(await _send(channel), Delivered)
        (first,) = _children()
        os.kill(first, signal.SIGSTOP)
        began = time.monotonic()
        stopped = await asyncio.gather(*(_send(channel) for _ in range(4)))
        assert {type(outcome) for outcome in stopped} == {RetryAt}
        assert time.monotonic() - began < 25  # and not the 30 s that a message may take
        assert isinstance(await _send(channel), Delivered)
        assert first not in _children()
    assert not _children()


async def test_a_process_that_dies_with_a_message_that_it_has_not_read_is_noticed_at_once() -> None:
    """It was waited for until it would have read the message: 5 s in which nobody was paged."""
    async with WebhookSink() as sink, _begun(f"json://127.0.0.1:{sink.port}/") as channel:
        assert isinstance(await _send(channel), Delivered)
        (process,) = _children()
        os.kill(process, signal.SIGSTOP)
        sending = [asyncio.ensure_future(_send(channel)) for _ in range(3)]
        await asyncio.sleep(0.2)
        assert not any(one.done() for one in sending)
        began = time.monotonic()
        os.kill(process, signal.SIGKILL)
        outcomes = await asyncio.gather(*sending)
        assert time.monotonic() - began < 4.5
        assert {type(one) for one in outcomes} == {RetryAt}
        assert isinstance(await _send(channel), Delivered)


SOURCE = Path(__file__).read_text()
AGENT = """
import asyncio, os, signal
from alerting_apprise import _apprise, _children, _send

async def begin():
    await _send(_apprise("json://127.0.0.1:{port}/"))
    (process,) = _children()
    print(process, flush=True)
    os.kill(process, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(begin())
"""


async def test_no_process_outlives_an_agent_that_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("apprise", reason="needs the extra apprise")
    (tmp_path / "alerting_apprise.py").write_text(SOURCE)
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    async with WebhookSink() as sink:
        agent = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", AGENT.format(port=sink.port)),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        said, _ = await agent.communicate()
    assert await _ends(int(said))


async def _ends(pid: int) -> bool:
    """Within 10 s."""
    ends = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < ends:
        await asyncio.sleep(0.01)
    return not _runs(pid)


def _runs(pid: int) -> bool:
    """One that nobody has waited for yet runs no more."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


FORKING = """
import subprocess

class Apprise:
    def add(self, url):
        return True

    def notify(self, title, body):
        print(subprocess.Popen(["sleep", "600"]).pid, file=open({file!r}, "w"))
        return True
"""


async def test_what_a_service_has_begun_ends_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("apprise", reason="needs the extra apprise")
    file = tmp_path / "pid"
    (tmp_path / "apprise.py").write_text(FORKING.format(file=str(file)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # of its process
    async with _begun("json://127.0.0.1:1/") as channel:
        assert isinstance(await _send(channel), Delivered)
        process = int(file.read_text())
        assert process in psutil.pids()
    assert await _ends(process)


async def test_signals_for_the_group_end_it_only_with_the_agent() -> None:
    async with WebhookSink() as sink, _begun(f"json://127.0.0.1:{sink.port}/") as channel:
        assert isinstance(await _send(channel), Delivered)
        (process,) = _children()
        os.kill(process, signal.SIGINT)
        os.kill(process, signal.SIGTERM)
        assert isinstance(await _send(channel), Delivered)
        assert _children() == {process}


def test_an_unknown_service_is_refused_unseen() -> None:
    pytest.importorskip("apprise", reason="needs the extra apprise")
    with pytest.raises(ValueError, match="has no service") as refused:
        _apprise("nosuch://hunter2")
    assert "hunter2" not in str(refused.value)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ValueError, match=r"pip install 'tocsin\[apprise\]'"):
        _apprise("json://localhost")
