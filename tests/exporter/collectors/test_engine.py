"""The engine collector against HTTP servers that answer as engines do, and as broken ones do."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tocsin_exporter.catalogue import LLM
from tocsin_exporter.collectors.collector import CollectorError, Partial
from tocsin_exporter.collectors.engine import EngineCollector
from tocsin_exporter.engine_access import MOST_BYTES, EngineAccess
from tocsin_exporter.engine_targets import EngineTargets
from tocsin_exporter.snapshot import LayoutCache, Sample

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="qwen"} 3.0
vllm:num_requests_running{engine="1",model_name="qwen"} 5.0
vllm:kv_cache_usage_perc{engine="0",model_name="qwen"} 0.25
vllm:prompt_tokens_total{engine="0",model_name="qwen"} 3010.0
vllm:prompt_tokens_created{engine="0",model_name="qwen"} 1.7e9
vllm:request_success_total{engine="0",finished_reason="stop",model_name="qwen"} 7.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="qwen"} 2.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="qwen"} 4.0
vllm:request_success_total{engine="0",finished_reason="error",model_name="qwen"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.5",model_name="qwen"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="1",model_name="qwen"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="qwen"} 3.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="qwen"} 3.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="qwen"} 1.75
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="1000",num_cpu_blocks="None"} 1.0
http_requests_total{handler="/v1/chat/completions",method="POST",status="5xx"} 3.0
http_requests_total{handler="/metrics",method="GET",status="5xx"} 9.0
"""
SGLANG = """\
sglang:num_running_reqs{model_name="q}w{",engine_type="unified",tp_rank="0"} 2.0
sglang:token_usage{model_name="q}w{",engine_type="unified",tp_rank="0"} 0.5
sglang:token_usage{model_name="q}w{",engine_type="unified",tp_rank="1"} 0.75
sglang:generation_tokens_total{model_name="q}w{",engine_type="unified"} 40.0
sglang:weight_memory_usage_gb{model_name="q}w{"} 2.0
sglang:e2e_request_latency_seconds_sum{model_name="q}w{",is_streaming="true"} 3.0
sglang:e2e_request_latency_seconds_sum{model_name="q}w{",is_streaming="false"} 4.0
"""
TGI = """\
# TYPE tgi_queue_size gauge
tgi_queue_size 4
tgi_request_failure{err="validation"} 2
tgi_request_failure{err="generation"} 5
tgi_request_generated_tokens_bucket{le="+Inf"} 3
tgi_request_generated_tokens_sum 120
tgi_request_generated_tokens_count 3
"""
OURS = """\
llm_num_requests_waiting{model_name="smol",engine="0"} 1.0
llm_requests_total{model_name="smol",engine="0",status="timeout"} 2.0
llm_memory_bytes{model_name="smol",engine="0",component="weights"} 1e+09
llm_engine_info{model_name="smol",engine="0",engine_type="tocsin",version="0.1.0"} 1.0
process_resident_memory_bytes 1e9
"""

Pages = dict[str, tuple[int, str]]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    connections: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            connections.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def pages(answers: Pages) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.readline():
            while (await reader.readline()).strip():
                pass
            status, body = answers.get(request.split()[1].decode(), (404, "not here"))
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body.encode())}\r\n\r\n"
            writer.write((head + body).encode())
            await writer.drain()

    return handle


def raw(answer: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await writer.drain()

    return handle


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def engine(url: str, deadline: float = 5.0) -> AsyncIterator[EngineCollector]:
    collector = EngineCollector(EngineAccess.of(url), lambda: 1234.0, deadline)
    try:
        yield collector
    finally:
        await collector.aclose()


async def read_as(access: EngineAccess) -> Sequence[Sample]:
    collector = EngineCollector(access, lambda: 1234.0)
    try:
        return await collector.collect()
    finally:
        await collector.aclose()


async def read(url: str, deadline: float = 5.0) -> Sequence[Sample]:
    async with engine(url, deadline) as collector:
        return await collector.collect()


def value(samples: Sequence[Sample], name: str, **labels: str) -> float:
    wanted = set(labels.items())
    found = [
        s.value for s in samples if s.family.name + s.suffix == name and wanted <= set(s.labels)
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


async def test_vllm_in_our_words_with_its_target() -> None:
    async with served(pages({"/metrics": (200, VLLM), "/health": (200, "")})) as url:
        target = url.removeprefix("http://")
        samples = await read(url)
    own = {"model_name": "qwen", "engine": "0", "target": target}
    assert value(samples, "llm_engine_up", target=target) == 1
    assert value(samples, "llm_num_requests_running", **own) == 3
    assert value(samples, "llm_num_requests_running", **{**own, "engine": "1"}) == 5
    assert value(samples, "llm_kv_cache_usage_ratio", **own) == 0.25
    assert value(samples, "llm_prompt_tokens_total", **own) == 3010
    assert value(samples, "llm_requests_total", status="success", **own) == 9
    assert value(samples, "llm_requests_total", status="cancelled", **own) == 4
    assert value(samples, "llm_time_to_first_token_seconds_bucket", le="1.0", **own) == 2
    assert value(samples, "llm_time_to_first_token_seconds_bucket", le="+Inf", **own) == 3
    assert value(samples, "llm_time_to_first_token_seconds_sum", **own) == 1.75
    assert value(samples, "llm_kv_cache_blocks", **own) == 1000
    assert value(samples, "llm_requests_total", status="error", **own) == 3
    assert value(samples, "llm_engine_info", engine_type="vllm", endpoint=url) == 1


async def test_an_error_that_both_the_engine_and_http_count_is_not_counted_twice() -> None:
    page = VLLM.replace(
        'http_requests_total{handler="/v1', 'http_requests_total{model_name="qwen",handler="/v1'
    )
    async with served(pages({"/metrics": (200, page), "/health": (200, "")})) as url:
        samples = await read(url)
    assert value(samples, "llm_requests_total", status="error", model_name="qwen") == 3


async def test_sglang_ranks_and_streams_become_one_series() -> None:
    async with served(pages({"/metrics": (200, SGLANG)})) as url:
        samples = await read(url)
    assert value(samples, "llm_kv_cache_usage_ratio", model_name="q}w{") == 0.75
    assert value(samples, "llm_e2e_request_latency_seconds_sum") == 7
    assert value(samples, "llm_memory_bytes", component="weights") == 2 * 2**30
    assert value(samples, "llm_generation_tokens_total") == 40


async def test_tgi_gets_its_model_from_the_model_list() -> None:
    models = '{"object":"list","data":[{"id":"bloom"}]}'
    answers = {"/metrics": (200, TGI), "/v1/models": (200, models), "/health": (200, "")}
    async with served(pages(answers)) as url:
        samples = await read(url)
    assert value(samples, "llm_num_requests_waiting", model_name="bloom") == 4
    assert value(samples, "llm_requests_total", status="rejected") == 2
    assert value(samples, "llm_requests_total", status="error") == 5
    assert value(samples, "llm_generation_tokens_total") == 120
    assert value(samples, "llm_request_generation_tokens_count") == 3


async def test_our_own_worker_gets_its_target_and_keeps_its_labels() -> None:
    async with served(pages({"/metrics": (200, OURS), "/health": (200, "")})) as url:
        samples = await read(url)
    assert value(samples, "llm_num_requests_waiting", model_name="smol") == 1
    assert value(samples, "llm_requests_total", status="timeout") == 2
    assert value(samples, "llm_memory_bytes", component="weights") == 1e9
    assert value(samples, "llm_engine_info", version="0.1.0") == 1
    assert not any(s.family.name.startswith("process_") for s in samples)


async def test_every_label_is_in_the_catalogue_and_no_series_comes_twice() -> None:
    for page in (VLLM, SGLANG, TGI, OURS):
        async with served(pages({"/metrics": (200, page), "/health": (200, "")})) as url:
            samples = await read(url)
        LayoutCache().build(samples)  # raises DuplicateSeries
        for sample in samples:
            assert {n for n, _ in sample.labels} <= {*LLM.labels[sample.family.name], "le"}


MODELS = '{"object":"list","data":[{"id":"m","object":"model"}]}'
REFUSED = '{"error":{"code":401,"message":"Invalid API Key","type":"authentication_error"}}'


async def refused(answers: Pages) -> CollectorError:
    async with served(pages(answers)) as url:
        with pytest.raises(CollectorError) as error:
            await read(url)
    return error.value


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 429, 500, 501])
@pytest.mark.parametrize(
    "proof",
    [
        {"/v1/models": (200, MODELS)},
        {"/v1/models": (401, REFUSED)},
        {"/v1/models": (403, '{"error":"Unauthorized"}')},
        {"/health": (200, '{"status":"ok"}')},
        {"/health": (200, "")},
    ],
    ids=["models", "models refused", "vLLM's refusal", "health", "empty health"],
)
async def test_an_engine_that_serves_and_refuses_its_metrics_is_up(
    status: int, proof: Pages
) -> None:
    answers = {"/metrics": (status, "no"), "/prometheus/metrics": (status, "no"), **proof}
    error = await refused(answers)
    assert value(error.samples, "llm_engine_up") == 1
    assert value(error.samples, "llm_engine_metrics_refused") == status
    assert value(error.samples, "llm_engine_metrics_unknown") == 0
    assert f"refuses its metrics (HTTP {status})" in str(error)


@pytest.mark.parametrize(
    "answers",
    [
        {"/metrics": (401, REFUSED)},
        {"/metrics": (404, ""), "/health": (404, ""), "/v1/models": (200, "<html>data</html>")},
        {"/metrics": (401, ""), "/health": (200, "<html>"), "/v1/models": (401, "<html>")},
        {"/metrics": (401, ""), "/health": (503, "dead"), "/v1/models": (200, MODELS)},
        {"/metrics": (200, "<html>"), "/health": (200, "<html>"), "/v1/models": (200, "<html>")},
        {"/metrics": (200, "\x00\x01\x02")},
        {"/metrics": (200, "[]")},
        {"/metrics": (204, "")},
    ],
    ids=["401 alone", "404", "a web site", "unwell", "all HTML", "junk", "JSON", "nothing"],
)
async def test_what_does_not_answer_as_an_engine_is_down(answers: Pages) -> None:
    error = await refused(answers)
    assert value(error.samples, "llm_engine_up") == 0
    assert not any(s.family.name.startswith("llm_engine_metrics") for s in error.samples)


async def test_ollama_has_no_metrics_and_refuses_none() -> None:
    answers = {"/v1/models": (200, MODELS), "/api/version": (200, '{"version":"0.5"}')}
    async with served(pages(answers)) as url:
        samples = await read(url)
    assert value(samples, "llm_engine_up") == 1
    assert value(samples, "llm_engine_metrics_refused") == 0
    assert value(samples, "llm_engine_info", engine_type="ollama", version="0.5") == 1


async def test_an_engine_of_which_we_are_told_that_it_has_no_metrics() -> None:
    async with served(pages({"/v1/models": (200, MODELS)})) as url:
        samples = await read_as(replace(EngineAccess.of(url), metrics_path=""))
    assert value(samples, "llm_engine_up") == 1
    assert value(samples, "llm_engine_metrics_refused") == 0


@pytest.mark.parametrize(
    "page", ["\x00\xff\x01", "[]", '{"a": 1}', '"text"', "<html>", "", "up_time 1\n"]
)
async def test_a_page_that_we_do_not_know_is_said(page: str) -> None:
    error = await refused({"/metrics": (200, page), "/v1/models": (200, MODELS)})
    assert value(error.samples, "llm_engine_up") == 1
    assert value(error.samples, "llm_engine_metrics_unknown") == 1
    assert "answers, but has no known metrics" in str(error)


async def test_metrics_of_another_program_on_a_known_engines_port_are_no_engine() -> None:
    answers = {"/metrics": (200, "node_load1 1\n")}
    async with served(pages(answers)) as url, engine(url) as collector:
        with pytest.raises(CollectorError) as new:
            await collector.collect()
        answers["/metrics"] = (200, VLLM)
        await collector.collect()
        answers["/metrics"] = (200, "node_load1 1\n")
        with pytest.raises(CollectorError) as taken:
            await collector.collect()
    assert value(new.value.samples, "llm_engine_up") == 1
    assert value(new.value.samples, "llm_engine_metrics_unknown") == 1
    assert value(taken.value.samples, "llm_engine_up") == 0


async def test_where_an_engine_is_expected_another_programs_metrics_are_none() -> None:
    async with served(pages({"/metrics": (200, "node_load1 1\n")})) as url:
        with pytest.raises(CollectorError) as taken:
            await read_as(replace(EngineAccess.of(url), expected=True))
    assert value(taken.value.samples, "llm_engine_up") == 0


async def test_an_unwell_engine_stays_down_from_its_first_reading_on() -> None:
    answers = {"/metrics": (200, VLLM), "/health": (503, "")}
    async with served(pages(answers)) as url, engine(url) as collector:
        for _ in range(3):
            with pytest.raises(CollectorError, match="/health answers 503"):
                await collector.collect()


async def test_tensorrt_llm_has_json_where_others_have_metrics() -> None:
    page = 'trtllm_request_success_total{finished_reason="stop",model_name="m"} 4\n'
    answers = {"/metrics": (200, "[]"), "/prometheus/metrics": (200, page), "/health": (200, "")}
    async with served(pages(answers)) as url, engine(url) as collector:
        samples = await collector.collect()
        assert collector.metrics_url == url + "/prometheus/metrics"
    assert value(samples, "llm_requests_total", status="success") == 4
    assert value(samples, "llm_engine_metrics_unknown") == 0


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        (json.dumps("# HELP llamacpp:prompt_tokens_total n\nllamacpp:requests_processing 1\n"),
         "llamacpp"),
        ("sglang_num_running_reqs 1\n", "sglang"),
        ("vllm_num_requests_running 1\n", "vllm"),
        ('llm_num_requests_running{model_name="m"} 1\n', "tocsin"),
        ('nv_trt_llm_request_metrics{model="m",request_type="scheduled"} 1\n', "triton"),
    ],
)  # fmt: skip
async def test_other_spellings_of_a_page_are_understood(page: str, kind: str) -> None:
    async with served(pages({"/metrics": (200, page), "/health": (200, "")})) as url:
        samples = await read(url)
    assert value(samples, "llm_num_requests_running") == 1
    assert value(samples, "llm_engine_info", engine_type=kind) == 1


async def test_a_line_separator_in_a_label_ends_no_line() -> None:
    page = 'vllm:num_requests_running{model_name="a\u2028b\x85c"} 2\n'
    async with served(pages({"/metrics": (200, page), "/health": (200, "")})) as url:
        samples = await read(url)
    assert value(samples, "llm_num_requests_running", model_name="a\u2028b\x85c") == 2


@pytest.mark.parametrize(
    "handler",
    [
        hangs,
        pages({}),
        pages({"/metrics": (500, "oops")}),
        raw(b"SSH-2.0-OpenSSH_9\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nvllm:x 1"),
        raw(b""),
    ],
    ids=["hangs", "nothing there", "500", "not HTTP", "cut off", "hung up"],
)
async def test_an_engine_that_does_not_answer_well_is_down(handler: Handler) -> None:
    async with served(handler) as url:
        with pytest.raises(CollectorError) as down:
            await read(url, deadline=0.2)
    assert value(down.value.samples, "llm_engine_up", target=url.removeprefix("http://")) == 0


async def test_nobody_listening_is_down_at_once() -> None:
    async with served(hangs) as url:
        pass
    with pytest.raises(CollectorError, match="engine 127.0.0.1"):
        await read(url, deadline=60)


async def test_an_unwell_engine_is_down_but_keeps_its_numbers() -> None:
    answers = {"/metrics": (200, VLLM), "/health": (200, "")}
    async with served(pages(answers)) as url, engine(url) as collector:
        await collector.collect()
        answers["/health"] = (503, "engine is dead")
        with pytest.raises(CollectorError, match="/health answers 503") as unwell:
            await collector.collect()
    assert value(unwell.value.samples, "llm_engine_up") == 0
    assert value(unwell.value.samples, "llm_prompt_tokens_total") == 3010


async def test_garbage_between_the_lines_costs_those_lines_only() -> None:
    page = '"quoted\\nbody\n{} 1\nvllm:num_requests_waiting{broken 7\n\x00\xff= 3\n' + VLLM
    async with served(pages({"/metrics": (200, page), "/health": (200, "")})) as url:
        samples = await read(url)
    assert value(samples, "llm_prompt_tokens_total") == 3010


async def test_a_page_that_is_cut_off_is_not_read() -> None:
    """What is missing would be over: an engine that dies in its answer resolved its alerts."""
    answers = {"/metrics": (200, VLLM), "/v1/models": (200, MODELS), "/health": (200, "")}
    async with served(pages(answers)) as url, engine(url) as collector:
        await collector.collect()
        answers["/metrics"] = (200, VLLM[: VLLM.rindex("{") + 9])
        with pytest.raises(Partial, match="its answer ends too early") as error:
            await collector.collect()
    assert value(error.value.samples, "llm_engine_up") == 1
    assert value(error.value.samples, "llm_engine_metrics_unknown") == 1


@pytest.mark.parametrize(
    ("head", "page"),
    [
        (b"", VLLM.rstrip().encode()),  # without an end, and the last line without its own
        (b"Content-Length: 9\r\nContent-Encoding: gzip\r\n", b"\x1f\x8b\x08\0\0\0\0\0\0"),
        (b"Content-Type: application/openmetrics-text\r\n", VLLM.encode()),
    ],
)
async def test_an_engine_whose_page_is_cut_off_is_up(head: bytes, page: bytes) -> None:
    """Also one that has no other page, as those whose metrics have a port of their own."""
    answer = {"now": b"HTTP/1.0 200 OK\r\n\r\n" + VLLM.encode()}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known = (await reader.readline()).split()[1] == b"/metrics"
        writer.write(answer["now"] if known else b"HTTP/1.0 404 X\r\n\r\n")
        await writer.drain()

    async with served(handle) as url, engine(url) as collector:
        await collector.collect()
        answer["now"] = b"HTTP/1.0 200 OK\r\n" + head + b"\r\n" + page
        with pytest.raises(Partial) as error:
            await collector.collect()
    assert value(error.value.samples, "llm_engine_up") == 1


@pytest.mark.parametrize(("end", "up"), [("", "unknown"), ("\n", "known")])
async def test_half_of_a_number_is_none_where_the_connection_ends_the_page(
    end: str, up: str
) -> None:
    page = b"HTTP/1.0 200 OK\r\n\r\n" + VLLM.rstrip().encode() + end.encode()
    async with served(raw(page)) as url, engine(url) as collector:
        try:
            samples = await collector.collect()
        except CollectorError as error:
            samples = list(error.samples)
    about = [one for one in samples if one.family.name == "llm_num_requests_running"]
    assert bool(about) == (up == "known")


async def test_a_page_without_end_is_refused() -> None:
    async with served(pages({"/metrics": (200, "vllm:x 1\n" * (MOST_BYTES // 8))})) as url:
        with pytest.raises(CollectorError, match="larger than 8 MiB"):
            await read(url)


async def test_models_without_end_share_one_label() -> None:
    page = "".join(f'vllm:prompt_tokens_total{{model_name="m{n}"}} 1\n' for n in range(500))
    async with served(pages({"/metrics": (200, page), "/health": (200, "")})) as url:
        samples = await read(url)
    assert value(samples, "llm_prompt_tokens_total", model_name="_other") == 500 - 64
    assert value(samples, "llm_engine_series_limited") == 500 - 64


@pytest.mark.parametrize(
    "label",
    [
        "le",
        "model_name",
        *(
            pytest.param(label, marks=pytest.mark.long)
            for label in ("engine", "dp_rank", "status", "gpu")
        ),
    ],
)
async def test_no_label_has_values_without_end(label: str) -> None:
    family = {
        "le": "llm_e2e_request_latency_seconds_bucket",
        "status": "llm_requests_total",
        "gpu": "llm_allocator_ooms_total",
    }.get(label, "llm_num_requests_running")
    model = "" if label == "model_name" else 'model_name="m",'
    page = "".join(f'{family}{{{model}{label}="{n}"}} 1\n' for n in range(60_000))
    async with served(pages({"/metrics": (200, page), "/health": (200, "")})) as url:
        samples = await read(url, 30)
    assert 64 <= len([s for s in samples if s.family.name + s.suffix == family]) <= 513
    assert value(samples, "llm_engine_series_limited") >= 60_000 - 513
    LayoutCache().build(samples)


async def test_another_engine_on_the_port_is_recognised() -> None:
    answers = {"/metrics": (200, VLLM), "/health": (200, "")}
    async with served(pages(answers)) as url, engine(url) as collector:
        await collector.collect()
        answers["/metrics"] = (200, SGLANG)
        await collector.collect()
        samples = await collector.collect()
    assert value(samples, "llm_engine_info", engine_type="sglang") == 1


async def test_an_engine_that_drops_idle_connections_is_not_down() -> None:
    """uvicorn drops them after 5 s, which is also how often an engine is read."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        while (await reader.readline()).strip():
            pass
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(VLLM)}\r\n\r\n{VLLM}".encode())
        await writer.drain()
        await reader.readline()  # the next request on this connection gets no answer

    async with served(handle) as url, engine(url) as collector:
        for _ in range(3):
            assert value(await collector.collect(), "llm_engine_up") == 1


async def test_what_the_configuration_wants_of_it_is_said_beside_it() -> None:
    wanted = EngineTargets(latency_p50=2.0, latency_p95=8.0, tokens_per_second=1800.0)
    lie = OURS + 'llm_target_time_to_first_token_seconds{percentile="50"} 9000\n'
    async with served(pages({"/metrics": (200, lie), "/health": (200, "")})) as url:
        samples = await read_as(replace(EngineAccess.of(url), targets=wanted))
        silent = await read_as(EngineAccess.of(url))
    assert value(samples, "llm_target_e2e_request_latency_seconds", percentile="50") == 2
    assert value(samples, "llm_target_e2e_request_latency_seconds", percentile="95") == 8
    assert value(samples, "llm_target_generation_tokens_per_second") == 1800
    named = [one for one in samples if one.family.name.startswith("llm_target_")]
    assert len(named) == 3, "an engine has no word in that"
    assert not any(one.family.name.startswith("llm_target_") for one in silent)
