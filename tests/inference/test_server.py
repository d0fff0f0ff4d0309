"""The worker over real HTTP, on a tiny random model."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from support.tiny_model import CONTEXT
from support.worker_server import WorkerServer, serving
from tocsin_inference import settings
from tocsin_inference.body_limit import MOST_BYTES
from tocsin_inference.errors import Invalid
from tocsin_inference.model import Model
from tocsin_inference.server import listen, run

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}
LONG = HELLO | {"max_tokens": 3000, "ignore_eos": True}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(tiny: Model) -> AsyncIterator[WorkerServer]:
    """One server for the tests that leave it as they find it, its counters aside."""
    async with serving(tiny) as server:
        yield server


def events(text: str) -> list[Any]:
    """The data of an event stream; checks its end."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def hold(server: WorkerServer, body: dict[str, Any]) -> tuple[Any, Any]:
    """Opens a stream, reads its first event, and leaves it open."""
    request = server.client.build_request("POST", CHAT, json=body | {"stream": True})
    response = await server.client.send(request, stream=True)
    assert response.status_code == 200
    lines = response.aiter_lines()
    await anext(lines)
    return response, lines


async def assert_accounts_balance(server: WorkerServer) -> None:
    s = await server.samples()
    ended = sum(v for name, v in s.items() if name.startswith("llm_requests_total"))
    now = s["llm_num_requests_running"] + s["llm_num_requests_waiting"]
    assert s["llm_requests_started_total"] == ended + now


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_streamed_and_whole_answers_are_the_same_text(tiny: Model, path: str) -> None:
    body: dict[str, Any] = {"max_tokens": 200, "temperature": 0, "ignore_eos": True}
    body |= {"prompt": "abc"} if path != CHAT else {"messages": HELLO["messages"]}
    async with serving(tiny) as server:
        whole = (await server.client.post(path, json=body)).json()
        asked = body | {"stream": True, "stream_options": {"include_usage": True}}
        reply = await server.client.post(path, json=asked)
    assert reply.headers["content-type"].startswith("text/event-stream")
    chunks = events(reply.text)
    pieces = [c["choices"][0] for c in chunks if c["choices"]]
    if path == CHAT:
        streamed = "".join(p["delta"]["content"] for p in pieces)
        assert pieces[0]["delta"]["role"] == "assistant"
        text = whole["choices"][0]["message"]["content"]
    else:
        streamed = "".join(p["text"] for p in pieces)
        text = whole["choices"][0]["text"]
    assert streamed == text != ""
    assert (
        [p["finish_reason"] for p in pieces][-1] == "length" == whole["choices"][0]["finish_reason"]
    )
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] == whole["usage"]
    assert whole["usage"]["completion_tokens"] == 200
    assert whole["usage"]["total_tokens"] == 200 + whole["usage"]["prompt_tokens"]


async def test_stop_strings_end_the_answer_before_them(tiny: Model) -> None:
    async with serving(tiny) as server:
        body = HELLO | {"max_tokens": 100, "ignore_eos": True}
        text = (await server.client.post(CHAT, json=body)).json()["choices"][0]["message"][
            "content"
        ]
        stop = text[20:23]
        reply = (await server.client.post(CHAT, json=body | {"stop": [stop]})).json()
        assert await server.ended("success") == 2
        await assert_accounts_balance(server)
    choice = reply["choices"][0]
    assert choice["message"]["content"] == text[: text.index(stop)]
    assert choice["finish_reason"] == "stop"
    assert reply["usage"]["completion_tokens"] < 100


async def test_a_seed_repeats_an_answer(tiny: Model) -> None:
    body = HELLO | {"max_tokens": 40, "temperature": 1.5, "ignore_eos": True}
    async with serving(tiny) as server:
        replies = [await server.client.post(CHAT, json=body | {"seed": s}) for s in (5, 5, 6)]
    one, same, other = (r.json()["choices"][0]["message"]["content"] for r in replies)
    assert one == same != other


@pytest.mark.parametrize(
    "extra",
    [
        {"temperature": 0},
        {"top_p": 0},
        {"temperature": 0, "top_p": 0},
        {"top_p": 1, "temperature": 1},
        {"temperature": 1e-30},
        {"top_k": 1},
        {"temperature": 2, "top_k": 3, "top_p": 0.5},
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_extreme_sampling_harms_nobody(shared: WorkerServer, extra: dict[str, Any]) -> None:
    reply = await shared.client.post(CHAT, json=HELLO | {"max_tokens": 8} | extra)
    assert reply.status_code == 200, reply.text
    assert (await shared.client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    ("extra", "status", "param"),
    [
        ({"temperature": 3}, 422, "temperature"),
        ({"temperature": -1}, 422, "temperature"),
        ({"top_p": 1.5}, 422, "top_p"),
        ({"max_tokens": 0}, 422, "max_tokens"),
        ({"messages": []}, 422, "messages"),
        (
            {"messages": [{"role": "alien", "content": "x"}]},
            422,
            "messages.0.role: Input should be",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, 422, "messages.0.role: Input should be"),
        ({"n": 2}, 400, "n"),
        ({"tools": [{"type": "function"}]}, 400, "tools"),
        ({"logprobs": True}, 400, "logprobs"),
        ({"max_tokens": CONTEXT}, 400, "prompt"),
        ({"max_completion_tokens": CONTEXT}, 400, "prompt"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_cannot_be_is_refused_by_name_and_counted(
    shared: WorkerServer, extra: dict[str, Any], status: int, param: str
) -> None:
    rejected = await shared.ended("rejected")
    before = (await shared.client.get("/stats")).json()
    reply = await shared.client.post(CHAT, json=HELLO | extra)
    assert reply.status_code == status
    error = reply.json()["error"]
    assert param in (error["param"] or error["message"])
    assert error["type"] == "invalid_request_error"
    assert await shared.ended("rejected") == rejected + 1
    stats = (await shared.client.get("/stats")).json()
    assert stats["total_requests"] == before["total_requests"] + 1
    assert stats["failed_requests"] == before["failed_requests"]
    await assert_accounts_balance(shared)


async def test_developer_is_another_name_of_system(tiny: Model) -> None:
    async with serving(tiny) as server:
        texts = []
        for role in ("system", "developer"):
            said = [{"role": role, "content": "be brief"}, *HELLO["messages"]]
            body = HELLO | {"messages": said, "max_tokens": 20, "ignore_eos": True}
            reply = (await server.client.post(CHAT, json=body)).json()
            texts.append((reply["choices"][0]["message"]["content"], reply["usage"]))
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "/generate",
            {"prompt": "x", "max_lenght": 1},
            "body: unknown key 'max_lenght': did you mean 'max_length'?",
        ),
        (
            "/batch_generate",
            {"prompts": ["x"], "seed": 1},
            "body: unknown key 'seed': known are prompts, max_length, temperature",
        ),
        (
            "/thinking",
            {"question": "x", "thinking_dept": 1},
            "body: unknown key 'thinking_dept': did you mean 'thinking_depth'?",
        ),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_misspelt_key_is_named(
    shared: WorkerServer, path: str, body: dict[str, Any], message: str
) -> None:
    before = await shared.ended("rejected")
    reply = await shared.client.post(path, json=body)
    assert (reply.status_code, reply.json()["error"]["message"]) == (422, message)
    assert (await shared.client.post(path, json=[])).status_code == 422
    chat = await shared.client.post(CHAT, json=HELLO | {"max_tokens": 1, "store": True})
    assert chat.status_code == 200  # as OpenAI's clients expect
    assert await shared.ended("rejected") == before + 2


async def test_a_body_over_the_limit_is_refused_before_its_end(tiny: Model) -> None:
    head = b"POST /generate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    announced = head + b"content-length: 67108864\r\n\r\n "
    unannounced = head + b"transfer-encoding: chunked\r\n\r\n" + chunk * 9
    async with serving(tiny) as server, asyncio.timeout(20):
        for unfinished in (announced, unannounced):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(unfinished)
            reply = await reader.readuntil(b"}}")
            assert reply.startswith(b"HTTP/1.1 413 ") and b'"request_too_large"' in reply
            writer.close()
        assert await server.ended("rejected") == 2


async def test_the_limit_of_a_body_is_told_to_a_client_that_sends_it_all(tiny: Model) -> None:
    async with serving(tiny) as server:
        whole = b'{"prompt": "x", "max_length": 1'
        fits = whole + b" " * (MOST_BYTES - len(whole) - 1) + b"}"
        headers = {"content-type": "application/json"}
        codes = [
            (await server.client.post("/generate", content=body, headers=headers)).status_code
            for body in (fits, fits + b" ", fits * 4, fits)
        ]
    assert codes == [200, 413, 413, 200]


async def test_what_is_not_there_says_so(tiny: Model) -> None:
    async with serving(tiny) as server:
        client = server.client
        codes = {
            path: (reply.status_code, reply.json()["error"]["code"])
            for path in ("/nowhere", "/generate", "/v1/models/gpt-4")
            for reply in [await client.get(path)]
        }
        assert codes == {
            "/nowhere": (404, "not_found"),
            "/generate": (405, "method_not_allowed"),
            "/v1/models/gpt-4": (404, "not_found"),
        }
        whole = (await client.get("/v1/models")).json()["data"]
        assert (await client.get("/v1/models/tiny-qwen3")).json() == whole[0]


async def test_head_is_get_without_the_body(tiny: Model) -> None:
    async with serving(tiny) as server:
        for path in ("/health", "/metrics", "/v1/models", "/docs"):
            reply = await server.client.head(path)
            assert (reply.status_code, reply.content) == (200, b"")
            assert int(reply.headers["content-length"]) > 0
        assert (await server.client.head("/generate")).status_code == 405


async def test_bodies_that_are_not_json_are_422(tiny: Model) -> None:
    async with serving(tiny) as server:
        for content in (b"{", b'{"messages": NaN}', b"[]", b'{"temperature": NaN}'):
            headers = {"content-type": "application/json"}
            reply = await server.client.post(CHAT, content=content, headers=headers)
            assert reply.status_code == 422 and "error" in reply.json()
        assert await server.ended("rejected") == 4


HALF = {"high": "cut \ud83d", "low": "\udca9 cut", "swapped": "\ude00\ud83d", "first": "\ud800"}
TEXTS: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"messages": [{"role": "user", "content": "HALF"}]}, "messages.0.content"),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "HALF"}]}]},
        "messages.0.content.0.text",
    ),
    (CHAT, HELLO | {"stop": "HALF"}, "stop"),
    (CHAT, HELLO | {"stop": ["a", "HALF"], "stream": True}, "stop.1"),
    (CHAT, HELLO | {"model": "HALF"}, "model"),
    (CHAT, HELLO | {"user": "HALF"}, "user"),
    (CHAT, HELLO | {"metadata": {"HALF": "x"}}, "metadata."),
    (CHAT, HELLO | {"tools": [{"function": {"name": "HALF"}}]}, "tools.0.function.name"),
    ("/v1/completions", {"prompt": "HALF"}, "prompt"),
    ("/v1/completions", {"prompt": ["a", "HALF"], "stream": True}, "prompt.1"),
    ("/v1/completions", {"prompt": "a", "suffix": "HALF"}, "suffix"),
    ("/generate", {"prompt": "HALF"}, "prompt"),
    ("/generate", {"prompt": "a", "HALF": 1}, '"'),
    ("/batch_generate", {"prompts": ["a", "HALF"]}, "prompts.1"),
    ("/thinking", {"question": "HALF"}, "question"),
    ("/thinking", {"question": "a", "context": "HALF"}, "context"),
]


@pytest.mark.parametrize(("path", "body", "place"), TEXTS)
@pytest.mark.asyncio(loop_scope="module")
async def test_half_a_character_is_the_clients_mistake(
    shared: WorkerServer, path: str, body: dict[str, Any], place: str
) -> None:
    before = await shared.samples()
    for half in HALF.values():
        escaped = json.dumps(body).replace("HALF", json.dumps(half)[1:-1]).encode()
        raw = json.dumps(body).replace("HALF", half).encode("utf-8", "surrogatepass")
        wide = json.dumps(body).replace("HALF", half).encode("utf-16", "surrogatepass")
        for content in (escaped, raw, wide):
            headers = {"content-type": "application/json"}
            reply = await shared.client.post(path, content=content, headers=headers)
            assert (reply.status_code, reply.json()["error"]["type"]) == (
                400,
                "invalid_request_error",
            )
            assert reply.json()["error"]["message"].startswith(place)
            assert "half a character" in reply.json()["error"]["message"]
    after = await shared.samples()
    for status, more in {"error": 0, "timeout": 0, "rejected": 3 * len(HALF)}.items():
        name = f'llm_requests_total{{status="{status}"}}'
        assert after[name] == before[name] + more


@pytest.mark.asyncio(loop_scope="module")
async def test_whole_characters_are_taken_however_they_are_written(shared: WorkerServer) -> None:
    for text in ("\U0001f4a9", "中文", "\u0000", "\ufffd", "e\u0301"):
        body = json.dumps({"prompt": text, "max_length": 1})
        plain = json.dumps({"prompt": text, "max_length": 1}, ensure_ascii=False)
        for content in (body.encode(), plain.encode(), plain.encode("utf-16")):
            headers = {"content-type": "application/json"}
            reply = await shared.client.post("/generate", content=content, headers=headers)
            assert (reply.status_code, reply.json().get("prompt")) == (200, text)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_the_tokenizer_refuses_is_the_clients_mistake(shared: WorkerServer) -> None:
    with pytest.raises(Invalid, match="the tokenizer cannot read"):
        shared.worker.model.encode("cut \ud83d", special=True)


TURNS = HELLO | {"max_tokens": 2}
ODD_ASSISTANT: list[dict[str, Any]] = [
    {"content": None},
    {},
    {"content": []},
    {"content": "", "refusal": None, "audio": None, "function_call": None, "tool_calls": None},
    {"content": None, "tool_calls": []},
    {"content": [{"type": "refusal", "refusal": "no"}]},
]


@pytest.mark.parametrize("turn", ODD_ASSISTANT)
@pytest.mark.asyncio(loop_scope="module")
async def test_an_assistant_may_have_said_nothing(
    shared: WorkerServer, turn: dict[str, Any]
) -> None:
    turns = [HELLO["messages"][0], {"role": "assistant"} | turn, HELLO["messages"][0]]
    reply = await shared.client.post(CHAT, json=TURNS | {"messages": turns})
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    ("turn", "status"),
    [
        ({"role": "user", "content": None}, 422),
        ({"role": "user"}, 422),
        ({"role": "system", "content": None}, 422),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, 422),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, 422),
        ({"role": "assistant", "tool_calls": [{"id": "1", "type": "function"}]}, 400),
        ({"role": "assistant", "content": "x", "function_call": {"name": "f"}}, 400),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_other_turns_need_content_and_tools_are_refused_aloud(
    shared: WorkerServer, turn: dict[str, Any], status: int
) -> None:
    turns = [turn, HELLO["messages"][0]]
    reply = await shared.client.post(CHAT, json=TURNS | {"messages": turns})
    assert reply.status_code == status
    assert len(reply.json()["error"]["message"]) < 250


# every optional field that openai-python 3 sends as null when its caller passes None
NULLS = (
    "stream stream_options temperature top_p top_k max_tokens max_completion_tokens n seed stop "
    "ignore_eos model logprobs top_logprobs presence_penalty frequency_penalty logit_bias tools "
    "tool_choice response_format user functions function_call metadata store service_tier"
).split()


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_field_that_is_null_is_left_out(shared: WorkerServer, path: str) -> None:
    base = TURNS if path == CHAT else {"prompt": "a", "max_tokens": 2}
    for name in NULLS:
        reply = await shared.client.post(path, json=base | {name: None, "max_tokens": 2})
        assert reply.status_code == 200, (name, reply.text)
        assert reply.headers["content-type"] == "application/json", name
    everything = dict.fromkeys(NULLS) | base | {"max_tokens": 2}
    assert (await shared.client.post(path, json=everything)).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"prompt": "a", "max_length": 2, "temperature": None, "do_sample": None}),
        ("/batch_generate", {"prompts": ["a"], "max_length": 2, "temperature": None}),
        (
            "/thinking",
            {"question": "a", "context": None, "thinking_depth": None, "include_reasoning": None},
        ),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_null_is_left_out_on_our_own_endpoints_too(
    shared: WorkerServer, path: str, body: dict[str, Any]
) -> None:
    reply = await shared.client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    required = next(iter(body))
    refused = await shared.client.post(path, json=body | {required: None})
    assert refused.status_code == 422 and required in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("options", "with_usage"),
    [
        (None, False),
        ({}, False),
        ({"include_usage": None}, False),
        ({"include_usage": False}, False),
        ({"include_usage": True, "continuous_usage_stats": None}, True),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_stream_options_may_be_null(
    shared: WorkerServer, options: Any, with_usage: bool
) -> None:
    body = TURNS | {"stream": True, "stream_options": options, "ignore_eos": True}
    reply = await shared.client.post(CHAT, json=body)
    assert reply.status_code == 200, reply.text
    assert ("usage" in events(reply.text)[-1]) == with_usage


@pytest.mark.asyncio(loop_scope="module")
async def test_top_k_of_minus_one_is_no_limit(shared: WorkerServer) -> None:
    body = TURNS | {"max_tokens": 20, "temperature": 2, "top_p": 1, "seed": 3, "ignore_eos": True}
    replies = [await shared.client.post(CHAT, json=body | {"top_k": k}) for k in (-1, 0, 1)]
    off, zero, greedy = (r.json()["choices"][0]["message"]["content"] for r in replies)
    assert off == zero != greedy
    assert (await shared.client.post(CHAT, json=body | {"top_k": -2})).status_code == 422


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": ["x"] * 9}),
        ("/v1/completions", {"prompt": ["x"] * 200, "stream": True}),
        ("/v1/completions", {"prompt": [[65]] * 9}),
        ("/batch_generate", {"prompts": ["x"] * 9}),
        ("/batch_generate", {"prompts": ["x"] * 5000}),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_more_prompts_than_places_can_never_be_served(
    shared: WorkerServer, path: str, body: dict[str, Any]
) -> None:
    before = await shared.ended("rejected")
    reply = await shared.client.post(path, json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "too_many_prompts")
    assert "at most 8" in reply.json()["error"]["message"]
    assert "retry-after" not in reply.headers
    assert await shared.ended("rejected") == before + 1
    await assert_accounts_balance(shared)


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
@pytest.mark.asyncio(loop_scope="module")
async def test_nginx_is_told_not_to_hold_a_stream_back(shared: WorkerServer, path: str) -> None:
    body = TURNS | {"prompt": "a", "stream": True}
    reply = await shared.client.post(path, json=body)
    assert reply.headers["x-accel-buffering"] == "no"


async def test_an_endless_prompt_is_refused_while_others_stream(tiny: Model) -> None:
    async with serving(tiny) as server:
        response, lines = await hold(server, LONG)
        reply = await server.client.post("/v1/completions", json={"prompt": "x" * 100_000})
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "context_length_exceeded"
        assert "100000 prompt tokens" in reply.json()["error"]["message"]
        await anext(lines)
        await response.aclose()


async def test_a_burst_fills_the_queue_and_the_rest_gets_429(tiny: Model) -> None:
    async with serving(tiny) as server:
        held = [await hold(server, LONG) for _ in range(4)]
        short = HELLO | {"max_tokens": 4}
        burst = asyncio.gather(*(server.client.post(CHAT, json=short) for _ in range(40)))
        await server.until("rejected", 36)
        samples = await server.samples()
        assert samples["llm_num_requests_running"] == 4
        assert samples["llm_num_requests_waiting"] == 4
        await assert_accounts_balance(server)
        for response, _ in held:
            await response.aclose()
        codes = [r.status_code for r in await burst]
        assert (codes.count(200), codes.count(429)) == (4, 36)
        assert {r.headers.get("retry-after") for r in await burst if r.status_code == 429} == {"1"}
        await server.until("cancelled", 4)
        samples = await server.samples()
        assert samples["llm_num_requests_running"] == samples["llm_num_requests_waiting"] == 0
        await assert_accounts_balance(server)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_its_place(tiny: Model, stream: bool) -> None:
    body = LONG | {"stream": stream}
    async with serving(tiny, flags="--max-running 1") as server:
        for _ in range(5):
            with pytest.raises(httpx2.ReadTimeout):
                async with server.client.stream("POST", CHAT, json=body, timeout=0.3) as reply:
                    async for _ in reply.aiter_bytes():
                        raise httpx2.ReadTimeout("seen enough")
        await server.until("cancelled", 5)
        reply = await server.client.post(CHAT, json=HELLO | {"max_tokens": 3})
        assert reply.status_code == 200
        assert server.worker.engine.running == 0
        assert (await server.samples())["llm_kv_cache_usage_ratio"] == 0
        await assert_accounts_balance(server)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_past_its_time_is_a_timeout(tiny: Model, stream: bool) -> None:
    async with serving(tiny, flags="--max-running 1 --request-timeout 0.3") as server:
        replies = await asyncio.gather(
            *(server.client.post(CHAT, json=LONG | {"stream": stream}) for _ in range(2))
        )
        # a stream that has begun can only say it in an event; the one that waited gets the status
        codes = sorted(r.status_code for r in replies)
        assert codes == ([200, 504] if stream else [504, 504])
        assert all('"code":"request_timeout"' in r.text for r in replies)
        assert await server.ended("timeout") == 2
        await assert_accounts_balance(server)


async def test_the_death_of_the_engine_fails_all_and_is_told(tiny: Model) -> None:
    async with serving(tiny) as server:
        response, lines = await hold(server, LONG)
        waiting = asyncio.create_task(server.client.post(CHAT, json=LONG))
        while server.worker.engine.running < 2:
            await asyncio.sleep(0.01)
        manager = server.worker.engine._manager
        manager.batch_processor.cache.cache_allocators.clear()  # the next iteration cannot work
        assert (await waiting).status_code == 500
        rest = [line async for line in lines if line]
        assert '"code":"engine_failed"' in rest[-2] and rest[-1] == "data: [DONE]"
        await response.aclose()
        while server.worker.engine.alive:
            await asyncio.sleep(0.01)
        refused = await server.client.post(CHAT, json=HELLO)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        health = await server.client.get("/health")
        assert (health.status_code, health.headers["retry-after"]) == (503, "5")
        assert health.json()["status"] == "unhealthy"
        assert await server.ended("error") == 3
        await assert_accounts_balance(server)


async def test_out_of_memory_is_seen_in_a_last_scrape_and_then_exits_one(tiny: Model) -> None:
    def full(module: Any, args: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")

    _, chosen = settings.read(["--kv-cache-tokens", "4096"], {}, "test")
    with listen("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = asyncio.create_task(run(chosen, tiny, listener))
        hook = tiny.network.register_forward_pre_hook(full)
        try:
            async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
                while True:
                    try:
                        reply = await client.post(CHAT, json=HELLO)
                        break
                    except httpx2.ConnectError:
                        await asyncio.sleep(0.05)
                assert reply.status_code == 500
                seen = 'llm_allocator_ooms_total{engine="0",model_name="tiny-qwen3"} 1.0'
                async with asyncio.timeout(5):
                    while seen not in (await client.get("/metrics")).text:
                        await asyncio.sleep(0.05)
                assert (await client.get("/health")).status_code == 503
            assert await process == 1
        finally:
            hook.remove()


async def test_a_failed_request_leaves_the_others_alone(tiny: Model) -> None:
    async with serving(tiny) as server:
        response, lines = await hold(server, LONG)
        engine = server.worker.engine
        engine._manager.add_request([5], request_id="odd", max_new_tokens=2, sampling="nonsense")
        await anext(lines)
        assert engine.alive
        await response.aclose()


async def test_keys_are_required_where_they_are_set(tiny: Model) -> None:
    async with serving(tiny, env={"API_KEYS": "first, second"}) as server:
        post = server.client.post
        short = HELLO | {"max_tokens": 2}
        assert (await post(CHAT, json=short)).status_code == 401
        wrong = await post(CHAT, json=short, headers={"authorization": "Bearer sec"})
        assert wrong.status_code == 401 and wrong.json()["error"]["code"] == "invalid_api_key"
        assert "second" not in wrong.text + repr(server.worker.settings)
        right = await post(CHAT, json=short, headers={"authorization": "Bearer second"})
        assert right.status_code == 200
        assert (await server.client.get("/v1/models")).status_code == 401
        for path in ("/health", "/metrics", "/docs", "/stats", "/model_info"):
            assert (await server.client.get(path)).status_code == 200
        assert await server.ended("rejected") == 2


async def test_generate_and_its_batch(tiny: Model) -> None:
    async with serving(tiny) as server:
        body = {"prompt": "ab", "max_length": 9, "do_sample": False, "temperature": 2.0}
        one, same = [(await server.client.post("/generate", json=body)).json() for _ in "ab"]
        assert one["generated_text"] == same["generated_text"] and one["prompt"] == "ab"
        assert one["token_count"] <= 9 and one["generation_time"] > 0
        assert one["model_info"] == {"model_type": "qwen3", "quantization": None}
        batch = {"prompts": ["ab", "cd", "ef"], "max_length": 5, "temperature": 0}
        reply = (await server.client.post("/batch_generate", json=batch)).json()
        assert [r["prompt"] for r in reply["results"]] == ["ab", "cd", "ef"]
        assert (
            reply["results"][0]["generated_text"]
            == one["generated_text"][: len(reply["results"][0]["generated_text"])]
        )
        held = [await hold(server, LONG) for _ in range(2)]
        full = await server.client.post("/batch_generate", json={"prompts": ["x"] * 7})
        assert full.status_code == 429
        assert await server.ended("rejected") == 7  # a request is a prompt
        for response, _ in held:
            await response.aclose()
        await assert_accounts_balance(server)


async def test_prompts_of_every_kind(tiny: Model) -> None:
    async with serving(tiny) as server:
        prompts: list[Any] = ["ab", ["ab", "cd"], [65, 66], [[65], [66, 67]]]
        counts = []
        for prompt in prompts:
            body = {"prompt": prompt, "max_tokens": 3, "temperature": 0}
            whole = (await server.client.post("/v1/completions", json=body)).json()
            text = (await server.client.post("/v1/completions", json=body | {"stream": True})).text
            for choice in whole["choices"]:
                mine = [c["choices"][0] for c in events(text)]
                pieces = [c["text"] for c in mine if c["index"] == choice["index"]]
                assert "".join(pieces) == choice["text"]
            counts.append(len(whole["choices"]))
        assert counts == [1, 2, 1, 2]
        nonsense: list[Any] = [[], "", [9999], [[]], [-1]]
        for bad in nonsense:
            reply = await server.client.post("/v1/completions", json={"prompt": bad})
            assert reply.status_code == 400, bad


async def test_thinking_runs_its_passes_and_scores_the_answer(tiny: Model) -> None:
    async with serving(tiny) as server:
        body = {"question": "why?", "context": "none", "thinking_depth": 2}
        reply = (await server.client.post("/thinking", json=body)).json()
        assert reply["question"] == "why?" and len(reply["reasoning_steps"]) == 2
        assert 0 < reply["confidence_score"] < 1 and reply["processing_time"] > 0
        assert await server.ended("success") == 3
        hidden = await server.client.post("/thinking", json=body | {"include_reasoning": False})
        assert hidden.json()["reasoning_steps"] == [] and hidden.json()["thinking_process"] == ""


async def test_what_the_worker_says_of_itself(tiny: Model) -> None:
    async with serving(tiny) as server:
        await server.client.post(CHAT, json=HELLO | {"max_tokens": 2})
        health = (await server.client.get("/health")).json()
        assert health["status"] == "healthy" and health["model_loaded"]
        assert health["memory_usage"]["gpu_used_gb"] is None
        stats = (await server.client.get("/stats")).json()
        assert (stats["total_requests"], stats["successful_requests"]) == (1, 1)
        assert stats["average_response_time"] > 0 and stats["gpu_utilization"] is None
        info = (await server.client.get("/model_info")).json()
        assert info["context_length"] == CONTEXT and info["kv_cache_tokens"] == 20000
        models = (await server.client.get("/v1/models")).json()
        assert [m["id"] for m in models["data"]] == ["tiny-qwen3"]
        page = (await server.client.get("/docs")).text
        assert "POST /thinking" in page and "<script" not in page and "//cdn" not in page
        assert (await server.client.get("/nowhere")).json()["error"]["message"] == "Not Found"


async def test_promtool_has_no_objection(tiny: Model) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    async with serving(tiny) as server:
        await server.client.post(CHAT, json=HELLO | {"max_tokens": 5})
        page = (await server.client.get("/metrics")).content
    assert b"_created" not in page
    command = [promtool, "check", "metrics"]
    done = await asyncio.to_thread(subprocess.run, command, input=page, capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
