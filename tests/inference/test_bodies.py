"""What clients send, over real HTTP: what is taken, and what is their mistake."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from support.tiny_model import CONTEXT, START
from support.worker_server import WorkerServer, assert_accounts_balance, events, serving
from tocsin_inference.errors import Invalid
from tocsin_inference.model import Model

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}


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


# no token stands for more than the 12 characters of START
TOO_LONG = "a " * (CONTEXT * len(START) // 2 + 1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [{"role": "user", "content": TOO_LONG}]}),
        (CHAT, {"messages": [{"role": "user", "content": TOO_LONG[::2]}] * 2}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": TOO_LONG}]}]}),
        ("/v1/completions", {"prompt": TOO_LONG}),
        ("/v1/completions", {"prompt": ["a", TOO_LONG], "stream": True}),
        ("/v1/completions", {"prompt": [65] * len(TOO_LONG)}),
        ("/generate", {"prompt": TOO_LONG}),
        ("/batch_generate", {"prompts": ["a", TOO_LONG]}),
        ("/thinking", {"question": "a", "context": TOO_LONG}),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_no_text_that_fits_can_have_is_not_tokenized(
    shared: WorkerServer, path: str, body: dict[str, Any]
) -> None:
    reply = await shared.client.post(path, json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"
    assert f"no text of more than {CONTEXT * len(START)} does" in reply.json()["error"]["message"]
    await assert_accounts_balance(shared)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_longest_text_that_fits_is_served(shared: WorkerServer) -> None:
    body = {"prompt": START * (CONTEXT - 1), "max_tokens": 1, "ignore_eos": True}
    reply = await shared.client.post("/v1/completions", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["usage"]["prompt_tokens"] == CONTEXT - 1
    body |= {"prompt": [START * 2100] * 2}  # together they are longer than one may be
    reply = await shared.client.post("/v1/completions", json=body)
    assert reply.status_code == 200, reply.text


async def test_the_time_of_a_request_runs_while_its_prompt_waits_to_be_read(tiny: Model) -> None:
    go = threading.Event()
    async with serving(tiny, flags="--request-timeout 0.3") as server:
        before = asyncio.create_task(server.worker.reader.run(lambda: go.wait(30)))
        try:
            body = {"prompt": "a" * 4097, "max_tokens": 1}
            reply = await server.client.post("/v1/completions", json=body)
            assert (reply.status_code, reply.json()["error"]["code"]) == (504, "request_timeout")
            assert await server.ended("timeout") == 1
        finally:
            go.set()
            await before
        await assert_accounts_balance(server)
