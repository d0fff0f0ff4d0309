"""A real engine, found without configuration, has the numbers that its client counted."""

import asyncio
from pathlib import Path

import pytest

from engines.watching import Live, Watching, watching
from support.real_engine import RealEngine

# name of ours -> what the client knows; llama.cpp has neither requests nor histograms
TOKENS = {
    "llm_prompt_tokens_total": "prompt_tokens",
    "llm_generation_tokens_total": "generated_tokens",
    "llm_prefix_cache_queries_total": "prompt_tokens",  # each is looked up once
}
REQUESTS = {
    "llm_time_to_first_token_seconds_count": "requests",
    "llm_e2e_request_latency_seconds_count": "requests",
    "llm_request_queue_time_seconds_count": "requests",
    "llm_request_prompt_tokens_count": "requests",
    "llm_request_generation_tokens_count": "requests",
    "llm_request_prompt_tokens_sum": "prompt_tokens",
    "llm_request_generation_tokens_sum": "generated_tokens",
    "llm_inter_token_latency_seconds_count": "gaps",
    "llm_request_success_total": "requests",
    "llm_request_prefill_time_seconds_count": "requests",
    "llm_request_decode_time_seconds_count": "requests",
    "llm_request_inference_time_seconds_count": "requests",
}
WANTED = {"vllm": {**TOKENS, **REQUESTS}, "llamacpp": TOKENS}


@pytest.mark.parametrize("kind", WANTED)
async def test_it_is_found_and_its_numbers_are_the_clients(
    kind: str, live: Live, tmp_path: Path
) -> None:
    engine = live(kind)
    async with watching(tmp_path) as agent:
        await agent.until_up(engine.target)
        await ask(engine)
        for name, count in WANTED[kind].items():
            await agree(agent, engine, name, getattr(engine.counts, count))
        for kind_of, count in (("input", "prompt_tokens"), ("output", "generated_tokens")):
            wanted = getattr(engine.counts, count)
            await agree(agent, engine, "llm_tokens_total", wanted, type=kind_of)
        if kind == "vllm":
            wanted = engine.counts.requests
            await agree(agent, engine, "llm_requests_total", wanted, status="success")
            await agree(agent, engine, "llm_requests_total", 0, status="error")
        await agree(agent, engine, "llm_num_requests_running", 0)
        await agree(agent, engine, "llm_num_requests_waiting", 0)
        await agree(agent, engine, "llm_engine_info", 1, engine_type=kind)
        assert await agent.incidents() == []


async def test_vllms_memory_is_in_its_log_and_its_last_minute_in_gauges(
    live: Live, tmp_path: Path
) -> None:
    engine = live("vllm")
    named = f'engines: [{{url: "{engine.url}", log_file: "{engine.log_file}"}}]\n'
    async with watching(tmp_path, more=named) as agent:
        await agent.until_up(engine.target)
        await agent.until_value("sum(llm_memory_bytes{component=%22kv_cache%22})", 2.0**30, 15)
        await agent.until_value("sum(llm_memory_source_info{source=%22log%22})", 1.0, 15)
        assert await agent.value("sum(llm_success_ratio)") is None  # before the window is full
        await ask(engine)
        await agent.until_value("sum(llm_success_ratio{window=%221m%22})", 1.0, 90)
        quantiles = "count(llm_time_to_first_token_quantile_seconds{window=%221m%22})"
        await agent.until_value(quantiles, 3.0, 15)
        await agent.until_value("sum(llm_error_ratio{window=%221m%22})", 0.0, 15)


async def ask(engine: RealEngine) -> None:
    """Ten chats, three at a time, some of them the same; and one that is refused."""
    gate = asyncio.Semaphore(3)

    async def one(i: int) -> None:
        async with gate:
            await asyncio.to_thread(engine.chat, f"Tell me about number {i % 7}.", 5 + i)

    await asyncio.gather(*(one(i) for i in range(10)))
    assert await asyncio.to_thread(engine.refused)


async def agree(
    agent: Watching, engine: RealEngine, name: str, wanted: float, **labels: str
) -> None:
    """Once the last request is in, the sum of ours is the client's to the last token."""
    chosen = {"target": engine.target, **labels}
    matchers = ",".join(f"{key}=%22{value}%22" for key, value in chosen.items())
    await agent.until_value(f"sum({name}{{{matchers}}})", float(wanted), 15)
