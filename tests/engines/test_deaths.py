"""Real engines that die or hang: each way ends in a page, and in its end where there is one.

vLLM is two processes: the API server, and EngineCore, which holds the model.
"""

import asyncio
import signal
from pathlib import Path

import pytest

from engines.watching import EVERYTHING_ELSE, Live, up, watching

DOWN, STALLED = "InferenceEngineDown", "InferenceEngineStalled"
DOWN_SECONDS = 60 + EVERYTHING_ELSE  # the rule's `for`, and a reading's deadline
STALLED_SECONDS = 4 * 60 + 2 * EVERYTHING_ELSE  # 2 minutes without a token, and the rule's `for`


@pytest.mark.parametrize("kind", ["llamacpp", "vllm"])
async def test_an_api_server_that_stands_still_pages_until_it_goes_on(
    kind: str, live: Live, tmp_path: Path
) -> None:
    engine = live(kind)
    async with watching(tmp_path, engine.port) as agent:
        await agent.until_up(engine.target)
        engine.send(signal.SIGSTOP)
        try:
            await agent.until_paged(DOWN, DOWN_SECONDS)
        finally:
            engine.send(signal.SIGCONT)
        await agent.until_paged(DOWN, EVERYTHING_ELSE, "resolved")
        assert await agent.incidents() == [DOWN]


async def test_an_engine_core_that_hangs_while_the_server_answers_pages(
    live: Live, tmp_path: Path
) -> None:
    """Its page and its /health go on, and nobody gets an answer."""
    engine = live("vllm")
    async with watching(tmp_path, engine.port) as agent:
        await agent.until_up(engine.target)
        asked = asyncio.create_task(asyncio.to_thread(engine.endless, 900.0))
        await agent.until_value("sum(llm_num_requests_running)", 1.0, EVERYTHING_ELSE)
        engine.send(signal.SIGSTOP, core=True)
        try:
            await agent.until_paged(STALLED, STALLED_SECONDS)
            assert engine.status("/health") == 200
            assert await agent.value(up(engine.target)) == 1.0
        finally:
            engine.send(signal.SIGCONT, core=True)
        await asked
        await agent.until_paged(STALLED, 150, "resolved")
        assert await agent.incidents() == [STALLED]


async def test_a_killed_engine_core_pages(live: Live, tmp_path: Path) -> None:
    """The API server outlives it by some seconds, in which its /health is 503."""
    engine = live("vllm")
    async with watching(tmp_path, engine.port) as agent:
        await agent.until_up(engine.target)
        engine.send(signal.SIGKILL, core=True)
        await agent.until_value(up(engine.target), 0.0, EVERYTHING_ELSE)
        page = await agent.until_paged(DOWN, DOWN_SECONDS)
        assert page["commonLabels"]["severity"] == "P0"
        assert page["commonLabels"]["target"] == engine.target


@pytest.mark.parametrize("kind", ["llamacpp", "vllm"])
async def test_a_killed_engine_pages(kind: str, live: Live, tmp_path: Path) -> None:
    engine = live(kind)
    async with watching(tmp_path, engine.port) as agent:
        await agent.until_up(engine.target)
        engine.send(signal.SIGKILL)
        page = await agent.until_paged(DOWN, DOWN_SECONDS)
        assert page["commonLabels"]["severity"] == "P0"
        assert page["commonLabels"]["target"] == engine.target
