"""The worker over real HTTP, on a tiny random model."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import Any

import httpx2
import pytest

from support.tiny_model import CONTEXT
from support.worker_server import WorkerServer, assert_accounts_balance, events, serving
from tocsin_inference import settings
from tocsin_inference.middleware import MOST_BYTES
from tocsin_inference.model import Model
from tocsin_inference.server import listen, run

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}
LONGEST = HELLO | {"max_tokens": CONTEXT - 500, "ignore_eos": True}
LONG = HELLO | {"max_tokens": 3000, "ignore_eos": True}


async def hold(server: WorkerServer, body: dict[str, Any]) -> tuple[Any, Any]:
    """Opens a stream, reads its first event, and leaves it open."""
    request = server.client.build_request("POST", CHAT, json=body | {"stream": True})
    response = await server.client.send(request, stream=True)
    assert response.status_code == 200
    lines = response.aiter_lines()
    await anext(lines)
    return response, lines


async def test_faults_of_answers_are_counted_where_that_is_asked_for(tiny: Model) -> None:
    """A token or two of random bytes are cut off, or no text at all."""
    async with serving(tiny, {"OUTPUT_ANOMALIES": "true"}) as server:
        found = await server.samples()
        kinds = {name: v for name, v in found.items() if name.startswith("llm_output_anomalies")}
        assert len(kinds) == 4 and not any(kinds.values())
        for path, body in (
            (CHAT, HELLO | {"max_tokens": 1, "ignore_eos": True}),
            ("/v1/completions", {"prompt": "ab", "max_tokens": 2, "ignore_eos": True}),
            ("/generate", {"prompt": "ab", "max_length": 1}),
        ):
            assert (await server.client.post(path, json=body)).status_code == 200
        found = await server.samples()
    counted = sum(v for name, v in found.items() if name.startswith("llm_output_anomalies"))
    assert counted == 3
    async with serving(tiny) as server:
        await server.client.post(CHAT, json=HELLO | {"max_tokens": 1, "ignore_eos": True})
        names = await server.samples()
    assert not any(name.startswith("llm_output_anomalies") for name in names)


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


async def test_a_request_that_is_broken_off_was_refused_by_nobody(tiny: Model) -> None:
    async with serving(tiny) as server, asyncio.timeout(20):
        for path in (b"/generate", b"/v1/chat/completions"):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = b"POST " + path + b" HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            writer.write(head + b"content-length: 100\r\n\r\n{")
            await writer.drain()
            writer.close()
        while await server.ended("cancelled") < 2:
            await asyncio.sleep(0.02)
        assert await server.ended("rejected") == 0
        assert await server.ended("error") == 0


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


async def test_an_endless_prompt_is_refused_while_others_stream(tiny: Model) -> None:
    async with serving(tiny) as server:
        response, lines = await hold(server, LONG)
        reply = await server.client.post("/v1/completions", json={"prompt": "x" * 40_000})
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "context_length_exceeded"
        assert "40000 prompt tokens" in reply.json()["error"]["message"]
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
        # a stream that has begun can only say it in an event; one that waits gets the status
        assert {r.status_code for r in replies} <= ({200, 504} if stream else {504})
        assert all('"code":"request_timeout"' in r.text for r in replies)
        assert await server.ended("timeout") == 2
        await assert_accounts_balance(server)


async def test_the_death_of_the_engine_fails_all_and_is_told(tiny: Model) -> None:
    async with serving(tiny) as server:
        waiting = asyncio.create_task(server.client.post(CHAT, json=LONGEST))
        response, lines = await hold(server, LONGEST)
        async with asyncio.timeout(60):
            while server.worker.engine.running < 2:
                await asyncio.sleep(0)
        manager = server.worker.engine._manager
        manager.batch_processor.cache.cache_allocators.clear()  # the next iteration cannot work
        assert (await waiting).status_code == 500
        rest = [line async for line in lines if line]
        assert '"code":"engine_failed"' in rest[-2] and rest[-1] == "data: [DONE]"
        await response.aclose()
        async with asyncio.timeout(60):
            while server.worker.engine.alive:
                await asyncio.sleep(0.01)
        refused = await server.client.post(CHAT, json=HELLO)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        health = await server.client.get("/health")
        assert (health.status_code, health.headers["retry-after"]) == (503, "5")
        assert health.json()["status"] == "unhealthy"
        await server.until("error", 3)  # the held answer ends after its last line was read
        assert await server.ended("success") == 0
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


async def test_what_an_answer_held_of_the_cache_is_there_for_the_next(tiny: Model) -> None:
    body = HELLO | {"max_tokens": 200, "ignore_eos": True}  # a quarter of the cache
    async with serving(tiny, flags="--kv-cache-tokens 1024") as server, asyncio.timeout(60):
        for _ in range(6):
            assert (await server.client.post(CHAT, json=body)).status_code == 200
        assert server.worker.engine.running == 0
