"""Real engines that load, ask for a key, or come back elsewhere: none of them is an outage."""

import asyncio
from pathlib import Path

import pytest

from engines.watching import EVERYTHING_ELSE, SOON, up, watching
from support.agent_process import free_port
from support.real_engine import RealEngine, launched

KEY = "a-key-of-this-test"


@pytest.mark.parametrize("kind", ["llamacpp", "vllm"])
async def test_an_engine_that_loads_is_found_when_it_serves(kind: str, tmp_path: Path) -> None:
    """vLLM loads for half a minute or more; until it serves nothing is said of it."""
    port = free_port()
    async with watching(tmp_path, port) as agent:
        with launched(RealEngine(kind, tmp_path, port=port)) as engine:
            assert await agent.value(up(engine.target)) is None
            await asyncio.to_thread(engine.wait)
            await agent.until_up(engine.target)
            assert await agent.incidents() == []
            assert agent.pages("InferenceEngineDown") == []


@pytest.mark.parametrize("kind", ["llamacpp", "vllm"])
async def test_a_key_in_front_of_its_metrics_is_no_outage(kind: str, tmp_path: Path) -> None:
    """llama.cpp wants its key for /metrics, vLLM for /v1 alone."""
    with RealEngine(kind, tmp_path, key=KEY) as engine:
        assert engine.status("/v1/models") == 401
        refused = engine.status("/metrics") == 401
        assert refused == (kind == "llamacpp")
        async with watching(tmp_path, engine.port) as agent:
            await agent.until_up(engine.target)
            await asyncio.to_thread(engine.chat, "Hello", 5)
            wanted = 401.0 if refused else 0.0
            query = "max(llm_engine_metrics_refused)"
            await agent.until_value(query, wanted, EVERYTHING_ELSE)
            if not refused:
                await agent.until_value("sum(llm_requests_total)", 1.0, EVERYTHING_ELSE)
            await asyncio.sleep(75)  # longer than InferenceEngineDown waits
            assert await agent.value(up(engine.target)) == 1.0
            assert "InferenceEngineDown" not in await agent.incidents()


async def test_the_key_in_the_configuration_opens_its_metrics(tmp_path: Path) -> None:
    with RealEngine("llamacpp", tmp_path, key=KEY) as engine:
        (tmp_path / "key").write_text(KEY)
        access = f'engines: [{{url: "{engine.url}", bearer_token_file: key}}]\n'
        async with watching(tmp_path, more=access) as agent:
            await agent.until_up(engine.target)
            await asyncio.to_thread(engine.chat, "Hello", 5)
            await agent.until_value("sum(llm_generation_tokens_total)", 5.0, SOON)
            assert await agent.value("max(llm_engine_metrics_refused)") == 0


async def test_one_that_comes_back_on_another_port_has_moved(tmp_path: Path) -> None:
    """Nobody is paged when it serves there before it would have been down for a minute."""
    old, new = free_port(), free_port()
    async with watching(tmp_path, old, new) as agent:
        with RealEngine("llamacpp", tmp_path, port=old) as engine:
            await agent.until_up(engine.target)
        with RealEngine("llamacpp", tmp_path, port=new) as engine:
            await agent.until_up(engine.target)
            await agent.until_value(up(f"127.0.0.1:{old}"), None, EVERYTHING_ELSE)
            await asyncio.sleep(75)  # longer than InferenceEngineDown waits
            assert await agent.incidents() == []
