"""What is watched and whether a worker is started: never memory taken from a service we protect."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from tocsin_alerting.incidents.changeset import EngineRow
from tocsin_alerting.local import discovery, ports, worker_process
from tocsin_alerting.local.discovery import LOOPBACK, KnownEngine, Origin, Owners, UntrustedServer
from tocsin_alerting.local.proxied_engines import behind_proxies, usual_port
from tocsin_exporter.engine_access import EngineAccess, place
from tocsin_exporter.listen import joined

NAMED = "an engine"  # what kind one is of which the configuration says only where


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """`engines` are watched; with `start_worker` ours is started, else `why_not` says why.

    `ports` are where engines were looked for, `reserved` the targets that are no engine's: the
    demo's port. `silent` are targets of engines that are expected and do not answer; `moved` says
    of a remembered target which engine it is now. `owners` are the users whose engines are found by
    themselves, None for everybody's; `strangers` are those of others, which are not read.
    """

    engines: tuple[KnownEngine, ...]
    start_worker: bool = False
    why_not: str = ""
    ports: tuple[int, ...] = ()
    reserved: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    moved: tuple[tuple[str, KnownEngine], ...] = ()
    owners: Owners = None
    untrusted: tuple[UntrustedServer, ...] = ()


async def make_plan(
    named: Sequence[EngineAccess],
    worker_wanted: bool,
    host: str,
    port: int,
    usual: Sequence[int],
    troubled: Collection[str] = (),
    remembered: Sequence[EngineRow] = (),
    owners: Owners = None,
) -> EnginePlan:
    """Engines that were named; else those that run here or did; else a worker on host:port.

    `host` and `port` are where our worker would listen, `usual` the ports where engines do. What
    answers on `port` is a demo, maybe another agent's, that leaves when it likes: it is no engine
    unless `usual` has that port too.
    `remembered` are those of earlier runs, and `troubled` targets of alerts that fired when the
    agent ended: one that is silent now is down, not gone, so it is watched, and no worker takes its
    memory. Our own among the latter is watched from the start, because people were told that it is
    down.
    """
    if named:
        return EnginePlan(tuple(KnownEngine(access, NAMED, Origin.CONFIGURED) for access in named))
    own = joined(host, port)
    reserved = () if port in usual else tuple({place(own), f"{LOOPBACK}:{port}"})
    rows = {row.target: row for row in remembered if place(row.target) not in reserved}
    local = [discovery.local_engine(access, owners) for access in usual]
    known = {access.target for access in local}
    there = [EngineAccess.of(row.url) for row in rows.values() if row.target not in known]
    renamed = _as_alerts_name(known, {*troubled} - rows.keys())
    others = [discovery.with_owners(access, owners) for access in (*there, *renamed)]
    found = await _found([*local, *others], owners, usual, reserved)
    probed = _one_per_place(found, {*rows, *troubled})
    answering = {place(engine.target) for engine in probed}
    moved = await moved_engines(
        [row for row in rows.values() if place(row.target) not in answering],
        [engine for engine in probed if engine.target not in rows],
    )
    moved |= _were_proxies(rows, probed)
    settled = {*answering, *map(place, moved)}
    lost = [row for row in rows.values() if place(row.target) not in settled]
    if lost:
        places = await discovery.other_places({*known, *answering, *reserved, own}, owners)
        further = await moved_engines(lost, await discovery.probe(places))
        probed, moved = [*probed, *further.values()], moved | further
    heard = {*answering, *reserved, place(own)}
    expected = {*rows, *troubled} - moved.keys()
    silent = sorted(target for target in expected if place(target) not in heard)
    engines = (
        *probed,
        *(_silent_engine(target, rows.get(target), owners) for target in silent),
    )
    strangers = await discovery.untrusted_servers([*local, *others])
    looked = EnginePlan(engines, ports=tuple(usual), reserved=reserved)
    looked = replace(looked, owners=owners, untrusted=strangers)
    if engines:
        return replace(looked, silent=tuple(silent), moved=tuple(moved.items()))
    why_not = _why_no_worker(worker_wanted, host, port)
    was_down = place(own) in map(place, troubled)
    waited_for = (demo_engine(f"http://{own}"),) if was_down and not why_not else ()
    return replace(looked, engines=waited_for, start_worker=not why_not, why_not=why_not)


async def _found(
    asked: Sequence[EngineAccess], owners: Owners, usual: Sequence[int], reserved: Sequence[str]
) -> list[KnownEngine]:
    """The engines at these places, with the proxies before them; none whose place is `reserved`."""
    found = await behind_proxies(await discovery.probe(asked), owners, usual_port(usual))
    return [engine for engine in found if place(engine.target) not in reserved]


async def moved_engines(
    silent: Iterable[EngineRow], new: Iterable[KnownEngine]
) -> dict[str, KnownEngine]:
    """Which silent engine is which new one: the same model on another port of the same host, and
    nobody listens on the old one."""
    moved: dict[str, KnownEngine] = {}
    left = list(new)
    for row in silent:
        others = (
            candidate
            for candidate in left
            if candidate.kind != discovery.OWN_WORKER or row.kind == discovery.OWN_WORKER
        )
        same = (candidate for candidate in others if row.model and candidate.model == row.model)
        engine = next(
            (candidate for candidate in same if _host(candidate.target) == _host(row.target)), None
        )
        if engine is not None and await discovery.is_vacant(EngineAccess.of(row.url)):
            moved[row.target] = engine
            left.remove(engine)
    return moved


def _were_proxies(rows: Iterable[str], probed: Iterable[KnownEngine]) -> dict[str, KnownEngine]:
    """Which target of `rows` is a proxy's, taken for an engine by an earlier version of ours."""
    behind = {place(engine.behind): engine for engine in probed if engine.behind}
    return {row: behind[place(row)] for row in rows if place(row) in behind}


def _as_alerts_name(known: Collection[str], troubled: Iterable[str]) -> list[EngineAccess]:
    """Engines of `known` by the names that alerts have for them, which end under that name only."""
    places = set(map(place, known))
    names = (target for target in troubled if target not in known and place(target) in places)
    return [EngineAccess.of(f"http://{name}") for name in names]


def _one_per_place(engines: Sequence[KnownEngine], expected: Collection[str]) -> list[KnownEngine]:
    """One of each place: by the name that people were told, if there is one."""
    chosen: dict[str, KnownEngine] = {}
    for engine in engines:
        first = chosen.setdefault(place(engine.target), engine)
        if engine.target in expected and first.target not in expected:
            chosen[place(engine.target)] = engine
    return list(chosen.values())


def demo_engine(url: str) -> KnownEngine:
    """Our own worker; whoever else has taken its port is not it."""
    ours = discovery.with_owners(EngineAccess.of(url), ports.trusted_users(frozenset(), {}))
    return KnownEngine(ours, "a demo worker", Origin.DEMO)


def _host(target: str) -> str:
    return place(target).partition("/")[0].rpartition(":")[0]


def _silent_engine(target: str, row: EngineRow | None, owners: Owners) -> KnownEngine:
    url, kind, model = (row.url, row.kind, row.model) if row else (f"http://{target}", "", "")
    description = f"{kind or 'an engine'} seen before"
    access = replace(discovery.with_owners(EngineAccess.of(url), owners), expected=True)
    return KnownEngine(access, description, Origin.REMEMBERED, model)


def _why_no_worker(wanted: bool, host: str, port: int) -> str:
    if not wanted:
        return "off"
    if not worker_process.installed():
        return worker_process.NO_TORCH
    try:
        free = ports.is_free(host, port)
    except OSError as error:
        return f"it cannot listen on {host}: {error.strerror}"
    if not free:
        return f"port {port} is in use by {ports.port_owner(port)}; free it or set worker.port"
    return ""
