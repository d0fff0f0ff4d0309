"""The proxy between real sockets: every byte passes, and who has gone costs the engine nothing."""

import asyncio
import gc
import json
import os
import resource
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from support.proxied import Answer, EngineRequest, chunked, exchange, proxied
from tocsin_exporter.proxy.application import ProxyLimits
from tocsin_exporter.proxy.keys import client_keys
from tocsin_exporter.proxy.server import ProxyOptions
from tocsin_exporter.proxy.slots import SlotLimits
from tocsin_exporter.proxy.upstream import UpstreamAddress
from tocsin_exporter.proxy_identity import IDENTITY_PATH, is_loopback, metrics_url

CHAT = "/v1/chat/completions"
ASKED = {"model": "smol", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
BODY = json.dumps(ASKED).encode()
POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: engine.test\r\nX-CamelCase: Yes\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


def event(word: str, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    return b"data: %s\n\n" % json.dumps({"model": "smol", "choices": [choice], **more}).encode()


LAST = (
    b"data: %s\n\ndata: [DONE]\n\n"
    % json.dumps(
        {
            "model": "smol",
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 9},
        }
    ).encode()
)
STREAM_HEAD = (
    b"HTTP/1.1 200 Very Well\r\nContent-Type: text/event-stream\r\nX-Odd-Case: as it is\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
STREAM = [event("one "), event("two "), event("three"), LAST]
WIRE = STREAM_HEAD + chunked(STREAM)[:-2] + b"X-Trailer: kept\r\n\r\n"


async def stream(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(WIRE)


async def never(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def begins(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + chunked([event("one ")])[:-5])
    await asyncio.Event().wait()


def answering(wire: bytes, close: bool = False) -> Answer:
    async def answer(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(wire)
        if close:
            await writer.drain()
            writer.close()

    return answer


def limited(limits: ProxyLimits) -> Callable[[UpstreamAddress], ProxyOptions]:
    return lambda address: ProxyOptions(address, limits)


async def test_a_stream_passes_byte_by_byte_with_its_reason_chunks_and_trailers() -> None:
    async with proxied(stream) as proxy:
        assert await exchange(proxy.port, POST, size=len(WIRE)) == WIRE
        assert proxy.engine.requests[0].body == BODY
        assert b"X-CamelCase: Yes\r\n" in proxy.engine.requests[0].head
        assert b"Host: engine.test\r\n" in proxy.engine.requests[0].head


async def test_what_passes_is_measured_in_the_words_of_the_engines() -> None:
    async with proxied(stream) as proxy:
        answer = await proxy.client.post(CHAT, json=ASKED)
        assert answer.content == b"".join(STREAM)
        await proxy.until(lambda: proxy.ended("success") == 1)
        values = proxy.values()
    assert values["llm_prompt_tokens_total{model_name=smol}"] == 7
    assert values["llm_generation_tokens_total{model_name=smol}"] == 9
    assert values["llm_time_to_first_token_seconds_count{model_name=smol}"] == 1
    assert values["llm_inter_token_latency_seconds_count{model_name=smol}"] == 2
    assert values["llm_e2e_request_latency_seconds_count{model_name=smol,status=success}"] == 1
    assert values["llm_request_success_total{finished_reason=stop,model_name=smol}"] == 1
    assert values["llm_requests_started_total"] == 1
    assert values["llm_num_requests_running"] == 0


async def test_a_connection_to_the_engine_serves_request_after_request() -> None:
    async with proxied(stream) as proxy:
        for _ in range(5):
            await proxy.client.post(CHAT, json=ASKED)
        assert proxy.values()["tocsin_proxy_engine_connects_total"] == 1


async def test_the_first_token_passes_before_the_second_is_made() -> None:
    async with proxied(begins) as proxy, asyncio.timeout(5):
        async with proxy.client.stream("POST", CHAT, json=ASKED) as answer:
            first = await anext(answer.aiter_raw())
            assert first == event("one ")


async def test_a_client_that_goes_frees_the_engine_at_once() -> None:
    async with proxied(never) as proxy:
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(POST)
        await proxy.until(lambda: len(proxy.engine.requests) == 1)
        assert proxy.values()["llm_num_requests_running"] == 1
        writer.close()
        await proxy.until(lambda: proxy.engine.cut_off == 1)
        await proxy.until(lambda: proxy.ended("cancelled") == 1)
        assert proxy.values()["llm_num_requests_running"] == 0
        assert proxy.values()["tocsin_proxy_requests_total{client=-,code=499}"] == 1


async def abort_many(times: int) -> tuple[int, float]:
    """So many clients leave, half before and half within their answer, until no connection, task or
    descriptor is left; the slots that are still taken, and how many ended as cancelled."""

    async def answer(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await (never if b"early" in request.body else begins)(request, writer)

    async def leave(port: int, body: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        if b"late" in body:
            await reader.readuntil(b"one ")
        else:
            await asyncio.sleep(0)
        writer.transport.abort()

    async with proxied(answer) as proxy:
        before, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
        for _ in range(0, times, 20):
            bodies = [b'{"prompt": "late"}', b'{"prompt": "early"}'] * 10
            await asyncio.gather(*(leave(proxy.port, body) for body in bodies))
            await proxy.until(lambda: not proxy.app.upstream.open and proxy.engine.open == 0)
        await proxy.until(lambda: len(os.listdir("/proc/self/fd")) <= before)
        await proxy.until(lambda: len(asyncio.all_tasks()) <= tasks)
        return proxy.app.slots.running + proxy.app.slots.waiting, proxy.ended("cancelled")


async def test_aborted_requests_leave_nothing_behind() -> None:
    taken, cancelled = await abort_many(60)
    assert taken == 0 and cancelled >= 30


@pytest.mark.long
async def test_a_thousand_aborted_requests_leave_nothing_behind() -> None:
    await abort_many(100)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (await abort_many(1000))[0] == 0
    gc.collect()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10  # KiB


async def test_an_engine_that_is_down_is_a_502_in_openai_words() -> None:
    async with proxied(stream, lambda _: ProxyOptions(UpstreamAddress("127.0.0.1", 1))) as proxy:
        answer = await proxy.client.post(CHAT, json=ASKED)
        assert answer.status_code == 502
        assert answer.json()["error"]["type"] == "upstream_error"
        assert proxy.ended("error") == 1


async def test_an_engine_that_dies_in_its_answer_cuts_the_client_off() -> None:
    async with proxied(answering(STREAM_HEAD + chunked(STREAM)[:40], close=True)) as proxy:
        assert await exchange(proxy.port, POST) == STREAM_HEAD + chunked(STREAM)[:40]
        await proxy.until(lambda: proxy.ended("error") == 1)


async def test_a_request_that_takes_too_long_ends_with_504() -> None:
    async with proxied(never, limited(ProxyLimits(request_seconds=0.05))) as proxy:
        answer = await proxy.client.post(CHAT, json=ASKED)
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout")
        await proxy.until(lambda: proxy.ended("timeout") == 1 and proxy.engine.open == 0)


@pytest.mark.parametrize("head", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
async def test_who_uploads_slowly_holds_no_place(head: bytes) -> None:
    slots = SlotLimits(running=1)
    async with proxied(stream, limited(ProxyLimits(slots=slots))) as proxy:
        _, slow = await asyncio.open_connection("127.0.0.1", proxy.port)
        body = b"186a0\r\n" if b"chunked" in head else b""
        slow.write(b"POST %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % (CHAT.encode(), head) + body)
        slow.write(b"x" * 70_000)
        await proxy.until(lambda: proxy.app.ahead.held == 70_000)
        assert (await proxy.client.post(CHAT, json=ASKED)).status_code == 200
        assert len(proxy.engine.requests) == 1
        slow.write(b"x" * 30_000 + (b"\r\n0\r\n\r\n" if body else b""))
        await proxy.until(lambda: proxy.ended("success") == 2)
        assert proxy.engine.requests[1].body == b"x" * 100_000
        assert proxy.app.ahead.held == 0
        slow.transport.abort()


async def test_what_is_read_ahead_is_given_back_when_its_client_leaves() -> None:
    async with proxied(never, limited(ProxyLimits(slots=SlotLimits(running=1)))) as proxy:
        _, slow = await asyncio.open_connection("127.0.0.1", proxy.port)
        slow.write(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n" % CHAT.encode())
        slow.write(b"x" * 5000)
        await proxy.until(lambda: proxy.app.ahead.held == 5000)
        slow.transport.abort()
        await proxy.until(lambda: proxy.app.ahead.held == 0)
        assert proxy.app.slots.running == 0


@pytest.mark.parametrize("head", [b"Content-Length: 5000000", b"Transfer-Encoding: chunked"])
async def test_a_refusal_during_a_large_upload_is_read(head: bytes) -> None:
    """The client reads once all is sent: a connection that was closed at once would be reset."""
    async with proxied(stream, limited(ProxyLimits(body_bytes=100_000))) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"POST %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % (CHAT.encode(), head))
        for _ in range(25):
            writer.write(b"30d40\r\n%s\r\n" % (b"x" * 200_000))
            await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"Connection: close\r\n" in answer
        writer.transport.abort()


async def test_the_proxy_says_itself_what_it_is() -> None:
    keys = client_keys({"one": "key-number-one-of-one"})
    async with proxied(never, lambda address: ProxyOptions(address, keys=lambda: keys)) as proxy:
        proxy.app.metrics_url = "http://127.0.0.1:4914"
        answer = await proxy.client.get(IDENTITY_PATH)
        assert answer.json() == {
            "upstream": f"http://{proxy.app.upstream.address.target}",
            "metrics": "http://127.0.0.1:4914",
        }
        assert proxy.engine.requests == []
        for header in ("X-Forwarded-For", "forwarded"):
            through = await proxy.client.get(IDENTITY_PATH, headers={header: "for=192.0.2.1"})
            assert through.status_code == 401, "another proxy's callers are anywhere"
    assert metrics_url("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert metrics_url("10.1.2.3", 1) == "http://10.1.2.3:1"
    assert is_loopback("127.0.0.2") and is_loopback("::1")
    assert not is_loopback("10.1.2.3") and not is_loopback("unix")


async def test_llama_cpps_tokens_and_model_are_those_that_the_agent_has() -> None:
    last = {"choices": [{"delta": {}, "finish_reason": "length"}], "model": "/models/Smol-Q4.gguf",
            "timings": {"cache_n": 32, "prompt_n": 1, "predicted_n": 5}}  # fmt: skip
    wire = STREAM_HEAD + chunked([event("one "), b"data: %s\n\n" % json.dumps(last).encode()])
    async with proxied(answering(wire)) as proxy:
        await exchange(proxy.port, POST, size=len(wire))
        await proxy.until(lambda: proxy.ended("success") == 1)
        values = proxy.values()
    assert values["llm_generation_tokens_total{model_name=Smol-Q4}"] == 5
    assert values["llm_prompt_tokens_total{model_name=Smol-Q4}"] == 33


@pytest.mark.parametrize(
    ("header", "name"), [("mine", "mine"), ("", "chatcmpl-1"), ("x" * 101, ""), ("\u00e9", "")]
)
async def test_a_request_is_an_example_by_its_id(header: str, name: str) -> None:
    wire = STREAM_HEAD + chunked([event("one ", id="chatcmpl-1"), event("two"), LAST])
    async with proxied(answering(wire)) as proxy:
        head = {b"x-request-id": header.encode("latin-1")} if header else {}
        await proxy.client.post(CHAT, json=ASKED, headers=head)
        await proxy.until(lambda: proxy.ended("success") == 1)
        found = proxy.app.metrics.exemplars()
    families = {key[0]: dict(key[1]) for key in found}
    if not name:
        assert families == {}
        return
    assert {dict(example.labels)["request_id"] for example in found.values()} == {name}
    assert {"llm_time_to_first_token_seconds_bucket", "llm_e2e_request_latency_seconds_bucket"} <= (
        families.keys()
    )
    ((_, labels), example), *_ = found.items()
    assert 0 < example.value <= float(dict(labels)["le"])


async def test_keys_that_change_hold_for_the_next_request() -> None:
    keys = client_keys({"one": "key-number-one-of-one"})
    async with proxied(stream, lambda address: ProxyOptions(address, keys=lambda: keys)) as proxy:
        headers = {"authorization": "Bearer key-number-two-of-two"}
        assert (await proxy.client.post(CHAT, json=ASKED, headers=headers)).status_code == 401
        keys = client_keys({"two": "key-number-two-of-two"})
        assert (await proxy.client.post(CHAT, json=ASKED, headers=headers)).status_code == 200


async def test_who_finds_no_place_waits_and_who_finds_none_to_wait_is_refused() -> None:
    slots = SlotLimits(running=1, waiting=1)
    async with proxied(never, limited(ProxyLimits(slots=slots))) as proxy:
        first = asyncio.create_task(proxy.client.post(CHAT, json=ASKED))
        await proxy.until(lambda: len(proxy.engine.requests) == 1)
        second = asyncio.create_task(proxy.client.post(CHAT, json=ASKED))
        await proxy.until(lambda: proxy.values()["llm_num_requests_waiting"] == 1)
        refused = await proxy.client.post(CHAT, json=ASKED)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        health = asyncio.create_task(proxy.client.get("/health"))
        await proxy.until(lambda: len(proxy.engine.requests) == 2)  # health needs no place
        first.cancel()
        await proxy.until(lambda: len(proxy.engine.requests) == 3)
        second.cancel()
        health.cancel()
        await proxy.until(lambda: proxy.app.slots.running == 0)


async def test_a_body_over_the_limit_is_refused_with_and_without_its_length() -> None:
    async with proxied(stream, limited(ProxyLimits(body_bytes=100))) as proxy:
        told = await proxy.client.post(CHAT, content=b"x" * 101)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 50

        untold = await proxy.client.post(CHAT, content=pieces())
        assert (told.status_code, untold.status_code) == (413, 413)


async def test_keys_name_their_clients_and_stay_here() -> None:
    keys = client_keys({"laptop": "k" * 32, "ci": f"sha256:{'0' * 64}"})
    async with proxied(stream, lambda address: ProxyOptions(address, keys=lambda: keys)) as proxy:
        refused = await proxy.client.post(CHAT, json=ASKED)
        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "invalid_api_key")
        headers = {"authorization": f"Bearer {'k' * 32}"}
        assert (await proxy.client.post(CHAT, json=ASKED, headers=headers)).status_code == 200
        assert b"kkkk" not in proxy.engine.requests[0].head
        values = proxy.values()
        assert values["tocsin_proxy_requests_total{client=laptop,code=200}"] == 1
        assert values["tocsin_proxy_client_tokens_total{client=laptop,type=output}"] == 9
        assert sum(proxy.ended(status) for status in ("success", "rejected")) == 1


async def test_a_key_for_the_engine_takes_the_place_of_the_clients() -> None:
    def options(address: UpstreamAddress) -> ProxyOptions:
        return replace(ProxyOptions(address), upstream_key=lambda: "engine-key")

    async with proxied(stream, options) as proxy:
        await proxy.client.post(CHAT, json=ASKED, headers={"authorization": "Bearer mine"})
        assert b"Authorization: Bearer engine-key\r\n" in proxy.engine.requests[0].head
        assert b"mine" not in proxy.engine.requests[0].head


@pytest.mark.parametrize(
    "request_bytes",
    [
        POST.replace(b"Content-Length", b"Transfer-Encoding: chunked\r\nContent-Length"),
        POST.replace(b"Content-Length: ", b"Content-Length: 3\r\nContent-Length: "),
        POST.replace(b"Content-Length: ", b"Content-Length: +"),
        POST.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: xchunked"),
        POST.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked, identity"),
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nab",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nab",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nBad Name: y\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
    ids=str,
)
async def test_what_could_be_read_in_two_ways_never_reaches_the_engine(
    request_bytes: bytes,
) -> None:
    async with proxied(stream) as proxy:
        answer = await exchange(proxy.port, request_bytes)
        assert answer.split(b" ", 2)[1][:1] in (b"4", b"5")
        bodies = [request for request in proxy.engine.requests if b"POST" not in request.head]
        assert bodies == []
        assert all(request.body != BODY for request in proxy.engine.requests)


async def test_a_body_in_chunks_is_framed_anew_and_keeps_its_trailers() -> None:
    got: list[bytes] = []

    async def answer(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        got.append(request.body)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    wire = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with proxied(answer) as proxy:
        sent = (wire, b"3;x=y\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\nX-T: 1\r\n\r\n")
        assert (await exchange(proxy.port, *sent, size=40)).endswith(b"{}")
        assert got == [b"abcde"]


@pytest.mark.parametrize(
    ("wire", "close"),
    [
        (b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n", False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n", False),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/x\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 3\r\n\r\nabc", False),
    ],
    ids=str,
)
async def test_answers_of_every_kind_pass_as_they_are(wire: bytes, close: bool) -> None:
    get = b"GET /v1/models?a=%20b HTTP/1.1\r\nHost: a\r\n\r\n"
    async with proxied(answering(wire, close)) as proxy:
        assert await exchange(proxy.port, get, size=len(wire)) == wire
        assert proxy.engine.requests[0].path == "/v1/models?a=%20b"


async def test_an_answer_that_ends_with_its_connection_ends_with_ours() -> None:
    async with proxied(answering(b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nabc", close=True)) as proxy:
        answer = await exchange(proxy.port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer == b"HTTP/1.1 200 OK\r\nX: 1\r\nConnection: close\r\n\r\nabc"


async def test_a_head_alone_has_no_body_whatever_its_length_says() -> None:
    wire = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"
    async with proxied(answering(wire)) as proxy:
        head = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
        assert await exchange(proxy.port, head, size=len(wire)) == wire
        assert (await proxy.client.head("/")).status_code == 200


async def test_a_connection_that_the_engine_will_not_use_again_is_closed() -> None:
    wire = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    async with proxied(answering(wire)) as proxy:
        assert (await proxy.client.get("/v1/models")).content == b"{}"
        await proxy.until(lambda: proxy.engine.open == 0 and not proxy.app.upstream.open)
        assert (await proxy.client.get("/v1/models")).content == b"{}"
        assert proxy.app.upstream.connects == 2


async def test_an_old_client_gets_a_stream_without_chunks() -> None:
    async with proxied(stream) as proxy:
        answer = await exchange(proxy.port, POST.replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert body == b"".join(STREAM)


async def test_an_interim_answer_is_not_the_answer() -> None:
    wire = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    async with proxied(answering(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + wire)) as proxy:
        get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        assert await exchange(proxy.port, get, size=len(wire)) == wire


@pytest.mark.parametrize(
    "wire",
    [
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    ],
    ids=["text", "101", "head"],
)
async def test_an_engine_that_speaks_no_http_is_a_502(wire: bytes) -> None:
    async with proxied(answering(wire)) as proxy:
        answer = await proxy.client.get("/v1/models")
        assert answer.status_code == 502


@pytest.mark.parametrize(("judged", "wanted"), [(True, 1), (False, None)])
async def test_faults_of_answers_are_counted_where_that_is_wanted(
    judged: bool, wanted: int | None
) -> None:
    body = json.dumps({"choices": [{"message": {"content": "no {"}, "finish_reason": "stop"}]})
    wire = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    asked = {"model": "smol", "response_format": {"type": "json_object"}, "messages": []}

    def options(address: UpstreamAddress) -> ProxyOptions:
        return ProxyOptions(address, judges_answers=judged)

    async with proxied(answering(wire % (len(body), body.encode())), options) as proxy:
        await proxy.client.post(CHAT, json=asked)
        await proxy.until(lambda: proxy.ended("success") == 1)
        name = "llm_output_anomalies_total{kind=invalid_json,model_name=smol}"
        assert proxy.values().get(name) == wanted
