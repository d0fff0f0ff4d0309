"""What all requests together may hold."""

from __future__ import annotations

import asyncio

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from tocsin_inference.middleware import LARGE, BodyLimit


async def test_large_bodies_wait_for_each_other_and_small_ones_never() -> None:
    leave = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await leave.wait()

    async def send(message: Message) -> None:
        raise AssertionError(message)

    limit = BodyLimit(app, most=10 * LARGE, most_held=3 * LARGE)

    async def request(size: int) -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"x" * size, "more_body": False}

        await limit({"type": "http", "headers": []}, receive, send)

    async with asyncio.timeout(10):
        open_ = [asyncio.create_task(request(2 * LARGE)) for _ in range(3)]
        open_ += [asyncio.create_task(request(LARGE)) for _ in range(20)]
        await asyncio.sleep(0)
        with pytest.raises(HTTPException) as refused:
            await request(2 * LARGE)
        assert refused.value.status_code == 429
        small = asyncio.create_task(request(LARGE))
        leave.set()
        await asyncio.gather(small, *open_)
        await asyncio.gather(*(request(2 * LARGE) for _ in range(3)))
        await request(4 * LARGE)  # all places are free again
