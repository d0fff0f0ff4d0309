"""The engines under watch, our own worker among them if there is one, and the load on the first."""

import asyncio
import logging
import os
import random
from collections.abc import Callable, Mapping

from tocsin_alerting.box.discovery import engines
from tocsin_alerting.box.load import Load
from tocsin_alerting.box.plan import Plan
from tocsin_alerting.box.worker import Worker, WorkerState
from tocsin_alerting.http import httpx
from tocsin_exporter.engine_access import EngineAccess

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 30.0
_ASK_SECONDS = 0.5


class Engines:
    """`watch(access)` begins to watch one; each target is begun once.

    Our own worker is watched from its first answer on, since loading a model is not an outage; or
    when it was given up, which is one. Where nothing was named, engines that start later are found.
    """

    def __init__(
        self,
        plan: Plan,
        worker: Worker | None,
        worker_url: str,
        watch: Callable[[EngineAccess], None],
    ) -> None:
        self.watched: dict[str, EngineAccess] = {}
        self.worker = worker
        self.load: Load | None = None
        self._worker_url = worker_url
        self._ports = plan.ports
        self._watch = watch
        self._first = asyncio.Event()
        for engine in plan.engines:
            self._begin(engine.access)

    async def run(
        self, look_again: bool, load_rps: float | None, env: Mapping[str, str] = os.environ
    ) -> None:
        """Until cancelled: supervise the worker, look for engines, and put load on the first.

        The first of `env`'s API_KEYS goes to the worker that this environment sets up, to no other.
        """
        async with asyncio.TaskGroup() as group:
            if self.worker is not None:
                group.create_task(self.worker.run())
                group.create_task(self._await_worker(self.worker))
            elif look_again:
                group.create_task(self._look_again())
            if load_rps is not None:
                group.create_task(self._drive(load_rps, env.get("API_KEYS", "")))

    @property
    def urls(self) -> list[str]:
        """Where the engines are, without users and keys."""
        return [access.url for access in self.watched.values()]

    def _begin(self, access: EngineAccess) -> None:
        if access.target not in self.watched:
            self.watched[access.target] = access
            self._watch(access)
            self._first.set()

    async def _await_worker(self, worker: Worker) -> None:
        async with httpx.AsyncClient(timeout=_ASK_SECONDS, trust_env=False) as client:
            while worker.state is not WorkerState.GIVEN_UP:
                if await _healthy(client, self._worker_url):
                    break
                await asyncio.sleep(_ASK_SECONDS)
        self._begin(EngineAccess.of(self._worker_url))

    async def _look_again(self) -> None:
        while not self.watched:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            for engine in await engines(self._ports):
                log.info("found an engine", extra={"engine": engine.kind, "url": engine.url})
                self._begin(engine.access)

    async def _drive(self, rps: float, keys: str) -> None:
        await self._first.wait()
        url = self.urls[0]
        given = [key.strip() for key in keys.split(",") if key.strip()]
        key = given[0] if given and url == self._worker_url else None
        self.load = Load(url, rps, random.Random(), _complain(), key)
        await self.load.run()


def _complain() -> Callable[[str], None]:
    """Says each kind of error once: a dead engine would fill the log with one line."""
    said: set[str] = set()

    def complain(kind: str) -> None:
        if kind not in said:
            said.add(kind)
            log.warning("a request of the load generator failed", extra={"error": kind})

    return complain


async def _healthy(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url + "/health")).status_code == 200
    except (httpx.HTTPError, OSError):
        return False
