import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from support.broken_server import broken_server, drip, silence
from support.notifications import NEW_YEAR_MS, notification
from support.webhook_sink import WebhookSink
from tocsin_alerting.notify.apprise import Apprise, AppriseSettings
from tocsin_alerting.notify.channel import Done, Outcome, RetryAt
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.supplies import Supplies

# apprise imports it
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def _apprise(url: str, **settings: Any) -> Apprise:
    data = {"type": "apprise", "url_env": "URL", "timeout": "30s", **settings}
    supplies = Supplies(vault=Vault({"URL": url}, lambda path: ""))
    return Apprise("phone", AppriseSettings.model_validate(data), supplies)


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
        assert await _send(channel) == Done(detail="handed over")
        (request,) = await sink.wait_for(1)
    assert request.json()["title"].startswith("[P0] gpu-1: The engine at 127.0.0.1:8000")
    assert "alertctl ack 42" in request.json()["message"]
    assert not _children()


async def test_a_service_that_hangs_is_bounded() -> None:
    began = time.monotonic()
    async with broken_server(silence) as port:
        async with _begun(f"json://127.0.0.1:{port}/", timeout="500ms") as channel:
            result = await _send(channel)
    assert isinstance(result, RetryAt) and time.monotonic() - began < 3


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
                if isinstance(outcome := await _send(channel), Done):
                    break
            assert outcome == Done(detail="handed over")
        assert not _children()


async def test_a_process_that_is_killed_is_begun_anew() -> None:
    async with WebhookSink() as sink, _begun(f"json://127.0.0.1:{sink.port}/") as channel:
        assert isinstance(await _send(channel), Done)
        (first,) = _children()
        os.kill(first, signal.SIGKILL)
        outcomes = [await _send(channel), await _send(channel)]
        assert isinstance(outcomes[-1], Done)
        assert _children() != {first}


async def test_a_process_that_is_stopped_is_replaced() -> None:
    async with WebhookSink() as sink:
        async with _begun(f"json://127.0.0.1:{sink.port}/", timeout="1s") as channel:
            while not isinstance(await _send(channel), Done):
                pass
            (first,) = _children()
            os.kill(first, signal.SIGSTOP)
            stopped = await asyncio.gather(*(_send(channel) for _ in range(4)))
            assert all(isinstance(outcome, RetryAt) for outcome in stopped)
            while not isinstance(await _send(channel), Done):
                pass
        assert not _children()


async def test_signals_for_the_group_end_it_only_with_the_agent() -> None:
    async with WebhookSink() as sink, _begun(f"json://127.0.0.1:{sink.port}/") as channel:
        assert isinstance(await _send(channel), Done)
        (process,) = _children()
        os.kill(process, signal.SIGINT)
        os.kill(process, signal.SIGTERM)
        assert isinstance(await _send(channel), Done)
        assert _children() == {process}


def test_an_unknown_service_is_refused_unseen() -> None:
    pytest.importorskip("apprise", reason="needs the extra apprise")
    with pytest.raises(ValueError, match="knows no service") as refused:
        _apprise("nosuch://hunter2")
    assert "hunter2" not in str(refused.value)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ValueError, match=r"pip install 'tocsin\[apprise\]'"):
        _apprise("json://localhost")
