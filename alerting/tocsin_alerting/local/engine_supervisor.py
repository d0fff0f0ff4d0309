"""The engines under watch, our own worker among them if there is one, and the load on the first."""

import asyncio
import logging
import os
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tocsin_alerting.http import engine_lookup, httpx, looking_up, status_of
from tocsin_alerting.incidents.changeset import EngineRow
from tocsin_alerting.local import discovery
from tocsin_alerting.local.discovery import KnownEngine, Origin, Owners
from tocsin_alerting.local.engine_plan import NAMED, EnginePlan, demo_engine, moved_engines
from tocsin_alerting.local.load_generator import LoadGenerator
from tocsin_alerting.local.proxied_engines import behind_proxies, usual_port
from tocsin_alerting.local.worker_process import WorkerProcess, WorkerState
from tocsin_exporter.engine_access import EngineAccess, place

log = logging.getLogger(__name__)
T = TypeVar("T")

DISCOVERY_SECONDS = 20.0  # while nothing answers, something is silent, or the demo worker runs
SLOW_DISCOVERY_SECONDS = 300.0
EXPECTED_AFTER_SECONDS = 600.0  # an engine that has answered so long is remembered
NOTE_SECONDS = 15.0
STORE_SECONDS = 10.0
WORKER_GRACE_SECONDS = 3.0
_ASK_SECONDS = 0.5
_AFTER_FAULT_SECONDS = 2.0
_SAY_AGAIN_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class EngineHooks:
    """What the engines are watched and remembered with. `answers` says of a target whether it did
    when it was last read, `answered` for how many seconds it did of late, in earlier runs too;
    `rewatch` reads one that is watched in another way from now on, and `unwatch` may be told a
    target that is not watched."""

    watch: Callable[[EngineAccess], None]
    rewatch: Callable[[EngineAccess], None]
    unwatch: Callable[[str], None]
    answers: Callable[[str], bool]
    remember: Callable[[EngineRow], Awaitable[None]]
    forget: Callable[[str], Awaitable[None]]
    now_ms: Callable[[], int]
    answered: Callable[[str], Awaitable[float]]


class EngineSupervisor:
    """Each target is watched once, however its host is written.

    Our own worker is watched from its first answer on, since loading a model is not an outage; or
    when it was given up, which is one. Where nothing was named, engines that start later are found,
    and the worker ends when one is: nobody asked for it.
    """

    def __init__(
        self, plan: EnginePlan, worker: WorkerProcess | None, worker_url: str, hooks: EngineHooks
    ) -> None:
        self.watched: dict[str, KnownEngine] = {}
        self.worker = worker
        self.load: LoadGenerator | None = None
        self._load_task: asyncio.Task[None] | None = None
        self._demo = demo_engine(worker_url) if worker_url else None
        self._ports = plan.ports
        self._reserved = plan.reserved
        self._owners = plan.owners
        self._warned = {(server.url, server.user) for server in plan.untrusted}
        self._moved = dict(plan.moved)
        self._hooks = hooks
        self._answered: dict[str, float] = {}  # seconds, by target
        self._first = asyncio.Event()
        for engine in plan.engines:
            self._watch(engine)

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
            if look_again:
                group.create_task(self._discover_again())
                group.create_task(self._note_again())
            if load_rps is not None:
                self._load_task = group.create_task(
                    self._run_load(load_rps, env.get("API_KEYS", ""))
                )

    @property
    def urls(self) -> list[str]:
        """Where the engines are, without users and keys."""
        return [engine.url for engine in self.watched.values()]

    async def discover(self) -> None:
        """Watch what has started since, and let the demo worker go if that is an engine."""
        places = [discovery.local_engine(port, self._owners) for port in self._ports]
        ours = [self._demo.target] if self._demo and self.worker else []
        known = set(map(place, [*self.watched, *ours]))
        new = [access for access in places if place(access.target) not in known]
        port = usual_port(self._ports)
        found = await behind_proxies(await discovery.probe(new), self._owners, port)
        self._attach_proxies(found)
        engines = [e for e in found if place(e.target) not in {*known, *self._reserved}]
        await self._warn_of_untrusted(new)
        silent = [_row(engine, 0) for engine in self.watched.values() if self._is_lost(engine)]
        moved = {
            engine.target: old for old, engine in (await moved_engines(silent, engines)).items()
        }
        for engine in engines:
            log.info("engine found", extra={"engine": engine.kind, "url": engine.url})
            self._watch(engine)
            if engine.target in moved:
                await self._move(moved[engine.target], engine)
        if engines and self.worker is not None:
            await self._stop_worker(self.worker)
        await self._follow_lost()

    def _attach_proxies(self, found: Iterable[KnownEngine]) -> None:
        """A proxy that has come to stand before an engine that was found by itself is read, too."""
        proxies = {place(engine.target): engine.access.proxy for engine in found}
        for target, engine in list(self.watched.items()):
            proxy = proxies.get(place(target))
            if proxy and not engine.access.proxy and engine.origin is not Origin.CONFIGURED:
                log.info("proxy found", extra={"engine": target, "proxy": proxy.url})
                access = replace(engine.access, proxy=proxy)
                self.watched[target] = replace(engine, access=access)
                self._hooks.rewatch(access)

    async def _warn_of_untrusted(self, asked: Iterable[EngineAccess]) -> None:
        """Once of each: one that is let in later is found the next time we start."""
        for server in await discovery.untrusted_servers(asked):
            if (server.url, server.user) not in self._warned:
                self._warned.add((server.url, server.user))
                log.warning("engine not read: its user is not in discovery.allow_users",
                            extra={"url": server.url, "user": server.user})  # fmt: skip

    async def _follow_lost(self) -> None:
        """Follow an engine that is lost to any port on which an engine's program listens."""
        lost = [_row(engine, 0) for engine in self.watched.values() if self._is_lost(engine)]
        if not any(row.model for row in lost):
            return
        places = await discovery.other_places({*self.watched, *self._reserved}, self._owners)
        for old, engine in (await moved_engines(lost, await discovery.probe(places))).items():
            self._watch(engine)
            await self._move(old, engine)

    async def note(self, seconds: float) -> None:
        """`seconds` have passed: remember the engines that have answered for long enough."""
        for old, engine in list(self._moved.items()):
            await self._move(old, engine)
            del self._moved[old]
        for target, engine in list(self.watched.items()):
            if engine.origin not in (Origin.FOUND, Origin.REMEMBERED):
                continue
            if target not in self._answered:
                self._answered[target] = await self._answered_before(target)
            if target in self.watched and self._hooks.answers(target):
                self._answered[target] += seconds
                if self._answered[target] >= EXPECTED_AFTER_SECONDS:
                    self._answered[target] = 0.0
                    await self._remember(engine)

    async def _answered_before(self, target: str) -> float:
        """Short runs of ours count together. A disk that hangs, or old samples that cannot be read,
        cost an engine what it answered before."""
        try:
            async with asyncio.timeout(STORE_SECONDS):
                return await self._hooks.answered(target)
        except Exception:  # why: see above
            log.exception(
                "failed to restore how long the engine answered; counting from now",
                extra={"engine": target},
            )
            return 0.0

    async def configure(self, named: Sequence[EngineAccess]) -> None:
        """These are named now: what was named before and is no more is watched no longer."""
        wanted = {access.target: access for access in named}
        for target, engine in list(self.watched.items()):
            if engine.origin is Origin.CONFIGURED and target not in wanted:
                await self._unwatch(target)
        for target, access in wanted.items():
            known = self.watched.get(target)
            if known is None:
                self._watch(KnownEngine(access, NAMED, Origin.CONFIGURED))
            elif known.access != access:
                self.watched[target] = replace(known, access=access)
                self._hooks.rewatch(access)

    def trust(self, owners: Owners) -> None:
        """Engines of these users are found by themselves from now on."""
        if owners != self._owners:
            self._owners = owners
            self._warned.clear()

    async def forget(self, target: str) -> str:
        """Watch it no longer, and do not expect it after a restart. Why it stays, "" if it does
        not. Raises KeyError for one that is not watched."""
        engine = self.watched.get(target)
        if engine is None:
            raise KeyError(target)
        if engine.origin is Origin.CONFIGURED:
            return f"{target} is in the configuration; remove it there"
        if engine.origin is Origin.DEMO:
            return f"{target} is the demo worker; turn it off with worker.enabled"
        await self._unwatch(target)
        return ""

    def _watch(self, engine: KnownEngine) -> None:
        if place(engine.target) not in map(place, self.watched):
            self.watched[engine.target] = engine
            self._hooks.watch(engine.access)
            self._first.set()

    async def _unwatch(self, target: str) -> None:
        self.watched.pop(target, None)
        self._hooks.unwatch(target)
        self._answered.pop(target, None)
        await self._hooks.forget(target)

    def _is_lost(self, engine: KnownEngine) -> bool:
        """Whether it may be somewhere else by now: nobody said where it must be."""
        by_itself = engine.origin in (Origin.FOUND, Origin.REMEMBERED)
        return by_itself and not self._hooks.answers(engine.target)

    async def _move(self, old: str, engine: KnownEngine) -> None:
        log.warning("engine moved", extra={"was": old, "is": engine.target})
        await self._unwatch(old)
        await self._hooks.remember(_row(engine, self._hooks.now_ms()))

    async def _remember(self, engine: KnownEngine) -> None:
        """With what it serves now, which is how it is known when it moves."""
        engines = await discovery.probe([engine.access])
        if engine.target not in self.watched:
            return  # forgotten meanwhile
        now = engines[0] if engines else engine
        self.watched[engine.target] = replace(now, origin=engine.origin)
        await self._hooks.remember(_row(now, self._hooks.now_ms()))

    async def _stop_worker(self, worker: WorkerProcess) -> None:
        """Its place is an engine's now; the load, which was for it, ends as well."""
        log.info("engine found; stopping the demo worker", extra={"pid": worker.pid})
        self.worker = None
        if self._demo is not None and self._demo.target in self.watched:
            await self._unwatch(self._demo.target)
        if self._load_task is not None:
            self._load_task.cancel()
        await worker.stop(WORKER_GRACE_SECONDS)

    async def _await_worker(self, worker: WorkerProcess) -> None:
        assert self._demo is not None
        plain = httpx.AsyncClient(timeout=_ASK_SECONDS, trust_env=False)
        attempts = _Attempts()
        async with looking_up(plain, engine_lookup(self._demo.url)) as client:
            while worker.state is not WorkerState.GIVEN_UP:
                if await attempts.result(_worker_answers(client, self._demo.access)):
                    break
                await asyncio.sleep(_AFTER_FAULT_SECONDS if attempts.failing else _ASK_SECONDS)
                if self.worker is not worker:
                    return
        if self.worker is worker:
            self._watch(self._demo)

    async def _discover_again(self) -> None:
        attempts = _Attempts()
        while True:
            waiting = self.worker is not None or not self.watched
            soon = waiting or any(map(self._is_lost, self.watched.values()))
            await asyncio.sleep(DISCOVERY_SECONDS if soon else SLOW_DISCOVERY_SECONDS)
            await attempts.result(self.discover())

    async def _note_again(self) -> None:
        attempts = _Attempts()
        await attempts.result(self.note(0.0))
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            await attempts.result(self.note(NOTE_SECONDS))

    async def _run_load(self, rps: float, keys: str) -> None:
        await self._first.wait()
        engine = next(iter(self.watched.values()))
        headers = dict(engine.access.authorization())
        given = [key.strip() for key in keys.split(",") if key.strip()]
        if given and self._demo and engine.url == self._demo.url:
            headers["Authorization"] = f"Bearer {given[0]}"
        self.load = LoadGenerator(engine.url, rps, random.Random(), _log_once(), headers)
        await self.load.run()


class _Attempts:
    """Work that is tried again and again. A fault is logged when it begins, when its type changes,
    and then every 10 minutes: a traceback twice a second would fill the log."""

    def __init__(self) -> None:
        self._fault: type[Exception] | None = None
        self._say_again_s = 0.0

    @property
    def failing(self) -> bool:
        return self._fault is not None

    async def result(self, work: Awaitable[T]) -> T | None:
        """None when it fails, whatever happens."""
        try:
            done = await work
        except Exception as error:  # why: a fault here must not end the worker, nor the looking
            now_s = asyncio.get_running_loop().time()
            if type(error) is not self._fault or now_s >= self._say_again_s:
                log.exception("engine discovery failed, retrying")
                self._say_again_s = now_s + _SAY_AGAIN_SECONDS
            self._fault = type(error)
            return None
        self._fault = None
        return done


def _row(engine: KnownEngine, now_ms: int) -> EngineRow:
    return EngineRow(engine.target, engine.url, engine.kind, engine.model, now_ms)


def _log_once() -> Callable[[str], None]:
    """Says each kind of error once: a dead engine would fill the log with one line."""
    logged: set[str] = set()

    def complain(kind: str) -> None:
        if kind not in logged:
            logged.add(kind)
            log.warning("load generator request failed", extra={"error": kind})

    return complain


async def _worker_answers(client: httpx.AsyncClient, demo: EngineAccess) -> bool:
    """Whether our worker does, and nobody else in its place."""
    if await demo.strangers():
        return False
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            return await status_of(client, demo.url + "/health") == 200
    except (TimeoutError, httpx.HTTPError, OSError):
        return False
