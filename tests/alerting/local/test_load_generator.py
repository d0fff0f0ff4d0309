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

from tocsin_alerting.local.load_generator import (
    MAX_IN_FLIGHT,
    QUICK_SECONDS,
    REST_SECONDS,
    SLOW_SECONDS,
    LoadGenerator,
)

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
        app, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1
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


async def run_until(load: LoadGenerator, done: object) -> None:
    task = asyncio.create_task(load.run())
    async with asyncio.timeout(20):
        while not done():  # type: ignore[operator]
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_streams_chats_with_the_first_model_of_the_engine() -> None:
    async with served(chat) as url:
        load = LoadGenerator(url, 200, random.Random(1), lambda error: None)
        await run_until(load, lambda: load.counts.answered >= 5)
    assert load.counts.failed == 0
    assert seen[0]["model"] == "smol" and seen[0]["stream"] is True


async def test_an_engine_that_hangs_gets_one_request() -> None:
    async with served(hang) as url:
        load = LoadGenerator(url, 2000, random.Random(1), lambda error: None)
        await run_until(load, lambda: load.counts.left_out >= 50)
        assert load.counts.started == 1


async def test_quick_answers_let_more_go_at_once_up_to_the_most() -> None:
    at_once: list[int] = []
    open_now: set[object] = set()

    async def busy(request: Request) -> Response:
        open_now.add(request)
        at_once.append(len(open_now))
        await asyncio.sleep(0.02)
        open_now.remove(request)
        return Response(b"data: [DONE]\n\n")

    async with served(busy) as url:
        load = LoadGenerator(url, 2000, random.Random(1), lambda error: None)
        await run_until(load, lambda: load.counts.answered >= 60)
    assert at_once[0] == 1 and max(at_once) == MAX_IN_FLIGHT
    assert load.counts.failed == 0 and load.counts.left_out > 0


def test_a_slow_answer_halves_what_goes_at_once() -> None:
    load = LoadGenerator("", 1, random.Random(1), lambda error: None)
    seen_most = []
    for seconds in [0.1] * 6 + [QUICK_SECONDS + 0.1] * 2:
        load._adapt(load.most, seconds, 0.0)
        seen_most.append(load.most)
    load._adapt(
        6, QUICK_SECONDS + 0.1, 0.0
    )  # began when six could go at once, as the first slow one
    assert seen_most + [load.most] == [2, 3, 4, 5, 6, 6, 3, 1, 1]


async def test_an_engine_that_is_slow_with_one_request_is_left_alone() -> None:
    asked: list[float] = []

    async def slow(request: Request) -> Response:
        asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(SLOW_SECONDS + 0.1)
        return Response(b"data: [DONE]\n\n")

    async with served(slow) as url:
        load = LoadGenerator(url, 200, random.Random(1), lambda error: None)
        await run_until(load, lambda: load.counts.answered == 1)
        left_out = load.counts.left_out
        await run_until(load, lambda: load.counts.left_out >= left_out + 20)
    assert len(asked) == load.counts.started == 1
    assert 300 / (REST_SECONDS + SLOW_SECONDS) < 10  # the floor of the rules about latency


async def test_the_key_is_sent_and_a_refusal_is_said_with_its_status() -> None:
    async def guarded(request: Request) -> Response:
        known = request.headers.get("authorization") == "Bearer k1"
        return Response(b"data: [DONE]\n\n", 200 if known else 401)

    said: list[str] = []
    async with served(guarded) as url:
        stranger = LoadGenerator(url, 500, random.Random(1), said.append)
        await run_until(stranger, lambda: stranger.counts.failed >= 2)
        assert set(said) == {"HTTP 401"} and stranger.counts.answered == 0
        friend = LoadGenerator(
            url, 500, random.Random(1), said.append, {"Authorization": "Bearer k1"}
        )
        await run_until(friend, lambda: friend.counts.answered >= 2)
        assert friend.counts.failed == 0


async def test_an_engine_that_is_gone_is_counted_and_said() -> None:
    said: list[str] = []
    load = LoadGenerator("http://127.0.0.1:1", 500, random.Random(1), said.append)
    await run_until(load, lambda: load.counts.failed >= 3)
    assert set(said) == {"ConnectError"}
