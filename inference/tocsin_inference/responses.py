"""HTTP answers that end when their client does.

Starlette tells nobody that a client has gone while a handler computes, so both kinds of answer
here listen for the disconnect themselves, and cancel the work: its place goes to someone else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any

import orjson
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from tocsin_inference.errors import WorkerError
from tocsin_inference.generation import Generation

Chunks = AsyncGenerator[bytes, None]
DONE = b"data: [DONE]\n\n"
CLIENT_GONE = 499  # nginx's code; nobody is there to read it
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # else nginx keeps the first tokens until its buffer is full
]


class JsonResponse(Response):
    """A JSON body."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def event(content: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(content) + b"\n\n"


async def watched(request: Request, work: Awaitable[Any]) -> Response:
    """The result of `work` as JSON; cancels it when the client disconnects."""
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return JsonResponse(task.result())
        return Response(status_code=CLIENT_GONE)
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def disconnected(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events. The status line waits for the first event, so that what fails before it
    gets a status of its own; what fails later is an event with an error body."""

    def __init__(self, chunks: Chunks, generations: Sequence[Generation]) -> None:
        super().__init__()
        self._chunks = chunks
        self._generations = generations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                pump.result()
        finally:
            gone.cancel()
            pump.cancel()
            await asyncio.gather(pump, gone, return_exceptions=True)
            for generation in self._generations:
                generation.close(None)

    async def _pump(self, send: Send) -> None:
        first = await anext(self._chunks)  # a WorkerError here becomes a JSON answer
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        try:
            async for chunk in self._chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except WorkerError as error:
            await send(_more(event(error.body())))
        except OSError:  # the transport is closed: the same as a disconnect
            return
        await send({"type": "http.response.body", "body": DONE, "more_body": False})


def _more(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


def answer_identity(name: str, model: str, now: float) -> dict[str, Any]:
    """Identity of an answer; `now` is Unix time in seconds."""
    return {"id": name, "created": int(now), "model": model}


def usage(generations: Sequence[Generation]) -> dict[str, int]:
    """Tokens that were read and generated; the one that ends an answer counts."""
    prompt = sum(len(g.prompt) for g in generations)
    completion = sum(len(g.ids) for g in generations)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
