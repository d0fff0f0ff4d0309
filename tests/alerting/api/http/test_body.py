"""What a request carries."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from support.api_client import api_client
from tocsin_alerting.api.http.body import read_body


def echo(most_bytes: int, seconds: float) -> Route:
    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await read_body(request, most_bytes, seconds))

    return Route("/", answer, methods=["POST"])


async def stalled() -> AsyncIterator[bytes]:
    yield b"query=1"
    await asyncio.Event().wait()


@pytest.mark.parametrize(("size", "code"), [(1024, 200), (1025, 413)])
async def test_a_body_has_a_most_length(size: int, code: int) -> None:
    async with api_client([echo(1024, 5)]) as client:
        answer = await client.post("/", content=b"x" * size)
    assert answer.status_code == code
    assert answer.text == "x" * size if code == 200 else "longer than 1 KiB" in answer.text


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async with api_client([echo(1024, 0.05)]) as client:
        answer = await client.post("/", content=stalled())
    assert answer.status_code == 503
    assert "not received within 0.05 s" in answer.text
