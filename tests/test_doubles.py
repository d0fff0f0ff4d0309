"""Doubles of the other side leave nothing open, whatever is on its way when they end."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from support.broken_server import broken_server, silence
from support.webhook_sink import WebhookSink


@asynccontextmanager
async def sink() -> AsyncIterator[int]:
    async with WebhookSink() as opened:
        yield opened.port


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    async with broken_server(silence) as port:
        yield port


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("double", [sink, silent])
@pytest.mark.filterwarnings("error")
async def test_a_connection_that_comes_at_the_end_is_closed(
    double: Callable[[], AbstractAsyncContextManager[int]], turns: int
) -> None:
    """In each turn of the loop from its arrival to its handler; pytest tells what stays open."""
    clients: list[socket.socket] = []
    async with double() as port:
        for _ in range(20):
            clients.append(socket.create_connection(("127.0.0.1", port)))
        for _ in range(turns):
            await asyncio.sleep(0)
    gc.collect()
    assert [_last(client) for client in clients] == [b""] * 20


def _last(client: socket.socket) -> bytes:
    """Nothing, once it is closed; one that was never accepted is reset."""
    with client:
        client.settimeout(5)
        try:
            return client.recv(1)
        except ConnectionResetError:
            return b""
