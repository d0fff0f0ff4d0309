"""What runs here, as Grafana and people ask for it."""

import os
import threading
from importlib.metadata import version
from typing import Any

from support.api_client import api_client
from tocsin_alerting.api.prometheus.status import RuntimeInfo, routes

STARTED_MS = 1_700_000_000_000
RUNNING = RuntimeInfo(
    about=lambda: {"journal": "up"},
    now_ms=lambda: STARTED_MS + 5_000,
    started_ms=STARTED_MS,
    flags={"log.level": "info"},
    config="version: 1\n",
    retention="15d or 2GiB",
    broken=lambda: 3,
)


async def status(name: str) -> Any:
    async with api_client(routes(RUNNING)) as client:
        return (await client.get(f"/api/v1/status/{name}")).json()["data"]


async def test_buildinfo_has_the_keys_of_prometheus_and_no_features() -> None:
    data = await status("buildinfo")
    wanted = {"version", "revision", "branch", "buildUser", "buildDate", "goVersion"}
    assert data.keys() == wanted
    assert data["version"] == version("tocsin")


async def test_runtimeinfo_tells_of_this_process() -> None:
    data = await status("runtimeinfo")
    assert data["startTime"] == data["lastConfigTime"] == "2023-11-14T22:13:20.000Z"
    assert data["serverTime"] == "2023-11-14T22:13:25.000Z"
    assert (data["CWD"], data["corruptionCount"]) == (os.getcwd(), 3)
    assert data["goroutineCount"] == threading.active_count()
    assert data["GOMAXPROCS"] == len(os.sched_getaffinity(0))
    assert data["storageRetention"] == "15d or 2GiB"


async def test_flags_and_configuration_are_those_that_hold() -> None:
    assert await status("flags") == {"log.level": "info"}
    assert await status("config") == {"yaml": "version: 1\n"}


async def test_what_the_agent_says_of_itself() -> None:
    assert await status("tocsin") == {"journal": "up"}
