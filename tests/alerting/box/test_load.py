"""The load generator against a server that answers, and one that does not."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tocsin_alerting.box.load import MOST_AT_ONCE, Load

seen: list[dict[str, object]] = []


async def models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [{"id": "smol"}]})


async def chat(request: Request) -> Response:
    seen.append(await request.json())

    async def stream() -> AsyncIterator[bytes]:
        yield b'data: {"choices":[]}\n\n'
        yield b"data: [DONE]\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


async def hang(request: Request) -> Response:
    await asyncio.Event().wait()
    return Response()


@asynccontextmanager
async def served(completions: object) -> AsyncIterator[str]:
    app = Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/v1/chat/completions", completions, methods=["POST"]),  # type: ignore[arg-type]
        ]
    )
    config = uvicorn.Config(
        app, port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await task


async def run_until(load: Load, done: object) -> None:
    task = asyncio.create_task(load.run())
    async with asyncio.timeout(20):
        while not done():  # type: ignore[operator]
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_streams_chats_with_the_first_model_of_the_engine() -> None:
    async with served(chat) as url:
        load = Load(url, 200, random.Random(1), lambda error: None)
        await run_until(load, lambda: load.counts.answered >= 5)
    assert load.counts.failed == 0
    assert seen[0]["model"] == "smol" and seen[0]["stream"] is True


async def test_an_engine_that_hangs_is_not_buried() -> None:
    async with served(hang) as url:
        load = Load(url, 2000, random.Random(1), lambda error: None)
        await run_until(load, lambda: load.counts.left_out >= 5)
        assert load.counts.started == MOST_AT_ONCE


async def test_an_engine_that_is_gone_is_counted_and_said() -> None:
    said: list[str] = []
    load = Load("http://127.0.0.1:1", 500, random.Random(1), said.append)
    await run_until(load, lambda: load.counts.failed >= 3)
    assert set(said) == {"ConnectError"}
