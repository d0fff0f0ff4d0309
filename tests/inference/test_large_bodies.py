"""Large and odd bodies, over real HTTP: none keeps the others waiting, none is echoed."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.exceptions import HTTPException

from support.exhausted import no_threads
from support.worker_server import WorkerServer, assert_accounts_balance, serving
from tocsin_inference.application import application
from tocsin_inference.bodies import LARGE, MOST_VALUES, ask, parse
from tocsin_inference.errors import Exhausted
from tocsin_inference.model import Model
from tocsin_inference.worker import SHORT

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
JSON = {"content-type": "application/json"}
LONG = "x" * 300_000


async def test_others_are_answered_while_a_large_body_is_read(tiny: Model) -> None:
    go = threading.Event()
    async with serving(tiny) as server, asyncio.timeout(60):
        before = asyncio.create_task(server.worker.reader.run(lambda: go.wait(30)))
        try:
            body = json.dumps(HELLO | {"user": "x" * LARGE}).encode()
            large = asyncio.create_task(server.client.post(CHAT, content=body, headers=JSON))
            for _ in range(3):
                assert (await server.client.post(CHAT, json=HELLO)).status_code == 200
                assert (await server.client.get("/metrics")).status_code == 200
            assert not large.done()
        finally:
            go.set()
            await before
        assert (await large).status_code == 200
        await assert_accounts_balance(server)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, HELLO | {"user": "x" * LARGE}),
        ("/generate", {"prompt": "x" * LARGE, "max_length": 1}),
        ("/generate", {"prompt": "x" * 2 * SHORT, "max_length": 1}),  # read at once, then tokenized
        ("/thinking", {"question": "a", "thinking_depth": 1}),  # scored
    ],
)
async def test_without_a_thread_it_is_no_fault_of_the_client(
    tiny: Model, path: str, body: dict[str, Any]
) -> None:
    async with serving(tiny) as server:
        before = await server.ended("error")
        with no_threads():
            reply = await server.client.post(path, json=body)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        error = reply.json()["error"]
        assert (error["type"], error["code"]) == ("server_error", "out_of_resources")
        assert "no thread left" in error["message"]
        assert await server.ended("error") == before + 1
        assert await server.ended("rejected") == 0
        await assert_accounts_balance(server)
        again = await server.client.post(path, json=body)
        assert again.status_code == 200 or "context_length_exceeded" in again.text


async def no_memory() -> AsyncIterator[bytes]:
    yield b"{"
    raise MemoryError


async def test_without_memory_for_a_body_it_is_no_fault_of_the_client(tiny: Model) -> None:
    async with serving(tiny) as server:
        app = application(server.worker, "test", time.time)
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://worker") as client:
            reply = await client.post(CHAT, content=no_memory(), headers=JSON)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        assert "no memory left" in reply.json()["error"]["message"]
        assert await server.ended("error") == 1
        await assert_accounts_balance(server)


@pytest.mark.parametrize("size", [1, 2 * SHORT])
async def test_without_memory_for_a_prompt_it_is_no_fault_of_the_client(
    tiny: Model, size: int
) -> None:
    def encode() -> list[list[int]]:
        raise MemoryError

    async with serving(tiny) as server:
        worker = server.worker
        how = ask(worker, 1, None, None)
        with pytest.raises(Exhausted, match="no memory left") as refused:
            await worker.begin([size], encode, how)
        assert refused.value.counted and await server.ended("error") == 1
        await assert_accounts_balance(server)


MANY = ",".join(["{}"] * MOST_VALUES)
DEEP = ("[" * 400 + ",".join(['"\\ud83d\\ude00"'] * 70_000)) + "]" * 400


@pytest.mark.parametrize("inside", [f"[{MANY}]", DEEP, "[" + ",".join(['""'] * MOST_VALUES) + "]"])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/generate", "/thinking"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_body_of_too_many_values_is_refused(
    shared: WorkerServer, path: str, inside: str
) -> None:
    content = f'{{"messages":[{{"role":"user","content":"a"}}],"metadata":{inside}}}'
    reply = await shared.client.post(path, content=content, headers=JSON)
    assert reply.status_code == 400
    assert f"more than {MOST_VALUES} texts, lists and objects" in reply.json()["error"]["message"]
    await assert_accounts_balance(shared)


def test_values_are_counted_wherever_they_stand() -> None:
    most = MOST_VALUES - 3  # beside the object, the key and the list
    for value in ('""', "{}", "[]"):
        fits = f'{{"a":[{",".join([value] * most)},1,null,2.5]}}'.encode()
        assert len(parse(fits)["a"]) == most + 3
        with pytest.raises(HTTPException, match="more than"):
            parse(f'{{"a":[{",".join([value] * (most + 1))}]}}'.encode())
    keys = ",".join(f'"k{i}":1' for i in range(MOST_VALUES))
    with pytest.raises(HTTPException):
        parse(f"{{{keys}}}".encode())
    for text in (r"\"", r"\\", "{[,"):  # quotes and brackets in a text are no values
        assert len(parse(f'["{text * 2 * MOST_VALUES}"]'.encode())) == 1
    assert parse(b"[" + b"1," * 200_000 + b"1]")[-1] == 1  # token ids


def test_half_a_character_is_named_at_any_depth() -> None:
    deep = b'{"a":' + b"[" * 400 + rb'"\ud83d"' + b"]" * 400 + b"}"
    with pytest.raises(HTTPException) as refused:
        parse(deep)
    assert refused.value.detail.startswith("a.0.0.0.") and len(refused.value.detail) < 250
    with pytest.raises(HTTPException, match=r"^400: x\.b\.1: "):
        parse(rb'{"x":{"a":["a"],"b":[1,"\ud83d"]},"y":"\ud83d"}')


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "a"}] * 2049,
        [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2049}],
        [{"role": "user", "content": [{"type": "image_url"}] * 2000}],
        [{"role": "x"}] * 2000,
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_first_mistake_of_a_long_list_is_enough(
    shared: WorkerServer, messages: list[dict[str, Any]]
) -> None:
    reply = await shared.client.post(CHAT, json={"messages": messages})
    assert reply.status_code == 422
    assert len(reply.json()["error"]["message"]) < 250


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (CHAT, HELLO | {"response_format": {"type": LONG}}, "response_format="),
        (CHAT, HELLO | {"logit_bias": {str(i): 1 for i in range(30_000)}}, "logit_bias="),
        (CHAT, HELLO | {"suffix": LONG}, "suffix="),
        (CHAT, HELLO | {"n": [1] * 300_000}, "n=["),
        ("/generate", {"prompt": "a", LONG: 1}, "unknown key 'xxx"),
        ("/generate", {"prompt": "a", "promp" + LONG: 1}, "unknown key 'promp"),
        (CHAT, {"messages": [{"role": LONG, "content": "a"}]}, "messages.0.role"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": LONG}]}]}, "messages.0.content"),
        (CHAT, HELLO | {"temperature": LONG}, "temperature: "),
        (CHAT, HELLO | {"stop": [1] * 30_000}, "stop."),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_no_answer_repeats_a_long_value(
    shared: WorkerServer, path: str, body: dict[str, Any], said: str
) -> None:
    reply = await shared.client.post(path, json=body)
    message = reply.json()["error"]["message"]
    assert reply.status_code in (400, 422) and said in message
    assert len(message) < 600 and "x" * 301 not in message


@pytest.mark.asyncio(loop_scope="module")
async def test_no_answer_repeats_a_long_name(shared: WorkerServer) -> None:
    reply = await shared.client.get("/v1/models/" + "x" * 5000)
    assert reply.status_code == 404 and "x" * 101 not in reply.text


@pytest.mark.parametrize("stop", ["", [""], ["a", ""]])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
@pytest.mark.asyncio(loop_scope="module")
async def test_an_empty_stop_string_is_refused(shared: WorkerServer, path: str, stop: Any) -> None:
    reply = await shared.client.post(path, json=HELLO | {"prompt": "a", "stop": stop})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "stop")
    assert "empty" in reply.json()["error"]["message"]
    await assert_accounts_balance(shared)


@pytest.mark.parametrize("stop", [None, []])
@pytest.mark.asyncio(loop_scope="module")
async def test_no_stop_string_is_none(shared: WorkerServer, stop: Any) -> None:
    assert (await shared.client.post(CHAT, json=HELLO | {"stop": stop})).status_code == 200
