"""The data directory is full: whoever must be woken is woken, and the records come later."""

import asyncio
import signal
import time
from pathlib import Path

from support.small_disk import SmallDisk, small_disk
from support.story import PAGE_SECONDS, Story, reason, story, until


async def test_a_full_disk_silences_nobody(tmp_path: Path) -> None:
    """Full before the agent starts, and full while it runs."""
    together = asyncio.Barrier(2)
    before, meanwhile = await asyncio.gather(
        _story(tmp_path / "before", True, together), _story(tmp_path / "while", False, together)
    )
    assert before == meanwhile == (3, 3)  # opened, acked, resolved, and nothing twice


async def _story(folder: Path, full_at_start: bool, together: asyncio.Barrier) -> tuple[int, int]:
    """How many messages each of the two on call got in all."""
    with small_disk(folder / "disk") as disk:
        if full_at_start:
            disk.fill()
        storage = str(disk.path / "data")
        async with story(folder, escalate="4s", storage=storage, together=together) as one:
            if not full_at_start:
                disk.fill()
            began = time.time()
            one.engine.send(signal.SIGKILL)
            await _paged(one, began)
            await _answered_and_over(one)
            await _recorded_at_last(one, disk)
            return len(one.first.requests), len(one.second.requests)


async def _paged(one: Story, began: float) -> None:
    page = (await one.first.wait_for(1, within=20))[0]
    letter = (await one.mail.wait_for(1, within=20))[0]
    assert page.at - began < PAGE_SECONDS
    assert letter.at - began < PAGE_SECONDS
    assert page.json()["tocsin"]["notRecorded"] is True
    assert "[NOT RECORDED]" in str(letter.message["Subject"])
    step = (await one.second.wait_for(1, within=20))[0]
    assert reason(step) == "escalated"
    assert 3.5 < step.at - page.at < 4 + PAGE_SECONDS


async def _answered_and_over(one: Story) -> None:
    incident = (await one.incidents("open"))[0]
    assert "ACKED, owned by li" in await one.alertctl("ack", str(incident["number"]), "--by", "li")
    one.engine.kill()
    await asyncio.to_thread(one.engine.start)
    await one.first.wait_for(3, within=20)
    await one.second.wait_for(3, within=20)
    await one.mail.wait_for(3, within=20)
    assert [reason(r) for r in one.first.requests] == ["opened", "acked", "resolved"]
    assert [reason(r) for r in one.second.requests] == ["escalated", "acked", "resolved"]
    assert one.third.requests == []
    assert one.agent.status()["journal"] == "down"


async def _recorded_at_last(one: Story, disk: SmallDisk) -> None:
    """Space is back: an agent that starts now knows all of it, and says nothing twice."""
    disk.free()
    await until(lambda: one.agent.status()["journal"] == "up", within=35)
    one.agent.kill()
    await asyncio.to_thread(one.agent.start)
    number = (await one.incidents())[0]["number"]
    told = await one.alertctl("incidents", str(number))
    for word in ("RESOLVED", "opened", "escalated", "acked", "resolved", "delivered"):
        assert word in told, told
    assert "Traceback" not in one.agent.said()
    await asyncio.sleep(1)  # what would be said twice is said by then
