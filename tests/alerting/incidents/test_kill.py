"""SIGKILL at every point of a story, then a restart: at least once, nothing lost, no new keys."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.alert_events import fires, origin
from support.killed_dispatcher import CLEARS_AT_MS, DOWN, POINTS, send
from support.policies import HOUR, MINUTE, config
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal

TESTS = Path(__file__).parents[2]
EVERYBODY = {
    ("opened", "li"), ("opened", "chat"), ("escalated", "wang"),
    ("resolved", "li"), ("resolved", "chat"), ("resolved", "wang"),
}  # fmt: skip


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("deaths")
    script = TESTS / "support" / "killed_dispatcher.py"
    subprocess.run(
        [sys.executable, str(script), str(root)],
        check=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        timeout=120,
    )
    return root


async def live_on(folder: Path) -> None:
    """Start again where the clock stood, and play the story to its end."""
    now = int((folder / "clock").read_text())
    journal = SqliteJournal(folder / "incidents.db")
    # Patience is by the real clock, and the machine may be busy; slow disks have other tests.
    dispatcher = Dispatcher(config(), journal, lambda: 0.0, patience_s=60, start_patience_s=60)
    await dispatcher.start(now)
    await dispatcher.reconcile([fires(DOWN)] if now < CLEARS_AT_MS else [], [origin(DOWN)], now)
    await send(dispatcher, folder, now, lambda point: None)
    while now < CLEARS_AT_MS:
        now += MINUTE
        if now == CLEARS_AT_MS:
            await dispatcher.reconcile([], [origin(DOWN)], now)
        await dispatcher.due(now)
        await send(dispatcher, folder, now, lambda point: None)
    await dispatcher.due(now + HOUR)
    assert not dispatcher.working.incidents
    await dispatcher.close(now)


def test_everybody_is_told_at_least_once_and_hardly_ever_twice(deaths: Path) -> None:
    folders = sorted(deaths.iterdir())
    assert {folder.name.split("-")[0] for folder in folders} == set(POINTS)
    assert len(folders) > 40
    for folder in folders:
        asyncio.run(live_on(folder))
        lines = [line.split("\t") for line in (folder / "arrived").read_text().splitlines()]
        told = {(reason, who) for _, reason, who in lines}
        remarks = {one for one in told if one[0] == "slo_breach"}
        assert told - remarks == EVERYBODY, folder.name
        twice = {key for key, count in Counter(key for key, _, _ in lines).items() if count > 1}
        # only what was on its way at the moment of death may arrive a second time, with its key
        assert len(twice) <= (1 if folder.name.startswith(("after send", "b")) else 0), folder.name
        assert len({key for key, _, _ in lines}) == len(told), folder.name
