"""A loop that breaks begins anew; one that is cancelled or returns does not."""

import asyncio
import logging

import pytest

from support.virtual_time import VirtualTimeLoop
from tocsin_alerting.loops.supervise import restart_on_error


def test_a_fault_costs_a_second_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0

    async def break_twice() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError(f"fault {runs}")

    with caplog.at_level(logging.ERROR), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(restart_on_error("rules", break_twice))
        assert runner.get_loop().time() == 2.0
    assert runs == 3
    assert [record.__dict__["loop"] for record in caplog.records] == ["rules", "rules"]


async def test_it_can_be_cancelled() -> None:
    task = asyncio.create_task(restart_on_error("forever", asyncio.Event().wait))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
