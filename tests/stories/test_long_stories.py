"""The stories that are mostly waiting are told side by side; each is a test of its own."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from stories.crashes import killed_again_and_again
from stories.engine_dies import engine_dies
from stories.exporter_dies import exporter_dies
from stories.prometheus_hour import beside_a_prometheus
from stories.unreachable import away_for_a_while, gone_for_good

Told = Callable[[Path, asyncio.Barrier], Awaitable[list[str]]]
STORIES: Mapping[str, tuple[Told, list[str]]] = {
    "the engine is killed": (
        partial(engine_dies, signal.SIGKILL),
        ["escalated", "acked", "resolved"],
    ),
    "the engine is stopped": (
        partial(engine_dies, signal.SIGSTOP),
        ["escalated", "acked", "resolved"],
    ),
    "the agent is killed again and again": (
        killed_again_and_again,
        ["opened", "escalated", "escalated"],
    ),
    "the exporter is killed under a Prometheus": (
        exporter_dies,
        ["InferenceEngineDown", "TocsinDown"],
    ),
    "the agent beside a Prometheus": (beside_a_prometheus, []),
    "a receiver is away for a while": (away_for_a_while, ["opened"]),
    "a receiver is gone for good": (gone_for_good, ["unreachable"]),
}
"""Each is given its folder, and waits for the others when everything of its own runs; what it
ends with: the messages of whom it is about, or the alerts that fire."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def telling(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[str, asyncio.Future[list[str]]]]:
    """The stories that are to be told in this run, begun at once."""
    asked = {item.name for item in request.session.items}
    chosen = {name: told for name, (told, _) in STORIES.items() if f"test_told[{name}]" in asked}
    together = asyncio.Barrier(len(chosen))
    tasks = {
        name: asyncio.ensure_future(told(tmp_path_factory.mktemp("story"), together))
        for name, told in chosen.items()
    }
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", STORIES)
async def test_told(name: str, telling: Mapping[str, asyncio.Future[list[str]]]) -> None:
    assert await telling[name] == STORIES[name][1]
