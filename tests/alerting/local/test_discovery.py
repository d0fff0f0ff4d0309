"""Discovery against what may listen on an engine's usual port."""

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from support.exhausted import no_threads
from support.webhook_sink import Answer, WebhookSink
from tocsin_alerting.local.discovery import (
    PROBE_SECONDS,
    KnownEngine,
    Origin,
    UntrustedServer,
    as_read,
    is_up,
    local_engine,
    other_places,
    probe,
    untrusted_servers,
)
from tocsin_alerting.local.ports import user_name
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.engine_access import EngineAccess, Tls
from tocsin_exporter.scrape import Scraper
from tocsin_exporter.snapshot import Layout, Snapshot, Source, unread
from tocsin_exporter.targets import ENGINE_AREA, SCRAPE_CONFIGS, engine_target

VLLM = "# HELP vllm:num_requests_running Number of requests\nvllm:num_requests_running 1\n"


@asynccontextmanager
async def listening(answers: dict[str, str], *, silent: bool = False) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                if silent:
                    await reader.read()
                body = answers.get(request.split()[1].decode())
                status = "200 OK" if body is not None else "404 Not Found"
                text = body or ""
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
                )
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def find_engines(ports: Sequence[int], timeout_s: float = PROBE_SECONDS) -> list[KnownEngine]:
    places = [EngineAccess.of(f"http://127.0.0.1:{port}") for port in ports]
    return await probe(places, timeout_s)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"/metrics": VLLM}, "vLLM"),
        ({"/metrics": "sglang:num_running_reqs 1\n"}, "SGLang"),
        ({"/metrics": "sglang_num_running_reqs 1\n"}, "SGLang"),
        ({"/metrics": json.dumps("llamacpp:requests_processing 1\n")}, "llama.cpp"),
        ({"/metrics": "[]", "/prometheus/metrics": "trtllm_x 1\n"}, "TensorRT-LLM"),
        ({"/v1/models": '{"object":"list","data":[]}'}, "an OpenAI-compatible engine"),
        ({"/v1/models": '{"object":"list","data":null}'}, "an OpenAI-compatible engine"),
        ({"/v1/models": '{"data":[{"id":"m","owned_by":"llamacpp"}]}'}, "llama.cpp"),
    ],
)
async def test_an_engine_is_found_by_what_it_answers(answers: dict[str, str], kind: str) -> None:
    async with listening(answers) as port:
        engines = await find_engines([port])
    assert [(engine.kind, engine.url) for engine in engines] == [(kind, f"http://127.0.0.1:{port}")]


async def test_another_web_server_is_left_alone() -> None:
    async with listening(
        {"/metrics": "node_load1 0.5\n", "/v1/models": "<html>data</html>"}
    ) as port:
        assert await find_engines([port]) == []


async def test_an_engine_behind_a_key_is_known_by_its_refusal() -> None:
    refusal = b'{"error":{"message":"Invalid API Key","type":"authentication_error"}}'
    async with WebhookSink(usual=Answer(401, body=refusal)) as sink:
        assert len(await find_engines([sink.port])) == 1


@pytest.mark.parametrize(
    "usual",
    [
        Answer(401, body=b'{"error":"Unauthorized"}'),
        Answer(401, body=b"<html>"),
        Answer(200, body=b'{"status":"ok"}'),
        Answer(200, body=b"<html>vllm: a page about it</html>"),
        Answer(200, body=b'{"object":"list","data":["a"]}'),
        Answer(404, body=b""),
    ],
)
async def test_a_stranger_is_no_engine(usual: Answer) -> None:
    async with WebhookSink(usual=usual) as sink:
        assert await find_engines([sink.port]) == []


async def test_what_does_not_answer_costs_its_timeout_and_hides_nobody() -> None:
    async with listening({}, silent=True) as hung, listening({"/metrics": VLLM}) as port:
        found = await find_engines([hung, 1, port], timeout_s=0.3)
    assert [engine.url for engine in found] == [f"http://127.0.0.1:{port}"]


async def test_an_engine_whose_metrics_break_off_is_found_by_its_models() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        body = json.dumps({"object": "list", "data": [{"id": "m", "owned_by": "vllm"}]})
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        if path == b"/v1/models":
            writer.write((head + body).encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        (found,) = await find_engines([server.sockets[0].getsockname()[1]])
    assert (found.kind, found.model) == ("vLLM", "m")


async def test_a_fault_with_one_port_hides_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It ended the look at all of them, and the start of the agent with it."""
    broken = EngineAccess.of("https://127.0.0.1:1")
    broken = replace(broken, tls=Tls(ca_file=Path("/nonexistent/ca.pem")))
    async with listening({"/metrics": VLLM}) as port:
        well = EngineAccess.of(f"http://127.0.0.1:{port}")
        found = await probe([broken, well, broken])
    assert [engine.access for engine in found] == [well]
    urls = [record.__dict__["url"] for record in caplog.records]
    assert urls == [broken.url] * 2


async def test_without_a_thread_it_is_known_whose_port_it_is_and_who_listens() -> None:
    """The start of the agent ended with it."""
    async with listening({}) as port:
        access = local_engine(port, frozenset())
        with no_threads():
            found = await untrusted_servers([access])
            await other_places([access.target])
        assert found == (UntrustedServer(access.url, user_name(os.geteuid())),)


class _Unknown(EngineAccess):
    async def strangers(self) -> frozenset[int]:
        raise OSError(errno.EMFILE, "Too many open files")


async def test_whose_port_it_is_can_be_unknown_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await untrusted_servers([_Unknown.of("http://127.0.0.1:1")]) == ()
    assert "failed to find the owners of ports" in caplog.text


async def _last_read(port: int) -> Snapshot | None:
    access = EngineAccess.of(f"http://127.0.0.1:{port}")
    watch = engine_target(Host(now=Clock().wall), access, SCRAPE_CONFIGS[ENGINE_AREA])
    return await Scraper(watch, Clock()).round(1000)


async def test_type_and_model_are_those_of_the_page_that_was_last_read() -> None:
    page = 'vllm:num_requests_running{model_name="qwen3"} 1\n'
    async with listening({"/metrics": page}) as port:
        last = await _last_read(port)
    assert last is not None
    gone = await _last_read(port)
    access = EngineAccess.of(f"http://127.0.0.1:{port}")
    named = KnownEngine(access, "an engine", Origin.CONFIGURED)
    assert as_read(named, last) == KnownEngine(access, "vLLM", Origin.CONFIGURED, "qwen3")
    demo = KnownEngine(access, "a demo worker", Origin.DEMO)
    assert as_read(demo, last) == KnownEngine(access, "a demo worker", Origin.DEMO, "qwen3")
    known = KnownEngine(access, "vLLM", Origin.REMEMBERED, "qwen3")
    assert as_read(known, gone) == as_read(known, None) == known
    typeless = Layout(
        tuple(
            replace(one, labels=tuple(p for p in one.labels if p[0] != "engine_type"))
            for one in last.layout.series
        )
    )
    assert as_read(known, replace(last, layout=typeless)) == known
    unasked = unread(Source("llm", "h:1"), 2_000)
    assert [is_up(one) for one in (last, gone, unasked, None)] == [True, False, None, None]
