"""A sender that was cut off for two days sends what it kept, and the agent is killed meanwhile.

Every sample that was acknowledged is there, at once and after each start.
"""

import asyncio
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from support.agent_process import AgentProcess
from support.remote_write import remote_write
from tocsin_exporter.snapshot import Labels

STEP_MS = 120_000
SERIES, COUNT = 12, 48 * 30
AT_ONCE = 500
CONFIG = 'collect: {gpu: 0s, processes: 0s}\nengines: [{url: "http://127.0.0.1:9"}]\n'
Points = list[tuple[int, float]]


def series(number: int) -> Labels:
    return (
        ("__name__", "late"),
        ("instance", f"far:{number % 2}"),
        ("job", "j"),
        ("s", str(number)),
    )


def requests(now_ms: int, in_time: bool) -> list[list[tuple[Labels, Points]]]:
    """All series at each time, or whole series one after the other."""
    times = range(now_ms - COUNT * STEP_MS, now_ms, STEP_MS)
    if in_time:
        every = [[(series(one), [(at, float(at % 101))]) for one in range(SERIES)] for at in times]
        step = AT_ONCE // SERIES
        return [sum(every[at : at + step], []) for at in range(0, len(every), step)]
    whole = [[(at, float(at % 101)) for at in times]] * SERIES
    return [
        [(series(one), points[at : at + AT_ONCE])]
        for one, points in enumerate(whole)
        for at in range(0, len(points), AT_ONCE)
    ]


def held(agent: AgentProcess) -> dict[str, Points]:
    """Every sample, in stretches as long as one answer may be."""
    found: dict[str, Points] = {}
    now = time.time()
    for hours in range(48, -1, -6):
        query = f"late[6h] @ {now - (hours - 1) * 3600:.3f}"
        for one in agent.get(f"/api/v1/query?query={quote(query)}")["result"]:
            points = found.setdefault(one["metric"]["s"], [])
            last = points[-1][0] if points else 0
            told = [(round(at * 1000), float(value)) for at, value in one["values"]]
            points += [point for point in told if point[0] > last]
    return found


@pytest.mark.parametrize("in_time", [True, False])
async def test_what_was_acknowledged_is_there_whenever_the_agent_was_killed(
    tmp_path: Path, in_time: bool
) -> None:
    (tmp_path / "tocsin.yml").write_text(CONFIG)
    agent = AgentProcess(tmp_path, "--config.file=tocsin.yml", "--no-worker")
    expected: dict[str, Points] = {}
    batches = requests(int(time.time() * 1000), in_time)
    await asyncio.to_thread(agent.start)
    try:
        for number, batch in enumerate(batches):
            await asyncio.to_thread(remote_write, agent.url, batch)
            for labels, points in batch:
                expected.setdefault(dict(labels)["s"], []).extend(points)
            if number in (3, len(batches) // 2, len(batches) - 1):
                agent.kill()
                await asyncio.to_thread(agent.start)
        assert await asyncio.to_thread(held, agent) == expected
        agent.terminate()
        await asyncio.to_thread(agent.start)
        assert await asyncio.to_thread(held, agent) == expected
    finally:
        agent.kill()
