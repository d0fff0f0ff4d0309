"""Four clients ask for as much as they may, and the page comes as if they did not."""

import asyncio
import signal
import time
from pathlib import Path

from support.greedy_clients import GreedyClients
from support.story import PAGE_SECONDS, Story, story, until

MOST_BYTES = 1 << 30


async def test_no_query_delays_a_page(tmp_path: Path) -> None:
    async with story(tmp_path) as one:
        with GreedyClients(one.agent.url) as clients:
            await asyncio.sleep(5)
            for round_ in range(2):
                await _killed_and_back(one, 2 * round_)
            missed = await one.metric("tocsin_rule_group_iterations_missed_total")
            assert missed <= 2
            assert await one.metric("tocsin_loop_lag_seconds") < 1
            await until(lambda: clients.answers()["200"] >= 1, 90)  # not all are refused
            assert await one.metric("process_resident_memory_bytes") < MOST_BYTES
        assert "Traceback" not in one.agent.said()


async def _killed_and_back(one: Story, before: int) -> None:
    began = time.time()
    one.engine.send(signal.SIGKILL)
    page = (await one.first.wait_for(before + 1, within=30))[before]
    letter = (await one.mail.wait_for(before + 1, within=30))[before]
    assert page.at - began < PAGE_SECONDS
    assert letter.at - began < PAGE_SECONDS
    one.engine.kill()
    await asyncio.to_thread(one.engine.start)
    await one.first.wait_for(before + 2, within=30)
    await one.mail.wait_for(before + 2, within=30)
